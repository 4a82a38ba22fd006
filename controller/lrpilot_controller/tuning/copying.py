"""Runs of the journal compared with their trials and pages: what is missing is written."""

import logging
import math
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from lrpilot_controller.errors import JournalUnavailable
from lrpilot_controller.journal.base import Journal, RunKey
from lrpilot_controller.storage import Storage
from lrpilot_controller.tuning.cases import read_cases
from lrpilot_controller.tuning.entries import Identity
from lrpilot_controller.tuning.faults import words_of
from lrpilot_controller.tuning.interventions import entry_of
from lrpilot_controller.tuning.pages import mark_of, newest_news, page_of, show
from lrpilot_controller.tuning.places import TrialsUnavailable, place_of
from lrpilot_controller.tuning.searches import search_entries
from lrpilot_controller.tuning.trials import TrialBook

log = logging.getLogger(__name__)

# Nobody reviews more decisions of one run than that, and all trials are held in memory.
MAX_TRIALS = 100
# A page is drawn of all of a run's telemetry.
_REDRAW_S = 60.0


class Pass:
    """Comparing runs with their trials, and the book that stays open from one time to the next.

    Args:
        storage: A storage, or its directory.
        timeout_s: The longest wait for a lock on the trials.

    Attributes:
        closing: Set where it is to end early.
        judged: Runs of which a person said something since they were read; any thread adds to it.
        undrawn: Runs whose page may have to be drawn, in order.
    """

    def __init__(self, storage: Storage | Path, timeout_s: float) -> None:
        self.place = place_of(storage)
        self.closing = threading.Event()
        self._timeout_s = timeout_s
        self._book: TrialBook | None = None
        self._strange: set[RunKey] = set()
        self._pages: dict[RunKey, tuple[int, float]] = {}  # what each tells, and since when
        self.undrawn: dict[RunKey, None] = {}
        self._full: set[RunKey] = set()  # all trials that they get are written
        self.judged: set[RunKey] = set()

    def everything(self, journal: Journal) -> None:
        """Compares every run, then ends the trials that no run answers for."""
        pending = self.some(journal, journal.runs())
        if self.closing.is_set() or (self._book is None and self.place.identity() is None):
            return
        self._opened().fail_strays(pending)

    def some(self, journal: Journal, runs: Iterable[RunKey]) -> set[Identity]:
        """Compares these runs; the decisions of theirs that are still open."""
        pending: set[Identity] = set()
        if self._book is not None:
            self._book.check()
        for run in runs:
            if self.closing.is_set():
                break
            with self._telling(run):
                pending |= self._one(journal, run)
        return pending

    def draw(self, journal: Journal) -> bool:
        """Draws the page that waits the longest, if one does; False where none did."""
        if not self.undrawn or self.closing.is_set():
            return False
        run = next(iter(self.undrawn))
        del self.undrawn[run]
        with self._telling(run):
            self._draw(journal, run)
        return True

    @contextmanager
    def _telling(self, run: RunKey) -> Iterator[None]:
        """One run that cannot be told must not hide the others."""
        try:
            yield
        except _outages():
            raise
        except Exception as error:
            if run not in self._strange:
                self._strange.add(run)
                log.warning(
                    "the decisions of run %s cannot be copied to %s: %s; they are in the "
                    "journal (lrpilot show)",
                    run,
                    self.place.name,
                    words_of(error, self.place),
                )

    def _one(self, journal: Journal, run: RunKey) -> set[Identity]:
        """Compares one run; the decisions of it that are still open."""
        if run in self._full and run not in self.judged:
            self.undrawn[run] = None
            return set()
        self.judged.discard(run)  # what is read from here on has it
        cases = read_cases(journal, run)
        entries = [entry_of(journal, case) for case in cases[:MAX_TRIALS]]
        entries += islice(search_entries(journal, run, time.time()), MAX_TRIALS)
        for entry in entries:
            self._opened().put(entry)
        if entries:
            self.undrawn[run] = None
        pending = {entry.identity for entry in entries if entry.pending}
        if len(cases) > MAX_TRIALS and not pending:
            self._full.add(run)
            log.info("run %s: later decisions than its first %d have no trials", run, MAX_TRIALS)
        return pending

    def _draw(self, journal: Journal, run: RunKey) -> None:
        """Brings the run's page up to date: at its end, and before that now and then."""
        storage, now = self._opened().storage, time.monotonic()
        told, at = self._pages.get(run) or (mark_of(storage, run), -math.inf)
        newest, over = newest_news(journal, run)
        if newest > told and (over or not told or now - at >= _REDRAW_S):
            show(storage, page_of(journal, run, newest))
            told, at = newest, now
        self._pages[run] = told, at
        if over:
            del self._pages[run]

    def close(self) -> None:
        """Lets go of the file; it is opened again when needed, and may be another one then."""
        book, self._book = self._book, None
        self._pages.clear()
        self.undrawn.clear()
        self._full.clear()
        if book is not None:
            book.close()

    def _opened(self) -> TrialBook:
        if self._book is None:
            self._book = TrialBook(self.place, self._timeout_s)
            self._book.check()
        return self._book


def _outages() -> tuple[type[Exception], ...]:
    """Faults that are not of one run. A KeyError is a study that somebody deleted."""
    common = (
        OSError,
        KeyError,
        ImportError,
        sqlite3.Error,
        SQLAlchemyError,
        JournalUnavailable,
        TrialsUnavailable,
    )
    try:
        from optuna.exceptions import OptunaError
    except ImportError:
        return common
    return (*common, OptunaError)
