"""Keeps the trials in step with the journal, on a thread of its own.

The journal is the truth, and the file of trials a copy for review. Nothing is carried from an
event to a trial: an event only says which run to look at, and the run's decisions are read from
the journal and compared with what is written. So a missed event, a locked or deleted file or a
restart all end the same way: what is missing is written.
"""

import logging
import math
import queue
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from lrpilot_controller.core.events import Commanded, Decided, ReceiptArrived
from lrpilot_controller.journal.base import Journal, Record, RunKey
from lrpilot_controller.storage import Storage
from lrpilot_controller.tuning.cases import is_news
from lrpilot_controller.tuning.copying import Pass
from lrpilot_controller.tuning.faults import words_of
from lrpilot_controller.tuning.places import Place

log = logging.getLogger(__name__)

# Events come in twos and threes: a goodbye, then the outcome that it leads to.
_SETTLE_S = 0.05
# Looking at a run costs the more the longer it is, and runs that open a session every second can
# make something new of everything: about a fifth of the time goes into it.
_REST = 4.0
_LONGEST_REST_S = 5.0
_LONGEST_PAUSE_S = 60.0


def reconcile(storage: Storage | Path, journal: Journal, timeout_s: float = 0.0) -> None:
    """Brings the trials in `storage` up to the journal, once, on the calling thread.

    Raises:
        TrialsUnavailable: The file cannot be written now, or a daemon writes it.
        JournalError: The journal cannot be read.
        ImportError: Optuna is not installed.
    """
    pass_over = Pass(storage, timeout_s)
    try:
        pass_over.everything(journal)
        while pass_over.draw(journal):
            pass
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
        self._pass = Pass(storage, lock_timeout_s)
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
            self._pass.judged.add(run)  # perhaps a decision that is long written
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
        faults, drawn = 0, time.monotonic()
        try:
            open_ = True
            while open_:
                begin = time.monotonic()
                try:
                    if runs is None:
                        self._pass.everything(journal)
                    elif runs:
                        self._pass.some(journal, runs)
                    else:
                        self._pass.draw(journal)
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
                now = time.monotonic()
                rested = now + min(_REST * (now - begin), _LONGEST_REST_S)
                # The next run may be about to ask what this one found: its trial waits for no page.
                drew = runs is not None and not runs
                drawn = rested if drew else drawn
                open_, runs = self._next(now if drew else rested, drawn)
            if not faults:
                self._pass.some(journal, runs or ())
                while self._pass.draw(journal):
                    pass
        except Exception as error:
            log.debug("the last trials are written at the next start: %s", error)
        finally:
            self._pass.close()

    def _next(self, rested: float, drawn: float) -> tuple[bool, set[RunKey]]:
        """The runs that something happened to; False if nothing more will come.

        Args:
            rested: When runs may be looked at again.
            drawn: When a page may be drawn again; if one is due then, there are no runs.
        """
        runs: set[RunKey] = set()
        due = drawn - time.monotonic() if self._pass.undrawn else math.inf
        if due < -_LONGEST_REST_S:  # there is always something that is written before it
            return True, runs
        try:
            run = self._queue.get(timeout=None if due == math.inf else max(due, 0.0))
        except queue.Empty:
            return True, runs
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
