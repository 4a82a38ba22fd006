"""A journal of an older version becomes one of this version, or stays as it was."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

import lrpilot_controller
from lrpilot_controller.core.events import SessionLost
from lrpilot_controller.journal import Checkpoint, Record, RunKey, SqlJournal, migrations, tables

OLD = {1: Path(__file__).parent / "old" / "before_signals.db"}  # `old/README.md` says how made
RUN = RunKey("old", "guarded")
LOST = SessionLost("t1")


@pytest.fixture(params=OLD)
def version(request: pytest.FixtureRequest) -> int:
    number: int = request.param
    return number


@pytest.fixture
def old(version: int, tmp_path: Path) -> Path:
    return Path(shutil.copy(OLD[version], tmp_path / "journal.db"))


def version_of(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("SELECT schema_version FROM meta").fetchone()[0])


def records_in(path: Path) -> dict[RunKey, list[Record]]:
    journal = SqlJournal.open(path, readonly=True)
    try:
        return {key: list(journal.records(key)) for key in journal.runs()}
    finally:
        journal.close()


def test_a_file_of_every_version_is_kept() -> None:
    assert {number: version_of(path) for number, path in OLD.items()} == {n: n for n in OLD}
    assert set(OLD) >= set(migrations.STEPS)
    assert max(migrations.STEPS) + 1 == tables.SCHEMA_VERSION


def test_reading_leaves_it_as_it_is(old: Path, version: int) -> None:
    before = old.read_bytes()
    assert all(records_in(old).values())
    journal = SqlJournal.open(old, readonly=True)
    assert journal.checkpoint(RUN) is None
    journal.close()
    assert old.read_bytes() == before


def test_it_is_migrated_with_the_same_records_and_appended_to(old: Path) -> None:
    before = records_in(old)
    journal = SqlJournal.open(old)
    assert version_of(old) == tables.SCHEMA_VERSION
    assert {key: list(journal.records(key)) for key in journal.runs()} == before
    last = before[RUN][-1].n
    assert journal.append([(RUN, 7.0, LOST)]) == [last + 1]
    journal.save_checkpoint(RUN, last + 1, "state")
    journal.close()
    assert records_in(old) == before | {RUN: [*before[RUN], Record(last + 1, 7.0, LOST)]}
    reader = SqlJournal.open(old, readonly=True)
    assert reader.checkpoint(RUN) == Checkpoint(last + 1, 7.0, "state")
    reader.close()


def test_it_has_the_tables_that_a_new_one_has(old: Path, tmp_path: Path) -> None:
    for path in (old, tmp_path / "new.db"):
        SqlJournal.open(path).close()
    assert shape(old) == shape(tmp_path / "new.db")


def shape(path: Path) -> list[tuple[str, ...]]:
    """Every table's columns and every index, as SQLite tells them."""
    with closing(sqlite3.connect(path)) as connection:
        names = connection.execute("SELECT type, name FROM sqlite_schema ORDER BY name").fetchall()
        return [
            (name, *map(str, row))
            for kind, name in names
            for row in connection.execute(f"PRAGMA {kind}_info({name})")
        ]


DIE = """
import os, signal, sys
from lrpilot_controller.journal import SqlJournal, migrations, opening

die = lambda: os.kill(os.getpid(), signal.SIGKILL)
steps = dict(migrations.STEPS)

def within(connection):
    steps[1](connection)
    connection.exec_driver_sql("CREATE TABLE half_way (x)")
    die()

taken = migrations.step

def between(connection):
    return taken(connection) or die()

if sys.argv[2] == "within a step":
    migrations.STEPS = {1: within}
else:
    migrations.step = between
SqlJournal.open(sys.argv[1])
"""


@pytest.mark.parametrize(("when", "left"), [("within a step", 1), ("after the last step", 2)])
def test_a_migration_that_is_killed_leaves_the_old_version_or_the_new(
    when: str, left: int, tmp_path: Path
) -> None:
    old = Path(shutil.copy(OLD[1], tmp_path / "journal.db"))
    before = records_in(old)
    root = Path(lrpilot_controller.__file__).parent.parent
    died = subprocess.run(
        [sys.executable, "-c", DIE, str(old), when],
        env={**os.environ, "PYTHONPATH": str(root)},
        timeout=60,
        check=False,
    )
    assert died.returncode == -signal.SIGKILL
    assert version_of(old) == left
    assert "half_way" not in {name for name, *_ in shape(old)}
    assert records_in(old) == before
    journal = SqlJournal.open(old)  # by the next daemon
    assert journal.append([(RUN, 7.0, LOST)]) == [before[RUN][-1].n + 1]
    journal.close()
    assert version_of(old) == tables.SCHEMA_VERSION
