"""The journal on disk: who may read it, what survives, what is refused."""

import contextlib
import os
import resource
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateTable

import lrpilot_controller
from lrpilot_controller.core.events import SessionLost
from lrpilot_controller.core.telemetry import Samples
from lrpilot_controller.errors import JournalError, JournalUnavailable, JournalVersionError
from lrpilot_controller.journal import (
    JournalCorrupt,
    JournalMissing,
    JournalSuperseded,
    RunKey,
    SqlJournal,
    tables,
)

RUN = RunKey("demo", "a")
LOST = SessionLost("t1")
NOBODY = 65534


def write(database: Path, count: int = 3) -> None:
    journal = SqlJournal.open(database)
    journal.append([(RUN, 0.0, LOST)] * count)
    journal.close()


def edit(database: Path, *statements: str) -> None:
    """What another program or a newer version may have done to the file."""
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def count(journal: SqlJournal) -> int:
    return sum(1 for _ in journal.records(RUN))


@contextlib.contextmanager
def unprivileged() -> Iterator[None]:
    """Permissions say nothing to root, who may run these tests in a container."""
    if os.geteuid():
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def shared() -> Iterator[Path]:
    """A directory that anyone may enter: pytest's own are closed to `unprivileged`."""
    path = Path(tempfile.mkdtemp())
    path.chmod(0o755)
    yield path
    path.chmod(0o755)
    shutil.rmtree(path)


def test_a_generation_that_was_raised_is_kept_and_only_the_newest_daemon_raises_it(
    database: Path,
) -> None:
    old = SqlJournal.open(database)
    old.outgrow(41)
    new = SqlJournal.open(database)
    assert new.generation == 43
    with pytest.raises(JournalSuperseded, match=r"generation 43, this one is 42"):
        old.outgrow(99)
    new.close()
    old.close()


def test_reopening_counts_generations_and_keeps_records(database: Path) -> None:
    for generation in (1, 2, 3):
        journal = SqlJournal.open(database)
        assert journal.generation == generation
        assert journal.append([(RUN, 0.0, LOST)]) == [generation]
        journal.close()


def test_urls(database: Path) -> None:
    database.parent.mkdir()
    journal = SqlJournal.open(f"sqlite:///{database}")
    assert journal.place.name == str(database)
    journal.close()


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("mysql://me:secret@host/db", "cannot be kept in 'mysql', only in SQLite or PostgreSQL"),
        ("sqlite://", "must name a file"),
        ("sqlite:///:memory:", "must name a file"),
        ("://", "malformed"),
        ("postgresql://me:secret@host:port/db", "malformed"),
    ],
)
def test_urls_that_cannot_be_used(url: str, problem: str) -> None:
    with pytest.raises(JournalError, match=problem):
        SqlJournal.open(url)


def test_odd_characters_in_the_path(tmp_path: Path) -> None:
    database = tmp_path / "a b?c#d%20é" / "journal.db"
    write(database)
    assert database.exists()
    reader = SqlJournal.open(database, readonly=True)
    assert count(reader) == 3
    reader.close()


def test_only_the_owner_may_read(database: Path) -> None:
    old = os.umask(0)
    try:
        journal = SqlJournal.open(database)
        journal.append([(RUN, 0.0, LOST)])
    finally:
        os.umask(old)
    names = {path.name for path in database.parent.iterdir()}
    assert names == {"journal.db", "journal.db-wal", "journal.db-shm"}
    for path in database.parent.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(database.parent.stat().st_mode) == 0o700
    journal.close()


def test_write_ahead_log_and_no_sync_per_commit(database: Path) -> None:
    journal = SqlJournal.open(database)
    with journal._lines.reader.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 1
    journal.close()


def test_reads_are_served_by_indexes(database: Path) -> None:
    journal = SqlJournal.open(database)
    statements = {
        "sqlite_autoindex_events_1": "n > 5 AND n <= 9 ORDER BY n",
        "events_by_kind": "kind = 'x' AND n > 5 AND n <= 9 ORDER BY n",
    }
    for index, condition in statements.items():
        query = f"SELECT payload FROM events WHERE run_id = 1 AND {condition}"
        with journal._lines.reader.connect() as connection:
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {query}")
            details = " ".join(row[3] for row in plan)
        assert index in details
        assert "TEMP B-TREE" not in details
    journal.close()


def test_the_tables_are_generic() -> None:
    dialect: Any = postgresql.dialect
    for table in tables.metadata.sorted_tables:
        assert str(CreateTable(table).compile(dialect=dialect()))


def test_a_reader_beside_the_writer(database: Path) -> None:
    writer = SqlJournal.open(database)
    reader = SqlJournal.open(database, readonly=True, timeout=0.1)
    for number in range(1, 6):
        writer.append([(RUN, 0.0, LOST)])
        assert count(reader) == number
    # Neither waits for the other, even within a transaction.
    with writer._lines.writer.begin() as connection:  # type: ignore[union-attr]
        connection.exec_driver_sql("UPDATE meta SET generation = generation")
        assert count(reader) == 5
    reading = reader.records(RUN)
    next(reading)
    writer.append([(RUN, 0.0, LOST)])
    assert sum(1 for _ in reading) == 4
    assert reader.generation == writer.generation == 1
    reader.close()
    writer.close()


def test_reading_changes_nothing(database: Path) -> None:
    with pytest.raises(JournalMissing, match="no journal at"):
        SqlJournal.open(database, readonly=True)
    assert not database.parent.exists()
    write(database)
    before = database.read_bytes()
    reader = SqlJournal.open(database, readonly=True)
    assert reader.runs() == [RUN]
    with pytest.raises(JournalError, match="read-only"):
        reader.append([(RUN, 0.0, LOST)])
    reader.close()
    assert database.read_bytes() == before


def test_an_empty_file_is_a_journal_to_be(database: Path) -> None:
    database.parent.mkdir()
    database.touch()
    with pytest.raises(JournalMissing, match="empty"):
        SqlJournal.open(database, readonly=True)
    write(database)


@pytest.mark.parametrize("readonly", [False, True])
def test_a_newer_schema_is_refused(database: Path, readonly: bool) -> None:
    write(database)
    edit(database, "UPDATE meta SET schema_version = 7", "DROP TABLE runs")
    with pytest.raises(JournalVersionError, match=r"version 7.*up to 2.*upgrade"):
        SqlJournal.open(database, readonly=readonly)


@pytest.mark.parametrize("readonly", [False, True])
def test_not_a_database(database: Path, readonly: bool) -> None:
    database.parent.mkdir()
    database.write_text("not a database, but long enough to be taken for one " * 20)
    with pytest.raises(JournalCorrupt, match=rf"{database} is not an SQLite database"):
        SqlJournal.open(database, readonly=readonly)


@pytest.mark.parametrize("table", ["studies (id)", "meta (other)"])
def test_another_programs_database_is_left_alone(database: Path, table: str) -> None:
    database.parent.mkdir()
    edit(database, f"CREATE TABLE {table}")
    before = database.read_bytes()
    with pytest.raises(JournalCorrupt, match=r"not a journal"):
        SqlJournal.open(database)
    assert database.read_bytes() == before


def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(JournalUnavailable, match=r"file/journal.db cannot be written.*--storage"):
        SqlJournal.open(tmp_path / "file" / "journal.db")
    with pytest.raises(JournalUnavailable, match="cannot be written"):
        SqlJournal.open(tmp_path)


def test_no_permission_to_write(shared: Path) -> None:
    shared.chmod(0o555)
    with unprivileged(), pytest.raises(JournalUnavailable, match="Permission denied"):
        SqlJournal.open(shared / "journal.db")


def test_reading_what_one_may_only_read(shared: Path) -> None:
    """A journal that was put away: no daemon, no permission to write."""
    database = shared / "journal.db"
    write(database)
    database.chmod(0o444)
    shared.chmod(0o555)
    with unprivileged():
        with pytest.raises(JournalUnavailable, match="Permission denied"):
            SqlJournal.open(database)
        reader = SqlJournal.open(database, readonly=True)
        assert count(reader) == 3
        reader.close()


def test_locked(database: Path) -> None:
    journal = SqlJournal.open(database, timeout=0.05)
    journal.append([(RUN, 0.0, LOST)])
    other = sqlite3.connect(database, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(JournalUnavailable, match="another process holds its lock"):
        journal.append([(RUN, 0.0, LOST)])
    other.close()
    assert journal.append([(RUN, 0.0, LOST)]) == [2]
    journal.close()


def test_disk_full_and_freed_again(database: Path) -> None:
    journal = SqlJournal.open(database)
    journal.append([(RUN, 0.0, LOST)])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    written = 1

    def fill() -> None:
        nonlocal written
        for _ in range(1000):
            journal.append([(RUN, 0.0, LOST)] * 50)
            written += 50

    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
    try:
        with pytest.raises(JournalUnavailable, match=r"writing to the journal .*: the disk"):
            fill()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert count(journal) == written
    assert journal.append([(RUN, 0.0, LOST)]) == [written + 1]
    journal.close()


def test_a_newer_daemon_fences_the_older_one(database: Path) -> None:
    older = SqlJournal.open(database)
    older.append([(RUN, 0.0, LOST)])
    newer = SqlJournal.open(database)
    with pytest.raises(JournalSuperseded, match=r"generation 2, this one is 1"):
        older.append([(RUN, 0.0, LOST)])
    assert newer.append([(RUN, 0.0, LOST)]) == [2]
    assert count(older) == 2
    older.close()
    newer.close()


def test_many_open_a_new_journal_at_once(database: Path) -> None:
    generations: list[int] = []

    def work() -> None:
        journal = SqlJournal.open(database)
        generations.append(journal.generation)
        journal.close()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(generations) == list(range(1, 9))


def test_a_damaged_record_is_named(database: Path) -> None:
    write(database)
    edit(database, "UPDATE events SET payload = x'51' WHERE n = 2")
    reader = SqlJournal.open(database, readonly=True)
    reading = reader.records(RUN)
    assert next(reading).n == 1
    with pytest.raises(JournalCorrupt, match="record 2 of run demo/a"):
        next(reading)
    reader.close()


def test_kinds_of_a_newer_version_are_left_out(database: Path) -> None:
    write(database)
    edit(database, "UPDATE events SET kind = 'dance' WHERE n = 2")
    journal = SqlJournal.open(database)
    assert [record.n for record in journal.records(RUN)] == [1, 3]
    assert journal.append([(RUN, 0.0, LOST)]) == [4]
    journal.close()


def test_unwanted_telemetry_is_not_decoded(database: Path) -> None:
    journal = SqlJournal.open(database)
    samples = Samples("t", 1, (False,), (1,), (0,), (0,), (1.0,), ((0.1,),))
    journal.append([(RUN, 0.0, samples), (RUN, 0.0, LOST)])
    edit(database, "UPDATE events SET payload = x'51' WHERE n = 1")
    assert [record.n for record in journal.records(RUN, kinds=[SessionLost])] == [2]
    journal.close()


APPEND_FOR_EVER = """
import sys
from lrpilot_controller.core.telemetry import Samples
from lrpilot_controller.journal import RunKey, SqlJournal

journal = SqlJournal.open(sys.argv[1])
while True:
    none = (0,) * 64
    samples = Samples("t", 1, (False,) * 64, none, none, none, (1.5,) * 64, ((0.1,),))
    numbers = journal.append([(RunKey("demo", "a"), 0.0, samples)] * 3)
    print(numbers[-1], flush=True)
"""


def test_kill_loses_nothing_that_append_returned_for(database: Path) -> None:
    root = Path(lrpilot_controller.__file__).parent.parent
    known = 0
    for lines in (1, 100):
        with subprocess.Popen(
            [sys.executable, "-c", APPEND_FOR_EVER, str(database)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(root)},
        ) as child:
            assert child.stdout is not None
            acknowledged = [child.stdout.readline() for _ in range(lines)]
            child.send_signal(signal.SIGKILL)
            acknowledged += [line for line in child.stdout if line.endswith("\n")]
        reader = SqlJournal.open(database, readonly=True)
        numbers = [record.n for record in reader.records(RUN)]
        reader.close()
        assert numbers == list(range(1, len(numbers) + 1))
        assert len(numbers) >= int(acknowledged[-1]) > known
        # A transaction is there as a whole or not at all.
        assert len(numbers) % 3 == 0
        known = len(numbers)
