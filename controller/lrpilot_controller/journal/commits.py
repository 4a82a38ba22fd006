"""Commits to a journal's tables: by the newest daemon only, and whole or taken back."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine, delete, insert, select
from sqlalchemy.exc import DBAPIError

from lrpilot_controller.errors import JournalUnavailable
from lrpilot_controller.journal import shrinking, tables
from lrpilot_controller.journal.base import JournalSuperseded, RunKey
from lrpilot_controller.journal.database import Database
from lrpilot_controller.journal.paging import Head, head_of


class Commits:
    """Transactions on the one connection that writes. For one thread at a time.

    That nobody else writes is what makes it right to remember where the runs stand. A commit of
    which nobody heard is taken back, or waited for and then taken back, before anything else:
    whoever was told that nothing was written believes it.

    Args:
        place: the database.
        writer: on which to write.
    """

    def __init__(self, place: Database, writer: Engine) -> None:
        self._place = place
        self._writer = writer
        self._heads: dict[RunKey, Head] = {}
        self._appended: dict[RunKey, Head] = {}  # by the transaction that is open
        self._doubtful: dict[RunKey, int] = {}  # their last record before a commit that broke off
        # Compiled once, as a daemon asks hundreds of times a second. Whoever asks holds the row
        # until the end: one writer at a time, on every database.
        ask = select(tables.meta.c.generation).with_for_update()
        self._ask_generation = str(ask.compile(dialect=writer.dialect))

    @property
    def in_doubt(self) -> bool:
        """Whether there may be records that were taken for not written; the next `begin` mends."""
        return bool(self._doubtful)

    @contextmanager
    def begin(self, generation: int) -> Iterator[Connection]:
        """A transaction that is committed at the end of the body.

        Args:
            generation: of the daemon that writes.

        Raises:
            JournalSuperseded: another daemon has opened the journal since.
            JournalUnavailable: it cannot be written now; nothing was.
        """
        self._appended = {}
        try:
            with self._place.explained("writing to"), self._writer.begin() as connection:
                self._check_newest(connection, generation)
                for run, last in self._doubtful.items():
                    _take_back(connection, run, last)
                yield connection
        except JournalUnavailable as error:
            if isinstance(cause := error.__cause__, DBAPIError) and cause.connection_invalidated:
                for run, head in self._appended.items():
                    self._doubtful.setdefault(run, head.first - 1)
                self._heads.clear()
            raise
        self._doubtful.clear()
        self._heads.update(self._appended)  # only what was committed is believed

    def head(self, connection: Connection, run: RunKey) -> Head | None:
        """Where a run stands; None where there is no such run."""
        return self._heads.get(run) or head_of(connection, run)

    def next(self, connection: Connection, run: RunKey) -> Head:
        """Where a run stands with one more event, which the caller inserts; it may be a new run."""
        head = self._appended.get(run)
        if head is None:
            known = self.head(connection, run)
            if known is None:
                known = Head(shrinking.next_id(connection), 0)
                named = {"id": known.id, "project": run.project, "name": run.name}
                connection.execute(insert(tables.runs).values(named))
            head = self._appended[run] = Head(known.id, known.last, known.last + 1)
        head.last += 1
        return head

    def forget(self, run: RunKey) -> None:
        """The run is dropped: where it stood is remembered no more."""
        self._heads.pop(run, None)

    def _check_newest(self, connection: Connection, generation: int) -> None:
        current = connection.exec_driver_sql(self._ask_generation).scalar_one()
        if current != generation:
            raise JournalSuperseded(
                f"another daemon has opened the journal {self._place.name} (generation "
                f"{current}, this one is {generation}); this one writes no more: use "
                "that one, or give each its own --storage"
            )


def _take_back(connection: Connection, run: RunKey, last: int) -> None:
    """Deletes the records of a run after `last`; nothing where there are none."""
    if (head := head_of(connection, run)) is not None:
        of_run = tables.events.c.run_id == head.id
        connection.execute(delete(tables.events).where(of_run, tables.events.c.n > last))
