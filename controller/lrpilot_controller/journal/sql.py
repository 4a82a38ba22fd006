"""The journal as tables of a relational database: SQLite or PostgreSQL."""

import os
import threading
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from operator import attrgetter, itemgetter
from typing import Any

from sqlalchemy import URL, Connection, insert, select, update

from lrpilot_controller.core.telemetry import Thinned
from lrpilot_controller.errors import JournalError, JournalUnavailable
from lrpilot_controller.journal import across, paging, shrinking, states, tables
from lrpilot_controller.journal.base import (
    Checkpoint,
    Entry,
    Held,
    Journal,
    JournalCorrupt,
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
from lrpilot_controller.journal.commits import Commits
from lrpilot_controller.journal.database import Database, Lines
from lrpilot_controller.journal.opening import look, take_over
from lrpilot_controller.journal.paging import head_of
from lrpilot_controller.journal.places import place_of

_columns = attrgetter(*Row.__slots__)  # in the order of the table's columns


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
        # Compiled once: putting it together anew costs more than running it, and a daemon runs it
        # hundreds of times a second.
        self._add_event = str(insert(tables.events).compile(dialect=lines.reader.dialect))
        self._commits = Commits(place, lines.writer) if lines.writer else None
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
            with self._check_writable().begin(self.generation) as connection:
                connection.execute(update(tables.meta).values(generation=generation + 1))
            self.generation = generation + 1

    def append(self, entries: Sequence[Entry]) -> list[int]:
        """See `Journal.append`."""
        rows = []
        for run, at, event in entries:
            check_entry(run, at)
            rows.append((run, at, encode(event)))
        with self._lock:
            commits = self._check_writable()
            if not rows:
                return []
            with commits.begin(self.generation) as connection:
                values = []
                for run, at, row in rows:
                    head = commits.next(connection, run)
                    values.append((head.id, head.last, at, *_columns(row)))
                connection.exec_driver_sql(self._add_event, values)
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
        with self._writing() as (commits, connection):
            head = commits.head(connection, run)
            if head is None or not states.save(connection, head.id, n, payload):
                raise no_such_record(run, n)

    def checkpoint(self, run: RunKey, *, before: int | None = None) -> Checkpoint | None:
        """See `Journal.checkpoint`. There is none in a journal of version 1."""
        with self._reading() as connection:
            head = head_of(connection, run)
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
            head = head_of(connection, run)
            return shrinking.telemetry(connection, head.id) if head else []

    def thin(self, run: RunKey, first: int, last: int, thinned: Thinned) -> None:
        """See `Journal.thin`."""
        row = encode(thinned)
        with self._writing() as (_, connection):
            head = head_of(connection, run)
            if head is None or not shrinking.thin(connection, head.id, first, last, row):
                raise not_telemetry(run, last)

    def last_seen(self) -> list[tuple[RunKey, float]]:
        """See `Journal.last_seen`."""
        with self._reading() as connection:
            return [(RunKey(p, name), at) for p, name, at in shrinking.last_seen(connection)]

    def forget(self, run: RunKey) -> None:
        """See `Journal.forget`."""
        with self._writing() as (commits, connection):
            if (head := head_of(connection, run)) is not None:
                shrinking.forget(connection, head.id)
                commits.forget(run)

    def sweep(self) -> bool:
        """See `Journal.sweep`: the records of forgotten runs first, then pages of the file."""
        with self._writing() as (_, connection):
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
            head = head_of(connection, run)
        if head is None:
            return
        for row in paging.records(self._reading, head, after, names):
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

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        self._check_open()
        if self._commits is not None and self._commits.in_doubt:
            with self._writing():
                pass
        with self.place.explained("reading"), self._lines.reader.connect() as connection:
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[tuple[Commits, Connection]]:
        with self._lock:
            commits = self._check_writable()
            with commits.begin(self.generation) as connection:
                yield commits, connection

    def _check_writable(self) -> Commits:
        self._check_open()
        if self._commits is None:
            raise JournalError(
                f"the journal {self.place.name} was opened read-only; only the daemon writes it"
            )
        return self._commits

    def _check_open(self) -> None:
        if self._closed:
            raise JournalUnavailable(f"the journal {self.place.name} was closed; open it again")
