"""A journal of an older version is read and replayed; `tests/e2e/test_old_journal.py` goes on.

`old/README.md` says how the file was made.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lrpilot_controller.config import Config
from lrpilot_controller.core.events import Decided
from lrpilot_controller.journal import RunKey, SqlJournal
from lrpilot_controller.story import story_of, summaries
from lrpilot_controller.story.replay import check, compare

OLD = Path(__file__).parent / "old"
TOLD: dict[str, dict[str, Any]] = json.loads((OLD / "before_signals.json").read_text())


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    shutil.copy(OLD / "before_signals.db", tmp_path / "journal.db")
    return tmp_path


@pytest.fixture
def journal(storage: Path) -> Iterator[SqlJournal]:
    opened = SqlJournal.open(storage / "journal.db", readonly=True)
    yield opened
    opened.close()


def missing(then: Any, now: Any, where: str = "") -> list[str]:
    """Where `now` says something else than `then`; what it says beyond that is no difference."""
    if isinstance(then, dict) and isinstance(now, dict):
        pairs = [(f"{where}.{key}", then[key], now.get(key, "nothing")) for key in then]
    elif isinstance(then, list) and isinstance(now, list) and len(then) == len(now):
        pairs = [(f"{where}[{i}]", *pair) for i, pair in enumerate(zip(then, now, strict=True))]
    else:
        return [] if then == now else [f"{where}: {then!r}, now {now!r}"]
    return [found for place, *pair in pairs for found in missing(*pair, place)]


def test_the_story_of_each_run_is_what_it_was(journal: SqlJournal) -> None:
    told = {run: story_of(journal, f"old/{run}").to_json() for run in TOLD}
    assert [one.run.name for one in summaries(journal, "old")] == list(TOLD)
    assert missing(TOLD, told) == []


@pytest.mark.parametrize("run", TOLD)
def test_each_run_can_be_replayed_whatever_another_version_decides(
    journal: SqlJournal, run: str
) -> None:
    key = RunKey("old", run)
    records = list(journal.records(key))
    found = check(key, records)
    assert found.records == len(records)
    assert found.outputs["decision"] == len(TOLD[run]["decisions"])
    rows = compare(key, records, Config())
    assert sum(isinstance(row.recorded, Decided) for row in rows) == found.outputs["decision"]


def test_the_story_of_a_thinned_run_is_what_it_was(tmp_path: Path) -> None:
    told: dict[str, Any] = json.loads((OLD / "long_runs.json").read_text())
    path = Path(shutil.copy(OLD / "long_runs.db", tmp_path / "journal.db"))
    journal = SqlJournal.open(path, readonly=True)
    assert missing(told, {run: story_of(journal, run).to_json() for run in told}) == []
    journal.close()
    assert told["thinned"]["telemetry"]["thinned"] == 4501
