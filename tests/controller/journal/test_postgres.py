"""The journal in a PostgreSQL database: who holds it, what survives, what is said."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from sqlalchemy import URL

from lrpilot_controller.core.events import SessionLost
from lrpilot_controller.errors import DaemonExists, JournalUnavailable, JournalVersionError
from lrpilot_controller.journal import (
    JournalCorrupt,
    JournalMissing,
    JournalSuperseded,
    RunKey,
    SqlJournal,
)
from lrpilot_controller.journal.postgres import SCHEMA
from support.postgres import SECRET, Postgres, running

RUN = RunKey("demo", "a")
LOST = SessionLost("t1")


@pytest.fixture
def journal(postgres_url: URL) -> Iterator[SqlJournal]:
    one = SqlJournal.open(postgres_url)
    yield one
    one.close()


@pytest.fixture(scope="module")
def fragile() -> Iterator[Postgres]:
    """A server of its own, to be stopped."""
    with running() as server:
        yield server


def count(journal: SqlJournal) -> int:
    return sum(1 for _ in journal.records(RUN))


def test_reopening_counts_generations_and_keeps_records(postgres_url: URL) -> None:
    for generation in (1, 2, 3):
        with contextlib.closing(SqlJournal.open(postgres_url)) as journal:
            assert journal.generation == generation
            assert journal.append([(RUN, 0.0, LOST)]) == [generation]


def test_it_lives_in_a_schema_of_its_own(
    postgres: Postgres, postgres_url: URL, journal: SqlJournal
) -> None:
    journal.append([(RUN, 0.0, LOST)])
    schemas = "SELECT DISTINCT schemaname FROM pg_tables WHERE schemaname !~ '^(pg_|information)'"
    assert postgres.admin(schemas, str(postgres_url.database)) == [(SCHEMA,)]


def test_one_process_has_it_and_the_next_is_told_which(
    postgres_url: URL, journal: SqlJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lrpilot_controller.journal.postgres._LOCK_S", 0.1)
    with pytest.raises(DaemonExists, match=rf"held by .*pid {os.getpid()} on .*stop it"):
        SqlJournal.open(postgres_url)
    assert journal.append([(RUN, 0.0, LOST)]) == [1]


def test_whoever_is_killed_leaves_it_to_the_next(postgres_url: URL) -> None:
    script = (
        "import sys\n"
        "from lrpilot_controller.journal import SqlJournal\n"
        "journal = SqlJournal.open(sys.stdin.readline().strip())\n"
        "print('open', flush=True)\n"
        "sys.stdin.read()\n"
    )
    url = postgres_url.render_as_string(hide_password=False)
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        other.stdin.write(f"{url}\n")
        other.stdin.flush()
        assert other.stdout.readline() == "open\n"
        other.kill()
    with contextlib.closing(SqlJournal.open(postgres_url)) as journal:
        assert journal.generation == 2


def test_readers_beside_the_one_that_writes(postgres_url: URL, journal: SqlJournal) -> None:
    with contextlib.closing(SqlJournal.open(postgres_url, readonly=True)) as reader:
        for number in (1, 2, 3):
            journal.append([(RUN, 0.0, LOST)])
            assert count(reader) == number


def test_broken_connections_are_made_anew(
    postgres: Postgres, postgres_url: URL, journal: SqlJournal
) -> None:
    assert journal.append([(RUN, 0.0, LOST)]) == [1]
    assert count(journal) == 1
    postgres.end_sessions(postgres_url)
    assert count(journal) == 1
    assert journal.append([(RUN, 0.0, LOST)]) == [2]


def test_who_lost_it_to_another_daemon_is_told_and_writes_nothing(
    postgres: Postgres, postgres_url: URL, journal: SqlJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lrpilot_controller.journal.postgres._LOCK_S", 0.1)
    postgres.end_sessions(postgres_url)
    with contextlib.closing(SqlJournal.open(postgres_url)) as newer:
        with pytest.raises(JournalSuperseded, match="held by another daemon now"):
            journal.append([(RUN, 0.0, LOST)])
        assert newer.append([(RUN, 0.0, LOST)]) == [1]
    with pytest.raises(JournalSuperseded, match=r"generation 2, this one is 1"):
        journal.append([(RUN, 0.0, LOST)])


def test_who_lost_it_to_a_session_of_its_own_waits_for_its_end(
    postgres: Postgres, postgres_url: URL, journal: SqlJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network that broke: the server has not noticed yet, and holds the lock for nobody."""
    monkeypatch.setattr("lrpilot_controller.journal.postgres._LOCK_S", 0.1)
    writer = journal._lines.writer
    assert writer is not None
    with writer.connect() as connection:
        connection.detach()  # it stays open, and nobody uses it any more
        with pytest.raises(JournalUnavailable, match="has not noticed yet") as error:
            journal.append([(RUN, 0.0, LOST)])
        assert not isinstance(error.value, JournalSuperseded)
    assert journal.append([(RUN, 0.0, LOST)]) == [1]


def test_the_size_of_a_large_table_is_told_by_a_part_of_it(
    journal: SqlJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = [RunKey("demo", f"r{k}") for k in range(2)]
    for _ in range(10):
        journal.append([(run, 0.0, LOST) for run in others] * 1000)
    whole = journal.size()
    monkeypatch.setattr("lrpilot_controller.journal.postgres._LOOKED_AT", 150)  # of some 230
    assert 0.7 * whole < journal.size() < 1.3 * whole
    journal.forget(others[0])
    while journal.sweep():
        pass
    assert 0.3 * whole < journal.size() < 0.75 * whole


def test_a_server_that_is_away_for_a_while(fragile: Postgres) -> None:
    with fragile.database() as url, contextlib.closing(SqlJournal.open(url)) as journal:
        assert journal.append([(RUN, 0.0, LOST)]) == [1]
        fragile.stop()
        for _ in range(2):
            with pytest.raises(JournalUnavailable, match="cannot be reached: is the server up"):
                journal.append([(RUN, 0.0, LOST)])
        with pytest.raises(JournalUnavailable):
            count(journal)
        fragile.start()
        assert count(journal) == 1
        assert journal.append([(RUN, 0.0, LOST)] * 2) == [2, 3]


def test_a_commit_of_which_nobody_heard_is_taken_back(
    postgres: Postgres, postgres_url: URL, journal: SqlJournal
) -> None:
    # Whoever is told that nothing was written sends it again: it must not be there twice.
    other = RunKey("demo", "b")
    journal.append([(RUN, 0.0, LOST)])
    with _deaf_commits(postgres, postgres_url, journal), pytest.raises(JournalUnavailable):
        journal.append([(RUN, 1.0, LOST), (other, 1.0, LOST)])
    assert [record.at for record in journal.records(RUN)] == [0.0]
    assert list(journal.records(other)) == []
    assert journal.append([(RUN, 2.0, LOST), (other, 2.0, LOST)]) == [2, 1]
    assert [record.at for record in journal.records(RUN)] == [0.0, 2.0]


@contextlib.contextmanager
def _deaf_commits(server: Postgres, url: URL, journal: SqlJournal) -> Iterator[None]:
    """The next commit is carried out, and the connection breaks before anybody hears of it."""
    writer = journal._lines.writer
    assert writer is not None
    real = writer.dialect.do_commit

    def commit(connection: object) -> None:
        real(connection)  # type: ignore[arg-type]
        writer.dialect.do_commit = real  # type: ignore[method-assign]
        server.end_sessions(url)
        connection.execute("SELECT 1")  # type: ignore[attr-defined]

    writer.dialect.do_commit = commit  # type: ignore[method-assign,assignment]
    yield


def test_a_locked_table_is_told_and_waited_for_no_longer_than_asked(
    postgres: Postgres, postgres_url: URL
) -> None:
    with contextlib.closing(SqlJournal.open(postgres_url, timeout=0.2)) as journal:
        import psycopg

        plain = postgres_url._replace(password=None).render_as_string()
        with contextlib.closing(psycopg.connect(plain)) as other:
            other.execute(f"LOCK TABLE {SCHEMA}.events")
            with pytest.raises(JournalUnavailable, match="another session holds a lock on it"):
                journal.append([(RUN, 0.0, LOST)])
        assert journal.append([(RUN, 0.0, LOST)]) == [1]


def test_what_is_no_journal_is_left_alone(postgres: Postgres, postgres_url: URL) -> None:
    with pytest.raises(JournalMissing, match="is empty"):
        SqlJournal.open(postgres_url, readonly=True)
    name = str(postgres_url.database)
    postgres.admin(f"CREATE SCHEMA {SCHEMA}", name)
    postgres.admin(f"CREATE TABLE {SCHEMA}.shopping (item text)", name)
    for readonly in (True, False):
        with pytest.raises(JournalCorrupt, match=r"not a journal of LRPilot .*shopping"):
            SqlJournal.open(postgres_url, readonly=readonly)


def test_a_newer_version_is_refused(postgres: Postgres, postgres_url: URL) -> None:
    SqlJournal.open(postgres_url).close()
    postgres.admin(f"UPDATE {SCHEMA}.meta SET schema_version = 99", str(postgres_url.database))
    with pytest.raises(JournalVersionError, match="schema version 99"):
        SqlJournal.open(postgres_url)


def test_no_error_tells_the_password(postgres_url: URL) -> None:
    for url in (
        postgres_url.set(database="nowhere"),
        postgres_url.set(username="nobody"),
        postgres_url.set(host="127.0.0.1", port=1, query={}),
    ):
        with pytest.raises(JournalUnavailable) as caught:
            SqlJournal.open(url, timeout=1.0)
        error: BaseException | None = caught.value
        while error is not None:
            assert SECRET not in f"{error!s} {error!r}"
            error = error.__cause__ or error.__context__
        assert str(url.database) in str(caught.value)
