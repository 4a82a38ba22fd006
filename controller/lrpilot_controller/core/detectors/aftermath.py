"""An explosion in a run's first steps, judged after the fact.

A rate far too high often does not end in NaN. The loss shoots up within a few steps, while nothing
is known yet of its noise, and falls back to about where it started: the units are dead or saturated
and nothing will be learnt any more. Once the run has settled its noise is known, and with it how
far the loss had been above where it is now.
"""

from typing import Final

from lrpilot_controller.core.detectors.base import SlotState
from lrpilot_controller.core.detectors.level import MEAN_DEVIATION_TO_SD, MEAN_DIFFERENCE_TO_SD

BLOCK: Final = 16
"""Reports whose mean and noise are judged together. Their differences give the noise to a fifth;
fewer would not, and every block is a delay."""

WATCHED: Final = 12
"""Blocks that are watched: what has not settled by then is no matter of the first steps."""

EXCURSION: Final = 8.0
"""Noise sd of the settled run by which the smoothed loss was above it. The smoothed loss of pure
noise stays within three, whatever the tail."""

LEARNT: Final = 1.5
"""Noise sd below the start that count as learnt: the start is known to about one."""

STILL: Final = 1.0
"""A block that is more than so many noise sd below the one before is still coming down."""


class Aftermath(SlotState):
    """Says once that a run went far above its start, came back, and has learnt nothing.

    A block whose mean is clearly below the start ends the watch: what rises from there on has a
    range to be judged in. Every quantity is a difference or a ratio of differences of losses.
    """

    __slots__ = (
        "_before",
        "_blocks",
        "_deviations",
        "_differences",
        "_last",
        "_over",
        "_peak",
        "_seen",
        "_since",
        "_sum",
    )
    _state = (
        "over",
        "seen",
        "blocks",
        "sum",
        "deviations",
        "differences",
        "last",
        "before",
        "peak",
        "since",
    )

    def __init__(self) -> None:
        self._over = False  # nothing more to say
        self._seen = 0  # reports in this block
        self._blocks = 0
        self._sum = 0.0  # of the losses in this block, relative to the start
        self._deviations = 0.0  # from the mean of the block before
        self._differences = 0.0  # of neighbours
        self._last = 0.0
        self._before = 0.0  # mean of the block before
        self._peak = 0.0  # highest level so far, relative to the start
        self._since = 0  # its step

    @property
    def over(self) -> bool:
        """Whether it has spoken, or will never have a reason to."""
        return self._over

    @property
    def since(self) -> int:
        """The step at which the level was highest."""
        return self._since

    def add(self, step: int, loss: float, level: float, start: float) -> bool:
        """Takes a loss within `LIMIT`, the level with it and the run's start.

        Returns:
            Whether the block that ends here gives a lost run away.
        """
        loss -= start
        level -= start
        seen = self._seen = self._seen + 1
        if level > self._peak:
            self._peak = level
            self._since = step
        self._sum += loss
        last = self._last
        self._last = loss
        self._differences += loss - last if loss > last else last - loss
        before = self._before
        self._deviations += loss - before if loss > before else before - loss
        if seen < BLOCK:
            return False
        return self._judge()

    def _judge(self) -> bool:
        mean = self._sum / BLOCK
        fast = MEAN_DIFFERENCE_TO_SD * self._differences / BLOCK
        noise = max(fast, MEAN_DEVIATION_TO_SD * self._deviations / BLOCK)
        self._seen = 0
        self._sum = self._deviations = self._differences = 0.0
        before, self._before = self._before, mean
        if mean < -LEARNT * fast:
            self._over = True
            return False
        settled = self._blocks > 0 and before - mean <= STILL * noise
        found = settled and self._peak - mean > EXCURSION * noise > 0.0
        self._blocks += 1
        self._over = found or self._blocks >= WATCHED
        return found
