"""When a pilot takes snapshots, and which of its two slots holds which."""

import math
import time
from collections.abc import Callable

# Snapshots may take this share of the run's wall time.
TIME_SHARE = 0.01
# Steps between snapshots where no horizon is known, and bounds where one is (a 25th of it).
DEFAULT_INTERVAL = 100
SHORTEST, LONGEST = 10, 1000


class SnapshotKeeper:
    """Two slots: the newest proven snapshot, and one that waits for the daemon's proof.

    A proven snapshot is only ever replaced by a proven one. The interval adapts so that copying
    stays within `TIME_SHARE` of the wall time, the device's as well. While a search is on,
    snapshots are kept only on the daemon's word; such a one stays until another takes its place.

    Attributes:
        next_step: when `take` is due; infinite while none is.
        seconds: of the training thread that were spent on copying so far.
        usable: False once a copy failed.
        start_lost: whether the first snapshot comes after an update; it waits for its proof then.

    Args:
        copy: copies the training state into a slot; may return the seconds that such a copy takes
            a device beside the call.
        total_steps: the run's horizon, if known.
        clock: seconds; for tests.
    """

    def __init__(
        self,
        copy: Callable[[int], float | None],
        total_steps: int | None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._copy = copy
        self._clock = clock
        self._least = DEFAULT_INTERVAL
        if total_steps is not None:
            self._least = min(max(total_steps // 25, SHORTEST), LONGEST)
        self._slots: dict[int, int] = {}
        self._steps: dict[int, int] = {}
        self._proven: int | None = None
        self._pending: int | None = None
        self._kept: int | None = None
        self._paused = False
        self._last_id = 0
        self._last_taken: tuple[int, float] | None = None
        self.next_step: float = 0
        self.seconds = 0.0
        self.usable = True
        self.start_lost = False

    @property
    def taken(self) -> int:
        """Snapshots so far."""
        return self._last_id

    def take(self, step: int) -> tuple[int, bool] | None:
        """Take a snapshot of the state before `step`; (id, proven), or None while one waits.

        The first one, the state that the run starts with, is proven by definition.
        """
        if self._pending is not None:
            self.next_step = math.inf  # until the daemon has spoken
            return None
        first = self._proven is None and not self.start_lost
        before = self._clock()
        beside = self._copy_to_spare(step)
        now = self._clock()
        if first:
            self._proven = self._last_id
        else:
            self._pending = self._last_id
        self.next_step = step + self._interval(step, before, now - before + beside)
        self._last_taken = (step, now)
        return self._last_id, first

    def keep(self, step: int) -> int:
        """Keep the state before `step` as it is, instead of what is not proven; returns its id."""
        self._pending = None
        self._copy_to_spare(step)
        self._kept = self._last_id
        return self._kept

    def _copy_to_spare(self, step: int) -> float:
        spare, self._kept = self._spare, None
        self._slots = {i: slot for i, slot in self._slots.items() if slot != spare}
        before = self._clock()
        beside = self._copy(spare) or 0.0
        self.seconds += self._clock() - before
        self._last_id += 1
        self._slots[self._last_id] = spare
        self._steps = {i: self._steps.get(i, step) for i in self._slots}
        return beside

    @property
    def proven(self) -> tuple[int, int] | None:
        """The newest proven snapshot, and the step that its state is before."""
        return None if self._proven is None else (self._proven, self._steps[self._proven])

    @property
    def _spare(self) -> int:
        """The slot that does not hold the proven snapshot."""
        return 0 if self._proven is None else 1 - self._slots[self._proven]

    def held(self, *, after_keep: bool) -> set[int]:
        """The snapshots that can be restored, now or once `keep` was called."""
        if not after_keep:
            return set(self._slots)
        return {i for i, s in self._slots.items() if s != self._spare} | {self._last_id + 1}

    def pause(self) -> None:
        """Take none by the interval until `resume`: a search is on."""
        self._paused, self.next_step = True, math.inf

    def resume(self, step: int) -> None:
        """The search is over at `step`: the interval begins anew."""
        if self._paused and self.usable:
            self.next_step = step + self._least
        self._paused = False

    def give_up(self) -> None:
        """No more snapshots: there is no memory for them."""
        self.usable, self.next_step = False, math.inf

    def _interval(self, step: int, before: float, cost: float) -> int:
        if self._last_taken is None or step <= self._last_taken[0]:
            return self._least
        per_step = (before - self._last_taken[1]) / (step - self._last_taken[0])
        affordable = math.ceil(cost / (TIME_SHARE * max(per_step, 1e-9)))
        return max(self._least, affordable)

    def prove(self, snapshot: int, step: int) -> None:
        """The daemon says that training stayed healthy after this snapshot."""
        if snapshot == self._kept:
            self._proven, self._kept = snapshot, None
        elif snapshot == self._pending:
            self._proven, self._pending = snapshot, None
            if self.next_step == math.inf and not self._paused:
                self.next_step = step

    def slot_of(self, snapshot: int) -> int | None:
        """Where a snapshot lies, if it is still held."""
        return self._slots.get(snapshot)

    def rolled_back(self, step: int) -> None:
        """The branch was left: what waited for its proof will never get it."""
        if self._pending is not None:
            self._slots.pop(self._pending, None)
            self._pending = None
        if not self._paused:
            self.next_step = step + self._least
