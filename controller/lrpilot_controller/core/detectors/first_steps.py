"""A run's first steps: did the loss jump, and has the run made it good since?

Twice it is asked. Within a hundred reports a jump that stands out and is not made good is a
suspicion: a person is told. Runs at the edge of what they bear, and heavy-tailed noise, look so
too. Where the jump is still not made good at twice the time, and nothing like it happens by itself,
the suspicion is confirmed.
"""

from math import sqrt
from typing import Final

from lrpilot_controller.core.detectors.base import SlotState
from lrpilot_controller.core.detectors.level import LIMIT
from lrpilot_controller.core.detectors.windows import ROUNDING, median
from lrpilot_controller.core.model import Signal, SignalKind

BLOCK: Final = 16
"""Reports whose mean is a level."""

EARLY, LAST, CONFIRMED = 2, 6, 12
"""Blocks after which a run is suspected: from the first that two levels can be compared at, for
what is plain; at last, less strictly, when it has had time to gain; and when it is confirmed."""

PLAIN, CLEAR = 8.0, 4.0
"""Standard errors of a mean of two reports by which the jump must stand out, early and at last."""

GAINED: Final = 0.7
"""Times the jump that a run must have gained at last to be let off; early, and later on, once."""

STILL: Final = 1.0
"""A block that lies more than so many noise sd below the one before is still coming down."""

UNUSUAL: Final = 2.0
"""Times what pairs of reports rise above their level by themselves, before it is confirmed: noise
with a heavy tail does all the time what other noise never does."""

MOST_SUSPICIOUS: Final = 0.49
"""Severity of a suspicion at most. Beside a huge jump its noise vanishes, and a half is certain."""

LEARNS: Final = 0.25
"""Share of the jump that a run which learns makes good before the suspicion is confirmed."""

LEARNT: Final = 10.0
"""Times what pairs of reports rise above their level by themselves, beyond which a run has learnt
however high its loss had jumped: no loss can make good a jump to 1e20."""

DIFFERENCE_TO_SD: Final = 1.0 / 0.954
"""Gaussian: the median size of a difference of neighbours is .954 sd."""

DIFFERENCES: Final = 48
"""Of neighbours, whose median gives the noise of the first steps: half a jumpy start is enough."""

PAIR: Final = sqrt(2)


SHARE: Final = 3
"""A run whose length is known is not let go on for more than one part in so many of it."""


class FirstSteps(SlotState):
    """Judges the first reports of a run.

    Args:
        total_steps: The run's length where it is known.
    """

    __slots__ = (
        "_before",
        "_confirmed_at",
        "_count",
        "_crest",
        "_differences",
        "_last",
        "_lost",
        "_over",
        "_peak",
        "_since",
        "_start",
        "_sum",
        "_suspected",
        "_usual",
    )
    _state = (
        "confirmed_at",
        "over",
        "suspected",
        "lost",
        "count",
        "start",
        "last",
        "peak",
        "crest",
        "usual",
        "since",
        "sum",
        "before",
        "differences",
    )

    def __init__(self, total_steps: int | None = None) -> None:
        share = CONFIRMED if total_steps is None else total_steps // (SHARE * BLOCK)
        self._confirmed_at = BLOCK * min(max(share, LAST + 2), CONFIRMED)
        self._count = 0
        self._start = 0.0
        self._last = 0.0
        self._peak = 0.0  # highest mean of two neighbours
        self._since = 0  # its step
        self._crest = -LIMIT  # the same, of this block
        self._usual = 0.0  # highest crest over its block's level since it was suspected
        self._sum = 0.0  # of this block, relative to the start
        self._before = 0.0  # level of the block before; once suspected, of the last one then
        self._differences: list[float] = []
        self._lost = False  # the last loss was no number
        self._suspected = False
        self._over = False

    @property
    def over(self) -> bool:
        """Whether it will never have anything to say any more."""
        return self._over

    @property
    def doubtful(self) -> bool:
        """Whether the run has yet to make good how far its loss has jumped."""
        return not self._over and self._start - self._before < self._peak - self._start

    def add(self, step: int, loss: float) -> Signal | None:
        """Takes a loss; the signal that it completes."""
        self._lost = False
        count = self._count = self._count + 1
        if count == 1:
            self._start = self._before = self._peak = self._last = loss
            self._since = step
            return None
        pair = loss / 2 + self._last / 2
        if pair > self._crest:
            self._crest = pair
        if not self._suspected and pair > self._peak:
            self._peak, self._since = pair, step
        if len(self._differences) < DIFFERENCES:
            self._differences.append(abs(loss - self._last))
        self._last = loss
        self._sum += loss / BLOCK - self._start / BLOCK
        if count % BLOCK:
            return None
        level, self._sum = self._start + self._sum, 0.0
        crest, self._crest = self._crest - level, -LIMIT
        return self._confirm(step, level, crest) if self._suspected else self._suspect(step, level)

    def lose(self, step: int) -> Signal | None:
        """Takes a loss that is no number; the second in a row after a rise is certain."""
        certain, self._lost = self._lost, True
        if not certain or self._count < 2 or self._last <= self._start:
            return None
        self._over = True
        return self._signal(step, self._last, 1.0)

    def _suspect(self, step: int, level: float) -> Signal | None:
        blocks = self._count // BLOCK
        before, self._before = self._before, level
        if blocks < EARLY:
            return None
        noise = self._noise
        jump, gained = self._peak - self._start, self._start - level
        last = blocks == LAST
        error = max(noise / PAIR, ROUNDING * abs(self._start))
        far = (CLEAR if last else PLAIN) * error
        # The first loss alone may be low by luck: by one sd, where the peak is of two.
        stands_out = min(jump, self._peak - level) > far or -gained > far * PAIR
        kept = gained < jump * (GAINED if last else 1.0)
        self._suspected = stands_out and kept and before - level <= STILL * noise
        self._over = last and not self._suspected
        if not self._suspected:
            return None
        share = jump / (jump + max(gained, 0.0) + error) if jump > 0.0 else 0.0
        return self._signal(step, level, MOST_SUSPICIOUS * share)

    def _confirm(self, step: int, level: float, crest: float) -> Signal | None:
        self._usual = max(self._usual, crest)
        if self._count < self._confirmed_at:
            return None
        self._over = True
        jump, gained = self._peak - self._start, self._start - level
        learns = self._before - level > LEARNS * jump or gained > LEARNT * self._usual
        # A loss that stays above its start needs no jump beside it.
        by_itself = max(jump, 2.0 * -gained) < UNUSUAL * self._usual
        if gained > jump or learns or by_itself:
            return None
        share = max(gained, 0.0) / jump if jump > 0.0 else 0.0
        return self._signal(step, level, 1.0 - 0.5 * share)

    @property
    def _noise(self) -> float:
        return DIFFERENCE_TO_SD * median(self._differences)

    def _signal(self, step: int, level: float, severity: float) -> Signal:
        evidence = {
            "start": self._start,
            "peak": self._peak,
            "level": level,
            "noise": self._noise,
            "reports": float(self._count),
        }
        return Signal(SignalKind.TOO_HIGH, step, self._since, severity, evidence)
