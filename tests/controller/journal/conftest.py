"""Every journal that there is, and events to put into them."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lrpilot_controller.journal import Journal, MemoryJournal, SqlJournal


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "storage" / "journal.db"


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def journal(request: pytest.FixtureRequest, database: Path) -> Iterator[Journal]:
    make: dict[str, Callable[[], Journal]] = {
        "memory": MemoryJournal,
        "sqlite": lambda: SqlJournal.open(database),
        "postgresql": lambda: SqlJournal.open(request.getfixturevalue("postgres_url")),
    }
    opened = make[request.param]()
    yield opened
    opened.close()
