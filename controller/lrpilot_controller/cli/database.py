"""What `lrpilot doctor` looks at where the storage is a PostgreSQL database."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from statistics import median

from sqlalchemy import URL, Connection, text

from lrpilot_controller import postgres
from lrpilot_controller.cli.checkup import AHEAD_S, NOTE, OK, SLOW_COMMIT_S, WRONG, Finding, tables
from lrpilot_controller.errors import LRPilotError
from lrpilot_controller.journal.base import JournalMissing
from lrpilot_controller.journal.postgres import SCHEMA
from lrpilot_controller.journal.sql import SqlJournal
from lrpilot_controller.storage import Storage, shown

_TIMEOUT_S = 5.0


def look(database: URL) -> list[Finding]:
    """All that can be told of a database; where it cannot be reached, only that."""
    name = "database"
    try:
        with _connected(database) as connection:
            version = str(connection.scalar(text("SHOW server_version")))
            says = f"{shown(database)}, PostgreSQL {version}"
            found = [_may_write(connection, says), _commits(connection), _clock(connection)]
    except LRPilotError as error:
        return [Finding(name, WRONG, str(error))]
    except Exception as error:
        says, _ = postgres.trouble(error)
        return [Finding(name, WRONG, f"{shown(database)}: {says}")]
    return [*found, _journal(database), _trials(database)]


@contextmanager
def _connected(database: URL) -> Iterator[Connection]:
    engine = postgres.connect(database, SCHEMA, timeout=_TIMEOUT_S, connections=1)
    try:
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()


def _may_write(connection: Connection, says: str) -> Finding:
    standby, may_create = connection.execute(
        text(
            "SELECT pg_is_in_recovery(), "
            "has_database_privilege(current_database(), 'CREATE') "
            f"OR to_regnamespace('{SCHEMA}') IS NOT NULL"
        )
    ).one()
    if standby:
        return Finding("database", WRONG, f"{says}, a standby", "name the primary in --storage")
    if not may_create:
        todo = "GRANT CREATE ON DATABASE to this user, for the two schemas"
        return Finding("database", WRONG, f"{says}: this user can make no schema", todo)
    return Finding("database", OK, says)


def _commits(connection: Connection) -> Finding:
    connection.execute(text("CREATE TEMPORARY TABLE lrpilot_doctor (row bytea)"))
    connection.commit()
    took = []
    for _ in range(20):
        began = time.perf_counter()
        # A temporary table is not logged, so the commit would wait for no disk without this.
        connection.execute(text("SELECT pg_current_xact_id()"))
        connection.execute(
            text("INSERT INTO lrpilot_doctor VALUES (decode(repeat('00', 1024), 'hex'))")
        )
        connection.commit()
        took.append(time.perf_counter() - began)
    connection.execute(text("DROP TABLE lrpilot_doctor"))
    connection.commit()
    says = (
        f"a commit takes {1000 * median(took):.2f} ms (the longest of 20: {1000 * max(took):.1f})"
    )
    if median(took) > SLOW_COMMIT_S:
        todo = "run the daemon near the database, or keep the storage in a directory"
        return Finding("commit", WRONG, says, todo)
    return Finding("commit", OK, says)


def _clock(connection: Connection, now: Callable[[], float] = time.time) -> Finding:
    apart = float(connection.scalar(text("SELECT extract(epoch FROM clock_timestamp())")) or 0)
    apart -= now()
    says = f"{abs(apart):.1f} s {'behind' if apart > 0 else 'before'} the database's"
    if abs(apart) > AHEAD_S:
        return Finding("clock", WRONG, says, "set both clocks (timedatectl)")
    return Finding("clock", OK, says)


def _journal(database: URL) -> Finding:
    try:
        with closing(SqlJournal.open(database, readonly=True, timeout=_TIMEOUT_S)) as journal:
            says = f"{len(journal.runs()):,} runs, {journal.size() >> 20:,} MiB"
    except JournalMissing:
        return Finding("journal", NOTE, "no journal yet: no run was recorded")
    except LRPilotError as error:
        return Finding("journal", WRONG, str(error))
    return Finding("journal", OK, f"{says}; pg_amcheck looks whether it is whole")


def _trials(database: URL) -> Finding:
    from lrpilot_controller.tuning.places import place_of

    place = place_of(Storage.of(database))
    try:
        if place.identity() is None:
            return Finding("reviews", NOTE, "none yet: nothing was decided")
        place.check_writable(_TIMEOUT_S)
    except LRPilotError as error:
        return Finding("reviews", WRONG, str(error))
    return tables(place, Finding("reviews", OK, place.name))
