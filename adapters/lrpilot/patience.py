"""How long training may wait for the daemon, and how long it did."""

import time
from collections.abc import Callable

# At the boundary of a program: at most so long each time, and in all so long plus a share of the
# run's wall time.
EACH_S = 0.25
IN_ALL_S = 2.0
SHARE = 0.01


class Patience:
    """The budget of waits at program boundaries.

    The wait before step 0 costs no step and has its own limit: it counts in `seconds` only.

    Args:
        clock: seconds; for tests.

    Attributes:
        seconds: waited so far, wherever.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._since = clock()
        self._spent = 0.0
        self.seconds = 0.0

    def allowance(self) -> float:
        """Seconds that the next boundary may take; 0 once the budget is spent."""
        budget = IN_ALL_S + SHARE * (self._clock() - self._since)
        return min(EACH_S, max(budget - self._spent, 0.0))

    def wait(
        self, wait: Callable[[float], bool], seconds: float, *, charged: bool = True
    ) -> tuple[bool, float]:
        """Wait at most so long for the daemon's word; (whether it came, seconds that it took)."""
        before, counted = self._clock(), self.seconds
        heard = wait(seconds)
        took = self._clock() - before
        self.seconds = counted + took  # waits for other ranks within it included
        if charged:
            self._spent += took
        return heard, took

    def count(self, seconds: float) -> None:
        """So long was waited for another rank: as in their own collectives, so not charged."""
        self.seconds += seconds
