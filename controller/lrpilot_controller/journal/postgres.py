"""What is special about a journal in PostgreSQL: a schema of its own, and one daemon at a time."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import URL, Connection, Engine, text
from sqlalchemy.exc import DBAPIError, TimeoutError

from lrpilot_controller import postgres
from lrpilot_controller.errors import DaemonExists, JournalUnavailable
from lrpilot_controller.journal.base import JournalCorrupt, JournalSuperseded
from lrpilot_controller.journal.database import Lines
from lrpilot_controller.storage import shown

SCHEMA = "lrpilot_journal"

_LOCK = 1
_LOCK_S = 2.0  # a daemon that was killed is gone by then
_TABLES = text("SELECT tablename FROM pg_tables WHERE schemaname = :schema")

# A table keeps the room of what was dropped, and nobody says how much of that there is: a part of
# its pages is looked at. A payload that is kept apart is not read for its size.
_LOOKED_AT = 2000  # pages; of a large table the size is then known within some percent
_ROW = 150  # bytes of a record in the table and its indexes, beside its payload
_PAGES = text(
    "SELECT pg_relation_size('events') / current_setting('block_size')::int, "
    "coalesce(sum(pg_total_relation_size(oid)), 0)::bigint FROM pg_class "
    "WHERE relkind = 'r' AND relnamespace = to_regnamespace(:schema) AND relname <> 'events'"
)
_HELD = text(
    f"SELECT coalesce(sum(pg_column_size(payload) + {_ROW}), 0) "
    "FROM events TABLESAMPLE SYSTEM (:percent)"
)


class PostgresDatabase:
    """A journal's database on a server.

    The only connection that writes holds an advisory lock, so that it is lost together with it,
    and taken again with the next one; whoever finds it taken by another process then was
    superseded meanwhile. Where a network broke, the server may take its time to notice.
    """

    def __init__(self, url: URL) -> None:
        self.name = shown(url)
        self._url = url
        self._size = 0
        self._session: int | None = None  # the one that held the lock last

    def connect(self, *, readonly: bool, timeout: float) -> Lines:
        """See `Database.connect`.

        Raises:
            DaemonExists: Another process has it open for writing.
        """
        reader = postgres.connect(self._url, SCHEMA, timeout=timeout, readonly=True)
        if readonly:
            return Lines(reader, None)
        writer = postgres.connect(
            self._url, SCHEMA, timeout=timeout, connections=1, greeting=self._take
        )
        return Lines(reader, writer)

    def _take(self, connection: Any) -> None:
        holder = postgres.take_lock(connection, _LOCK, _LOCK_S)
        if holder is not None and holder.session == self._session:
            raise JournalUnavailable(
                f"the connection to the journal {self.name} broke, and its server has not noticed "
                f"yet: {holder}; it is tried again"
            )
        if holder is not None and self._session is not None:
            raise JournalSuperseded(
                f"the connection to the journal {self.name} broke, and it is held by another "
                f"daemon now, {holder}; this one writes no more: use that one, or give each its "
                "own --storage"
            )
        if holder is not None:
            raise DaemonExists(
                f"the journal {self.name} is held by another LRPilot daemon, {holder}: use that "
                "one, stop it, or choose another --storage"
            )
        self._session = connection.info.backend_pid

    def tables(self, connection: Connection) -> set[str]:
        """See `Database.tables`."""
        return set(connection.scalars(_TABLES, {"schema": SCHEMA}))

    def prepare(self, writer: Engine, *, empty: bool) -> None:
        """See `Database.prepare`: the schema."""
        if empty:
            with writer.begin() as connection:
                connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}"))

    def shrink(self, connection: Connection) -> bool:
        """See `Database.shrink`: the server's autovacuum does that."""
        return False

    def size(self, connection: Connection) -> int:
        """See `Database.size`: an estimate, without the room that dropped records have left."""
        pages, others = connection.execute(_PAGES, {"schema": SCHEMA}).one()
        share = min(1.0, _LOOKED_AT / max(pages, 1))
        held = connection.execute(_HELD, {"percent": 100 * share}).scalar_one()
        self._size = int(held / share) + others
        return self._size

    def on_disk(self) -> int:
        """See `Database.on_disk`: what `size` said last; the room beyond is used again."""
        return self._size

    def free(self) -> float:
        """See `Database.free`: the server does not tell."""
        return float("inf")

    @contextmanager
    def explained(self, doing: str) -> Iterator[None]:
        """See `Database.explained`."""
        try:
            yield
        except DBAPIError as error:
            says, passing = postgres.trouble(error)
            told = f"{doing} the journal {self.name} failed: {says}"
            if passing:
                raise JournalUnavailable(told) from error
            raise JournalCorrupt(
                f"{told}; its tables are damaged or not a journal's: restore a dump of the schema "
                f"{SCHEMA}, or choose another --storage"
            ) from error
        except TimeoutError as error:
            told = f"{doing} the journal {self.name} took too long: {error}"
            raise JournalUnavailable(told) from error
