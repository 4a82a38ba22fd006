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
from lrpilot_controller.journal import Checkpoint, RunKey, SqlJournal, migrations, tables
from lrpilot_controller.journal.codec import Row, encode

FILES = Path(__file__).parent / "old"  # its README.md says how each was made
OLD = {1: FILES / "before_signals.db", 2: FILES / "long_runs.db"}
RUNS = {1: RunKey("old", "guarded"), 2: RunKey("old", "thinned")}
RUN = RUNS[1]
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


Kept = dict[RunKey, list[tuple[int, float, Row]]]
"""Records with their events as bytes: a NaN is not equal to itself."""


def records_of(journal: SqlJournal) -> Kept:
    return {
        key: [(r.n, r.at, encode(r.event)) for r in journal.records(key)] for key in journal.runs()
    }


def records_in(path: Path) -> Kept:
    journal = SqlJournal.open(path, readonly=True)
    try:
        return records_of(journal)
    finally:
        journal.close()


def test_a_file_of_every_version_is_kept() -> None:
    assert {version_of(path): number for number, path in OLD.items()} == {n: n for n in OLD}
    assert set(OLD) == set(range(1, tables.SCHEMA_VERSION + 1))
    assert set(migrations.STEPS) == set(range(1, tables.SCHEMA_VERSION))


def test_reading_leaves_it_as_it_is(old: Path, version: int) -> None:
    before = old.read_bytes()
    assert all(records_in(old).values())
    journal = SqlJournal.open(old, readonly=True)
    assert (journal.checkpoint(RUNS[version]) is None) == (version < 2)
    assert len(journal.last_seen()) == len(journal.runs())
    journal.close()
    assert old.read_bytes() == before


def test_it_is_migrated_with_the_same_records_and_appended_to(old: Path, version: int) -> None:
    run, before = RUNS[version], records_in(old)
    journal = SqlJournal.open(old)
    assert version_of(old) == tables.SCHEMA_VERSION
    assert records_of(journal) == before
    last, _, _ = before[run][-1]
    assert journal.append([(run, 7.0, LOST)]) == [last + 1]
    journal.save_checkpoint(run, last + 1, "state")
    journal.close()
    assert records_in(old) == before | {run: [*before[run], (last + 1, 7.0, encode(LOST))]}
    reader = SqlJournal.open(old, readonly=True)
    assert reader.checkpoint(run) == Checkpoint(last + 1, 7.0, "state")
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
    assert journal.append([(RUN, 7.0, LOST)]) == [before[RUN][-1][0] + 1]
    journal.close()
    assert version_of(old) == tables.SCHEMA_VERSION
