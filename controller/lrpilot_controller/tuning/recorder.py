"""Keeps the trials in step with the journal, on a thread of its own.

The journal is the truth, and the file of trials a copy for review. Nothing is carried from an
event to a trial: an event only says which run to look at, and the run's decisions are read from
the journal and compared with what is written. So a missed event, a locked or deleted file or a
restart all end the same way: what is missing is written.
"""

import logging
import math
import queue
import sqlite3
import threading
import time
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from lrpilot_controller.core.events import Commanded, Decided, ReceiptArrived
from lrpilot_controller.errors import JournalUnavailable
from lrpilot_controller.journal.base import Journal, Record, RunKey
from lrpilot_controller.storage import Storage
from lrpilot_controller.tuning.cases import is_news, read_cases
from lrpilot_controller.tuning.entries import Identity
from lrpilot_controller.tuning.faults import words_of
from lrpilot_controller.tuning.interventions import entry_of
from lrpilot_controller.tuning.pages import mark_of, newest_news, page_of, show
from lrpilot_controller.tuning.places import Place, TrialsUnavailable, place_of
from lrpilot_controller.tuning.searches import search_entries
from lrpilot_controller.tuning.trials import TrialBook

log = logging.getLogger(__name__)

# Events come in twos and threes: a goodbye, then the outcome that it leads to.
_SETTLE_S = 0.05
# Looking at a run costs the more the longer it is, and runs that open a session every second can
# make something new of everything: about a fifth of the time goes into it.
_REST = 4.0
_LONGEST_REST_S = 5.0
_LONGEST_PAUSE_S = 60.0
# Nobody reviews more decisions of one run than that, and all trials are held in memory.
MAX_TRIALS = 100
# A page is drawn of all of a run's telemetry.
_REDRAW_S = 60.0


def reconcile(storage: Storage | Path, journal: Journal, timeout_s: float = 0.0) -> None:
    """Brings the trials in `storage` up to the journal, once, on the calling thread.

    Raises:
        TrialsUnavailable: The file cannot be written now, or a daemon writes it.
        JournalError: The journal cannot be read.
        ImportError: Optuna is not installed.
    """
    pass_over = _Pass(storage, timeout_s)
    try:
        pass_over.everything(journal)
    finally:
        pass_over.close()


class TrialRecorder:
    """Records decisions as Optuna trials without ever delaying or failing its caller.

    Args:
        storage: A storage, or its directory; the trials are in `optuna.db` there.
        lock_timeout_s: The longest wait for a lock on them.
        retry_s: The first pause after a fault; each further one is twice as long, to a minute.
    """

    def __init__(
        self, storage: Storage | Path, *, lock_timeout_s: float = 5.0, retry_s: float = 1.0
    ) -> None:
        self._queue: queue.SimpleQueue[RunKey | None] = queue.SimpleQueue()
        self._pass = _Pass(storage, lock_timeout_s)
        self._retry_s = retry_s
        self.faults = 0
        self._programs: dict[RunKey, int] = {}  # the newest, while it is not answered
        self._thread: threading.Thread | None = None

    @property
    def waiting(self) -> int:
        """How often a run was named that was not looked at yet."""
        return self._queue.qsize()

    def start(self, journal: Journal) -> None:
        """Catches up with every run of the journal, then follows; returns at once."""
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._work, args=(journal,), name="lrpilot-trials", daemon=True
            )
            self._thread.start()

    def record(self, run: RunKey, records: Sequence[Record]) -> None:
        """Says that these records were journaled; returns at once and never raises."""
        if any(isinstance(record.event, Commanded) for record in records):
            self._pass.full.discard(run)  # a person may have judged what is long written
        if any([self._is_news(run, record) for record in records]):
            self._queue.put(run)

    def _is_news(self, run: RunKey, record: Record) -> bool:
        """A search's programs are looked at when it is over, not while it waits for the next."""
        event = record.event
        if isinstance(event, Decided) and event.decision.program is not None:
            self._programs[run] = event.decision.id
            return False
        asked = self._programs.get(run)
        if isinstance(event, ReceiptArrived) and event.receipt.decision_id == asked:
            del self._programs[run]
            return False
        return is_news(record)

    def close(self, timeout_s: float = 2.0) -> None:
        """Ends the thread once it has written what is queued, or after the timeout.

        What is not written by then is written at the next start.
        """
        self._queue.put(None)
        if self._thread is not None:
            self._thread.join(timeout_s)
            self._pass.closing.set()

    def _work(self, journal: Journal) -> None:
        runs: set[RunKey] | None = None  # all of them
        faults = 0
        try:
            open_ = True
            while open_:
                begin = time.monotonic()
                try:
                    if runs is None:
                        self._pass.everything(journal)
                    else:
                        self._pass.some(journal, runs)
                except Exception as error:
                    if self._pass.closing.is_set():
                        return
                    self._pass.close()
                    _tell(error, self._pass.place, first=not faults)
                    faults, runs = faults + 1, None
                    self.faults += 1
                    pause = min(self._retry_s * 2 ** (faults - 1), _LONGEST_PAUSE_S)
                    open_ = self._wait(pause)
                    continue
                if faults:
                    log.info("%s has caught up with the journal", self._pass.place.name)
                faults = 0
                rest = min(_REST * (time.monotonic() - begin), _LONGEST_REST_S)
                open_, runs = self._next(rest)
            if runs and not faults:
                self._pass.some(journal, runs)
        except Exception as error:
            log.debug("the last trials are written at the next start: %s", error)
        finally:
            self._pass.close()

    def _next(self, rest_s: float) -> tuple[bool, set[RunKey]]:
        """The runs that something happened to; False if nothing more will come."""
        rested = time.monotonic() + rest_s
        run = self._queue.get()
        runs: set[RunKey] = set()
        deadline = max(time.monotonic() + _SETTLE_S, rested)
        while run is not None:
            runs.add(run)
            try:
                run = self._queue.get(timeout=max(deadline - time.monotonic(), 0.0))
            except queue.Empty:
                return True, runs
        return False, runs

    def _wait(self, pause: float) -> bool:
        """Lets a fault pass; False if asked to close. Everything is compared afterwards."""
        deadline = time.monotonic() + pause
        while (left := deadline - time.monotonic()) > 0:
            try:
                if self._queue.get(timeout=left) is None:
                    return False
            except queue.Empty:
                break
        return True


class _Pass:
    """Comparing runs with their trials, and the book that stays open from one time to the next."""

    def __init__(self, storage: Storage | Path, timeout_s: float) -> None:
        self.place = place_of(storage)
        self.closing = threading.Event()
        self._timeout_s = timeout_s
        self._book: TrialBook | None = None
        self._strange: set[RunKey] = set()
        self._pages: dict[RunKey, tuple[int, float]] = {}  # what each tells, and since when
        self.full: set[RunKey] = set()  # all trials that they get are written

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
            try:
                pending |= self._one(journal, run)
            except _outages():
                raise
            except Exception as error:  # one run that cannot be told must not hide the others
                if run not in self._strange:
                    self._strange.add(run)
                    log.warning(
                        "the decisions of run %s cannot be copied to %s: %s; they are in the "
                        "journal (lrpilot show)",
                        run,
                        self.place.name,
                        words_of(error, self.place),
                    )
        return pending

    def _one(self, journal: Journal, run: RunKey) -> set[Identity]:
        """Compares one run; the decisions of it that are still open."""
        if run in self.full:
            self._draw(journal, run)
            return set()
        cases = read_cases(journal, run)
        entries = [entry_of(journal, case) for case in cases[:MAX_TRIALS]]
        entries += islice(search_entries(journal, run, time.time()), MAX_TRIALS)
        for entry in entries:
            self._opened().put(entry)
        if entries:
            self._draw(journal, run)
        pending = {entry.identity for entry in entries if entry.pending}
        if len(cases) > MAX_TRIALS and not pending:
            self.full.add(run)
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
        """Lets go of the file; it is opened again when needed."""
        book, self._book = self._book, None
        self._pages.clear()
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


def _tell(error: Exception, place: Place, *, first: bool) -> None:
    if not first:
        log.debug("%s still lags behind the journal: %s", place.name, error)
        return
    log.warning(
        "decisions are not being copied to %s for review; training and decisions go on, and it "
        "catches up by itself: %s",
        place.name,
        words_of(error, place),
    )
