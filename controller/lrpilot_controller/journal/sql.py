"""The journal as tables of a relational database: SQLite or PostgreSQL."""

import heapq
import os
import threading
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter, itemgetter
from typing import Any

from sqlalchemy import URL, Connection, Engine, delete, func, insert, select, update
from sqlalchemy.exc import DBAPIError

from lrpilot_controller.core.events import Thinned
from lrpilot_controller.errors import JournalError, JournalUnavailable
from lrpilot_controller.journal import across, shrinking, states, tables
from lrpilot_controller.journal.base import (
    Checkpoint,
    Entry,
    Held,
    Journal,
    JournalCorrupt,
    JournalSuperseded,
    Record,
    RunKey,
    check_entry,
    no_such_record,
    not_telemetry,
)
from lrpilot_controller.journal.codec import (
    Row,
    decode,
    encode,
    kind_names,
    pack_text,
)
from lrpilot_controller.journal.database import Database, Lines
from lrpilot_controller.journal.opening import look, take_over
from lrpilot_controller.journal.places import place_of

_columns = attrgetter(*Row.__slots__)  # in the order of the table's columns

# Per read, at most: a reader never holds the database open while its caller thinks, and a row of
# telemetry may be large.
_PAGE_ROWS, _PAGE_BYTES = 64, 1 << 18


@dataclass(slots=True)
class _Head:
    """Where a run stands: its row, its last event, and the first one of those just appended."""

    id: int
    last: int
    first: int = 0


class SqlJournal(Journal):
    """A journal in a database. Open one with `SqlJournal.open`.

    Attributes:
        place: the database that it is in.
    """

    def __init__(self, place: Database, lines: Lines, *, generation: int, version: int) -> None:
        self.generation = generation
        self.place = place
        self._version = version
        self._lines = lines
        # Compiled once: putting these two together anew costs more than running them, and a
        # daemon runs them hundreds of times a second.
        dialect = lines.reader.dialect
        # Whoever asks holds the row until the end: one writer at a time, on every database.
        ask = select(tables.meta.c.generation).with_for_update()
        self._ask_generation = str(ask.compile(dialect=dialect))
        self._add_event = str(insert(tables.events).compile(dialect=dialect))
        self._heads: dict[RunKey, _Head] = {}
        self._doubtful: dict[RunKey, int] = {}  # their last record before a commit that broke off
        self._lock = threading.Lock()
        self._closed = False

    @classmethod
    def open(
        cls,
        place: str | os.PathLike[str] | URL,
        *,
        readonly: bool = False,
        timeout: float = 10.0,
    ) -> "SqlJournal":
        """Opens a journal; for writing it is made where there is none. A file is its owner's only.

        Opening for writing takes a file over: whoever had it open for writing before can write no
        more. A database of PostgreSQL is held by one process at a time. An older version's journal
        is brought to this one; to be only read it is left as it is.

        Args:
            place: A file, or a URL of SQLite (`sqlite:///FILE`) or PostgreSQL.
            readonly: Only read; works beside a daemon that writes. Makes no journal and counts
                as no opening.
            timeout: Seconds to wait for a lock that another process holds.

        Raises:
            JournalVersionError: A newer LRPilot wrote it.
            JournalMissing: Reading, and there is none.
            JournalCorrupt: What is there is not a journal.
            JournalUnavailable: It cannot be opened now, or not written.
            JournalError: The URL cannot be used.
            DaemonExists: Another process writes in this database.
            ConfigError: The driver of PostgreSQL is not installed.
        """
        database = place_of(place)
        lines = database.connect(readonly=readonly, timeout=timeout)
        try:
            with database.explained("opening"):
                version, generation = (
                    look(database, lines.reader) if readonly else take_over(database, lines)
                )
        except BaseException:
            lines.close()
            raise
        return cls(database, lines, generation=generation, version=version)

    def outgrow(self, generation: int) -> None:
        """See `Journal.outgrow`."""
        with self._lock:
            if self.generation >= generation:
                return
            with self._transaction(self._check_writable()) as connection:
                connection.execute(update(tables.meta).values(generation=generation + 1))
            self.generation = generation + 1

    def append(self, entries: Sequence[Entry]) -> list[int]:
        """See `Journal.append`."""
        rows = []
        for run, at, event in entries:
            check_entry(run, at)
            rows.append((run, at, encode(event)))
        with self._lock:
            writer = self._check_writable()
            if not rows:
                return []
            heads: dict[RunKey, _Head] = {}
            with self._transaction(writer, heads) as connection:
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
        query = select(tables.runs.c.project, tables.runs.c.name).order_by(tables.runs.c.id)
        with self._reading() as connection:
            return [RunKey(project, name) for project, name in connection.execute(query)]

    def records(
        self, run: RunKey, *, after: int = 0, kinds: Collection[type] | None = None
    ) -> Iterator[Record]:
        """See `Journal.records`. Events that only a newer version understands are left out."""
        names = None if kinds is None else sorted(set(kind_names(kinds)))
        self._check_open()
        return self._records(run, after, names)

    def newest(self, kinds: Collection[type]) -> list[tuple[RunKey, Record]]:
        """See `Journal.newest`: a look at an index for each run."""
        with self._reading() as connection:
            rows = list(across.newest(connection, kind_names(kinds), 1))
        return [(run, record) for run, record in self._decoded(rows)]

    def across(
        self, kinds: Collection[type], newest_of: Collection[type], count: int
    ) -> Iterator[tuple[RunKey, list[Record]]]:
        """See `Reader.across`."""
        names, others = kind_names(kinds), kind_names(newest_of)
        with self._reading() as connection:
            parts = across.parts(connection)
        for part in parts:
            with self._reading() as connection:
                rows = [
                    *across.every(connection, names, part),
                    *across.newest(connection, others, count, part),
                ]
            rows.sort(key=lambda row: (row.id, row.n))
            for run, group in groupby(self._decoded(rows), key=itemgetter(0)):
                yield run, [record for _, record in group]

    def _decoded(self, rows: Iterable[Any]) -> Iterator[tuple[RunKey, Record]]:
        for _, project, name, *row in rows:
            run = RunKey(project, name)
            if (record := self._record(run, *row)) is not None:
                yield run, record

    def save_checkpoint(self, run: RunKey, n: int, state: str) -> None:
        """See `Journal.save_checkpoint`."""
        payload = pack_text(state)
        with self._lock, self._transaction(self._check_writable()) as connection:
            head = self._heads.get(run) or _head(connection, run)
            if head is None or not states.save(connection, head.id, n, payload):
                raise no_such_record(run, n)

    def checkpoint(self, run: RunKey, *, before: int | None = None) -> Checkpoint | None:
        """See `Journal.checkpoint`. There is none in a journal of version 1."""
        with self._reading() as connection:
            head = _head(connection, run)
            if head is None or self._version < 2:
                return None
            try:
                return states.newest(connection, head.id, before)
            except JournalCorrupt as error:
                text = f"a kept state of run {run} in {self.place.name}: {error}"
                raise JournalCorrupt(text) from error

    def telemetry(self, run: RunKey) -> list[Held]:
        """See `Journal.telemetry`."""
        with self._reading() as connection:
            head = _head(connection, run)
            return shrinking.telemetry(connection, head.id) if head else []

    def thin(self, run: RunKey, first: int, last: int, thinned: Thinned) -> None:
        """See `Journal.thin`."""
        row = encode(thinned)
        with self._lock, self._transaction(self._check_writable()) as connection:
            head = _head(connection, run)
            if head is None or not shrinking.thin(connection, head.id, first, last, row):
                raise not_telemetry(run, last)

    def last_seen(self) -> list[tuple[RunKey, float]]:
        """See `Journal.last_seen`."""
        with self._reading() as connection:
            return [(RunKey(p, name), at) for p, name, at in shrinking.last_seen(connection)]

    def forget(self, run: RunKey) -> None:
        """See `Journal.forget`."""
        with self._lock, self._transaction(self._check_writable()) as connection:
            if (head := _head(connection, run)) is not None:
                shrinking.forget(connection, head.id)
                self._heads.pop(run, None)

    def sweep(self) -> bool:
        """See `Journal.sweep`: the records of forgotten runs first, then pages of the file."""
        with self._lock, self._transaction(self._check_writable()) as connection:
            return shrinking.sweep(connection) or self.place.shrink(connection)

    def size(self) -> int:
        """See `Journal.size`."""
        with self._reading() as connection:
            return self.place.size(connection)

    def close(self) -> None:
        """See `Journal.close`."""
        with self._lock:
            self._closed = True
            self._lines.close()

    def _records(self, run: RunKey, after: int, names: list[str] | None) -> Iterator[Record]:
        with self._reading() as connection:
            head = _head(connection, run)
        if head is None:
            return
        # One range of an index per kind, merged: no sort, and no telemetry is touched for nothing.
        # All end where the run ended at the start, so that a record never precedes a missing one.
        kinds: Sequence[str | None] = [None] if names is None else names
        ranges = [self._range(head, after, kind) for kind in kinds]
        for row in heapq.merge(*ranges, key=lambda found: found[0]):
            if (record := self._record(run, *row)) is not None:
                yield record

    def _record(self, run: RunKey, n: int, at: float, *columns: Any) -> Record | None:
        """A record as it was read; None if only a newer version can understand it."""
        try:
            event = decode(Row(*columns))
        except JournalCorrupt as error:
            raise JournalCorrupt(
                f"record {n} of run {run} in {self.place.name}: {error}"
            ) from error
        return None if event is None else Record(n, at, event)

    def _range(self, head: _Head, after: int, kind: str | None) -> Iterator[Any]:
        query = (
            select(*(tables.events.c[name] for name in across.RECORD))
            .where(tables.events.c.run_id == head.id, tables.events.c.n <= head.last)
            .order_by(tables.events.c.n)
        )
        if kind is not None:
            query = query.where(tables.events.c.kind == kind)
        rows = 8
        while True:
            with self._reading() as connection:
                page = connection.execute(query.where(tables.events.c.n > after).limit(rows)).all()
            yield from page
            if len(page) < rows:
                return
            after = page[-1].n
            held = sum(len(row.payload) for row in page)
            rows = max(1, min(_PAGE_ROWS, rows * _PAGE_BYTES // held))
            del page  # before the next one is here

    def _next(self, connection: Connection, heads: dict[RunKey, _Head], run: RunKey) -> _Head:
        """Where the run stands with its next event, counted in `heads` until the commit."""
        head = heads.get(run)
        if head is None:
            known = self._heads.get(run) or _head(connection, run)
            if known is None:
                known = _Head(shrinking.next_id(connection), 0)
                named = {"id": known.id, "project": run.project, "name": run.name}
                connection.execute(insert(tables.runs).values(named))
            head = heads[run] = _Head(known.id, known.last, known.last + 1)
        head.last += 1
        return head

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        self._check_open()
        if self._doubtful:
            with self._lock, self._transaction(self._check_writable()):
                pass
        with self.place.explained("reading"), self._lines.reader.connect() as connection:
            yield connection

    def _check_writable(self) -> Engine:
        self._check_open()
        if self._lines.writer is None:
            raise JournalError(
                f"the journal {self.place.name} was opened read-only; only the daemon writes it"
            )
        return self._lines.writer

    @contextmanager
    def _transaction(
        self, writer: Engine, heads: dict[RunKey, _Head] | None = None
    ) -> Iterator[Connection]:
        """One that is committed at its end, by the newest daemon only.

        That nobody else writes is what makes it right to remember where the runs stand. A commit
        of which nobody heard is taken back, or waited for and then taken back, before anything
        else: whoever was told that nothing was written believes it.

        Args:
            writer: on which.
            heads: the runs that it appends to, filled within the body.
        """
        try:
            with self.place.explained("writing to"), writer.begin() as connection:
                current = connection.exec_driver_sql(self._ask_generation).scalar_one()
                if current != self.generation:
                    raise JournalSuperseded(
                        f"another daemon has opened the journal {self.place.name} (generation "
                        f"{current}, this one is {self.generation}); stop this daemon, or give it "
                        "its own --storage"
                    )
                for run, last in self._doubtful.items():
                    _take_back(connection, run, last)
                yield connection
        except JournalUnavailable as error:
            if isinstance(cause := error.__cause__, DBAPIError) and cause.connection_invalidated:
                for run, head in (heads or {}).items():
                    self._doubtful.setdefault(run, head.first - 1)
                self._heads.clear()
            raise
        self._doubtful.clear()

    def _check_open(self) -> None:
        if self._closed:
            raise JournalUnavailable(f"the journal {self.place.name} was closed; open it again")


def _take_back(connection: Connection, run: RunKey, last: int) -> None:
    """Deletes the records of a run after `last`; nothing where there are none."""
    if (head := _head(connection, run)) is not None:
        of_run = tables.events.c.run_id == head.id
        connection.execute(delete(tables.events).where(of_run, tables.events.c.n > last))


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
