"""What is kept for how long: old telemetry is thinned, runs that nobody looks at are dropped.

Only what no engine needs is thinned: records before the oldest state that is kept of the run.
"""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, takewhile

from lrpilot_controller.core.telemetry import Samples, Thinned
from lrpilot_controller.journal.base import Held, Journal, Record, RunKey
from lrpilot_controller.journal.thinning import EVIDENCE, STRETCH, newest, spans_of, thin
from lrpilot_controller.journal.writer import JournalWriter

log = logging.getLogger(__name__)

DAY_S = 86_400.0
SLACK = 1.25  # over the limit before a run is thinned to it: a pass is then worth its reading
MOST_ROWS = 8192  # about so many samples are left of all that was thinned of a run
FULL = 0.9  # of the journal's size, from which on finished runs are thinned too


@dataclass(frozen=True, slots=True)
class Keep:
    """The section `[retention]` of the daemon's file.

    Attributes:
        days: a run whose last record is older is dropped with everything of it; None: never.
        samples: of a run, the newest, that are kept one by one; beside them what is around
            evidence, which is again as many at most.
    """

    days: float | None = None
    samples: int = 200_000


class Retention:
    """Thins and drops in short transactions of the writer, on the calling thread.

    Args:
        journal: what is kept.
        writer: through which all is done.
        keep: how much.
        most_bytes: of the journal. Near it the runs that were seen the longest ago are thinned.
    """

    def __init__(
        self,
        journal: Journal,
        writer: JournalWriter,
        keep: Keep,
        most_bytes: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._journal = journal
        self._writer = writer
        self._keep = keep
        self._most_bytes = most_bytes
        self._clock = clock
        self._new: dict[RunKey, int] = {}  # samples since the run was looked at
        self._known = False  # whether every run was looked at once
        self._done: dict[RunKey, int] = {}  # the record up to which a run is thinned
        self._spent: set[RunKey] = set()  # nothing more can be had of them
        self._told: set[RunKey] = set()

    def heard(self, run: RunKey, records: Sequence[Record]) -> None:
        """These were journaled. May be called by another thread than the rest; takes no time."""
        fresh = sum(len(r.event.step) for r in records if isinstance(r.event, Samples))
        if fresh:
            self._new[run] = self._new.get(run, 0) + fresh
            self._spent.discard(run)

    def forgotten(self, run: RunKey) -> None:
        """It was dropped: one of its name is another run. Not to be called within `look`."""
        for kept in (self._new, self._done):
            kept.pop(run, None)
        for noted in (self._spent, self._told):
            noted.discard(run)

    def expired(self) -> list[RunKey]:
        """The runs whose last record is older than what is kept."""
        if self._keep.days is None:
            return []
        horizon = self._clock() - self._keep.days * DAY_S
        return [run for run, _ in takewhile(lambda seen: seen[1] < horizon, self._seen())]

    def look(self, live: Callable[[RunKey], bool]) -> None:
        """Thins what is too much, and gives back the room of what was dropped.

        Args:
            live: whether a run has a session now.

        Raises:
            JournalError: the journal cannot be read or written now; the next look goes on.
        """
        due = SLACK * self._keep.samples - self._keep.samples
        runs = self._journal.runs() if not self._known else [*self._new]
        for run in runs:
            if not self._known or self._new.get(run, 0) >= due:
                self._thin(run, self._keep.samples, self._keep.samples)
        self._known = True
        for run, _ in self._seen() if self._is_full() else ():
            if run not in self._spent and not live(run):
                self._thin(run, 0, self._keep.samples)
                if self._is_full():
                    self._thin(run, 0, 0)
                self._spent.add(run)
            if not self._is_full():
                break
        while self._writer.call(self._journal.sweep).result():
            pass

    def _thin(self, run: RunKey, samples: int, around: int) -> None:
        """Thin a run to its newest `samples`, and the newest `around` of those near evidence."""
        held = self._journal.telemetry(run)
        whole = [record.items for record in held if record.whole]
        total = sum(whole)
        if total <= SLACK * samples:
            self._new[run] = 0
            return
        before = min(_before_newest(held, samples), self._oldest_state(run))
        done = self._done.get(run, 0)
        if before <= done and samples:
            return
        stretch = STRETCH
        while 2 * sum(r.items for r in held if not r.whole) > MOST_ROWS * stretch:
            stretch *= 2
        evidence = spans_of(self._journal.records(run, kinds=EVIDENCE))
        spans = newest(evidence, around, batch=total / len(whole))
        for one in thin(self._old(run, before), spans, stretch):
            work = partial(self._journal.thin, run, one.first, one.last, one.thinned)
            self._writer.call(work).result()
        self._done[run] = before
        self._new[run] = 0

    def _old(self, run: RunKey, before: int) -> Iterator[Record]:
        records = self._journal.records(run, kinds=(Samples, Thinned))
        return takewhile(lambda record: record.n <= before, records)

    def _oldest_state(self, run: RunKey) -> int:
        """The record up to which no engine needs telemetry."""
        state = self._journal.checkpoint(run)
        if state is None:
            if run not in self._told:
                self._told.add(run)
                log.info("run %s has no kept state: all of its telemetry is needed", run)
            return 0
        older = self._journal.checkpoint(run, before=state.n - 1)
        return (older or state).n

    def _seen(self) -> list[tuple[RunKey, float]]:
        return self._journal.last_seen()

    def _is_full(self) -> bool:
        return self._journal.size() > FULL * self._most_bytes


def _before_newest(held: Sequence[Held], samples: int) -> int:
    """The last record before those that hold the newest `samples` one by one."""
    whole = [record for record in reversed(held) if record.whole]
    for record, items in zip(whole, accumulate(record.items for record in whole), strict=True):
        if items - record.items >= samples:
            return record.n
    return 0
