"""The journal as three tables of a relational database; today in SQLite."""

import heapq
import os
import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, func, insert, inspect, select, update
from sqlalchemy.exc import DBAPIError, TimeoutError

from lrpilot_controller.errors import JournalError, JournalUnavailable, JournalVersionError
from lrpilot_controller.journal import sqlite, tables
from lrpilot_controller.journal.base import (
    Entry,
    Journal,
    JournalCorrupt,
    JournalMissing,
    JournalSuperseded,
    Record,
    RunKey,
    check_entry,
)
from lrpilot_controller.journal.codec import Row, decode, encode, kind_names

_columns = attrgetter(*Row.__slots__)  # in the order of the table's columns

_PAGE = 256  # rows per read: a reader never holds the database open while its caller thinks


@dataclass(slots=True)
class _Head:
    """Where a run stands: its row, and the number of its last event."""

    id: int
    last: int


class SqlJournal(Journal):
    """A journal in a database file. Open one with `SqlJournal.open`."""

    def __init__(self, engine: Engine, path: Path, *, generation: int, readonly: bool) -> None:
        self.generation = generation
        self.path = path
        self._engine = engine
        self._writer = None if readonly else engine.execution_options(begin=sqlite.WRITE)
        # Compiled once: putting these two together anew costs more than running them, and a
        # daemon runs them hundreds of times a second.
        dialect = engine.dialect
        self._ask_generation = str(select(tables.meta.c.generation).compile(dialect=dialect))
        self._add_event = str(insert(tables.events).compile(dialect=dialect))
        self._heads: dict[RunKey, _Head] = {}
        self._lock = threading.Lock()
        self._closed = False

    @classmethod
    def open(
        cls,
        path_or_url: str | os.PathLike[str],
        *,
        readonly: bool = False,
        timeout: float = 10.0,
    ) -> "SqlJournal":
        """Opens a journal; for writing it is made where there is none, readable by its owner only.

        Opening for writing takes the journal over: whoever had it open for writing before can
        write no more.

        Args:
            path_or_url: A file, or a `sqlite:///` URL.
            readonly: Only read; works beside a daemon that writes. Makes no journal and counts
                as no opening.
            timeout: Seconds to wait for a lock that another process holds.

        Raises:
            JournalVersionError: A newer LRPilot wrote it.
            JournalMissing: Reading, and there is none.
            JournalCorrupt: The file is not a journal.
            JournalUnavailable: It cannot be opened now, or not written.
            JournalError: The URL cannot be used.
        """
        path = sqlite.locate(path_or_url)
        if not readonly:
            sqlite.prepare(path)
        engine = sqlite.connect(path, readonly=readonly, timeout=timeout)
        try:
            with _explained(path, "opening"):
                generation = _generation(engine, path) if readonly else _take_over(engine, path)
        except BaseException:
            engine.dispose()
            raise
        return cls(engine, path, generation=generation, readonly=readonly)

    def append(self, entries: Sequence[Entry]) -> list[int]:
        """See `Journal.append`."""
        rows = []
        for run, at, event in entries:
            check_entry(run, at)
            rows.append((run, at, encode(event)))
        with self._lock:
            self._check_open()
            if self._writer is None:
                raise JournalError(
                    f"the journal {self.path} was opened read-only; only the daemon writes it"
                )
            if not rows:
                return []
            heads: dict[RunKey, _Head] = {}
            with _explained(self.path, "writing to"), self._writer.begin() as connection:
                self._check_generation(connection)
                values = []
                for run, at, row in rows:
                    head = self._next(connection, heads, run)
                    values.append((head.id, head.last, at, *_columns(row)))
                connection.exec_driver_sql(self._add_event, values)
            # Only what was committed is believed.
            self._heads.update(heads)
        return [n for _, n, *_ in values]

    def runs(self) -> list[RunKey]:
        """See `Journal.runs`."""
        self._check_open()
        query = select(tables.runs.c.project, tables.runs.c.name).order_by(tables.runs.c.id)
        with _explained(self.path, "reading"), self._engine.connect() as connection:
            return [RunKey(project, name) for project, name in connection.execute(query)]

    def records(
        self, run: RunKey, *, after: int = 0, kinds: Collection[type] | None = None
    ) -> Iterator[Record]:
        """See `Journal.records`. Events that only a newer version understands are left out."""
        names = None if kinds is None else sorted(set(kind_names(kinds)))
        self._check_open()
        return self._records(run, after, names)

    def close(self) -> None:
        """See `Journal.close`."""
        with self._lock:
            self._closed = True
            self._engine.dispose()

    def _records(self, run: RunKey, after: int, names: list[str] | None) -> Iterator[Record]:
        with _explained(self.path, "reading"), self._engine.connect() as connection:
            head = _head(connection, run)
        if head is None:
            return
        # One range of an index per kind, merged: no sort, and no telemetry is touched for nothing.
        # All end where the run ended at the start, so that a record never precedes a missing one.
        kinds: Sequence[str | None] = [None] if names is None else names
        ranges = [self._range(head, after, kind) for kind in kinds]
        for n, at, *columns in heapq.merge(*ranges, key=lambda found: found[0]):
            try:
                event = decode(Row(*columns))
            except JournalCorrupt as error:
                raise JournalCorrupt(f"record {n} of run {run} in {self.path}: {error}") from error
            if event is not None:
                yield Record(n, at, event)

    def _range(self, head: _Head, after: int, kind: str | None) -> Iterator[Any]:
        query = (
            select(*(tables.events.c[name] for name in ("n", "at", *Row.__slots__)))
            .where(tables.events.c.run_id == head.id, tables.events.c.n <= head.last)
            .order_by(tables.events.c.n)
            .limit(_PAGE)
        )
        if kind is not None:
            query = query.where(tables.events.c.kind == kind)
        while True:
            self._check_open()
            with _explained(self.path, "reading"), self._engine.connect() as connection:
                page = connection.execute(query.where(tables.events.c.n > after)).all()
            yield from page
            if len(page) < _PAGE:
                return
            after = page[-1].n

    def _next(self, connection: Connection, heads: dict[RunKey, _Head], run: RunKey) -> _Head:
        """Where the run stands with its next event, counted in `heads` until the commit."""
        head = heads.get(run)
        if head is None:
            known = self._heads.get(run) or _head(connection, run)
            if known is None:
                named = {"project": run.project, "name": run.name}
                added = insert(tables.runs).values(named).returning(tables.runs.c.id)
                known = _Head(connection.execute(added).scalar_one(), 0)
            head = heads[run] = _Head(known.id, known.last)
        head.last += 1
        return head

    def _check_generation(self, connection: Connection) -> None:
        """What makes it right to remember where the runs stand: nobody else writes."""
        current = connection.exec_driver_sql(self._ask_generation).scalar_one()
        if current != self.generation:
            raise JournalSuperseded(
                f"another daemon has opened the journal {self.path} (generation {current}, this "
                f"one is {self.generation}); stop this daemon, or give it its own --storage"
            )

    def _check_open(self) -> None:
        if self._closed:
            raise JournalUnavailable(f"the journal {self.path} was closed; open it again")


def _head(connection: Connection, run: RunKey) -> _Head | None:
    last = (
        select(func.max(tables.events.c.n))
        .where(tables.events.c.run_id == tables.runs.c.id)
        .scalar_subquery()
    )
    found = connection.execute(
        select(tables.runs.c.id, last).where(
            tables.runs.c.project == run.project, tables.runs.c.name == run.name
        )
    ).one_or_none()
    return found and _Head(found[0], found[1] or 0)


def _generation(engine: Engine, path: Path) -> int:
    """The generation of a journal that can be read by this version."""
    with engine.connect() as connection:
        present = set(inspect(connection).get_table_names())
        if not present:
            raise JournalMissing(f"the journal {path} is empty: nothing was recorded there yet")
        version, generation = tables.SCHEMA_VERSION, 0
        if tables.meta.name in present:
            version, generation = connection.execute(select(tables.meta)).one()
    if version > tables.SCHEMA_VERSION:
        raise JournalVersionError(
            f"the journal {path} has schema version {version}, and this LRPilot knows versions "
            f"up to {tables.SCHEMA_VERSION}; upgrade it (pip install -U lrpilot), or choose "
            "another --storage directory"
        )
    if not present >= set(tables.metadata.tables):
        raise JournalCorrupt(
            f"{path} is a database but not a journal of LRPilot (its tables: "
            f"{', '.join(sorted(present))}); choose another --storage directory"
        )
    return int(generation)


def _take_over(engine: Engine, path: Path) -> int:
    """Counts one more opening for writing, and makes the tables in an empty file."""
    writer = engine.execution_options(begin=sqlite.WRITE)
    with engine.connect() as connection:
        empty = not inspect(connection).get_table_names()
    if not empty:
        # Refused before anything is changed: it may be somebody else's database.
        _generation(engine, path)
    sqlite.use_wal(engine)
    with writer.begin() as connection:
        tables.metadata.create_all(connection)
        if connection.execute(select(tables.meta)).first() is None:
            connection.execute(
                insert(tables.meta).values(schema_version=tables.SCHEMA_VERSION, generation=0)
            )
        connection.execute(update(tables.meta).values(generation=tables.meta.c.generation + 1))
        return int(connection.execute(select(tables.meta.c.generation)).scalar_one())


@contextmanager
def _explained(path: Path, doing: str) -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        raise sqlite.explain(error, path, doing) from error
    except TimeoutError as error:
        raise JournalUnavailable(f"{doing} the journal {path} took too long: {error}") from error
