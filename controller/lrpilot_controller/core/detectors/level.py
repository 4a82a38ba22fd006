"""Where a loss stands: level, start, best level, noise, and a unit to judge a rise in.

Everything here moves with the loss (`a * loss + b` gives the same picture, a > 0), is O(1) in
memory and time, and shrugs off a single outlier of any size.
"""

from math import isfinite, sqrt
from typing import Final

from lrpilot_controller.core.detectors.base import SlotState

LIMIT: Final = 1e300
"""Losses are clipped here, so that no difference of two of them overflows."""

FAST: Final = 1 / 4
"""Weight of a new loss in `level`: a handful of reports, so that a spike's turn shows at once."""

EBB: Final = 1 / 16
"""Rate at which `crest` comes down; slower than `level` itself, or an ebb would not show."""

SHARE: Final = 1 / 8
"""The slow level averages over the last eighth of the run: the descent of a loss is about a power
law, that is, self-similar in time, so its memory grows with the run's age and has no constant."""

SLOW_FIRST: Final = 1 / 4
"""Largest weight in the slow level, that of the first few reports."""

NOISE: Final = 1 / 32
"""Weight of a new difference in the noise estimate."""

NOISES_PER_UNIT: Final = 10.0
"""The unit is at least this many noise sd, so that a tenth of a unit is within the noise of one
loss, and an explosion (ten units) is a hundred sd: no noise, however heavy its tail."""

CLIP: Final = 10.0
"""Losses further than this many units from the best level enter the averages at this distance."""

LEARN_BELOW: Final = 0.5
"""The wander of the level is learnt only below this many units: what lies above is judged."""

MOST_WANDER: Final = 4.0
"""The slow noise counts up to so many times the fast one (a correlation of .95 between neighbours
gives three times); without an end to it, a rise would widen the unit as fast as it rises."""

RESOLUTION: Final = 2.0**-20
"""Differences below this share of the loss are rounding (a float32 has 24 bits)."""

FIRST: Final = 5
"""Reports that give the first noise estimate: the second smallest of their four differences. One
bad report spoils two of four; a run that blows up from its first steps on must not take that for
noise; and the smallest one would often be near zero by chance."""

FIRST_DOUBT: Final = 1.34
"""Two standard errors of the median of three, in noise sd. The best level may be low by luck; two
standard errors of it are no rise. They shrink as the slow average, of which it is one, grows."""

LOWEST_DOUBT: Final = 3.0
"""The same for the first of three losses that rise faster and faster: in noise it is the lowest
of three, nearly one sd below the mean, and known to one sd."""

TINY: Final = 1e-300
MEAN_DIFFERENCE_TO_SD: Final = 0.8862  # Gaussian: E|x1 - x2| = 2 sd / sqrt(pi)
MEAN_DEVIATION_TO_SD: Final = 1.2533  # Gaussian: E|x - mean| = sd sqrt(2 / pi)


class LossLevel(SlotState):
    """Statistics of one loss stream.

    A loss first passes a median of three, which removes lone outliers. `level` is its fast average,
    `best` the lowest *slow* average: the minimum of a fast one lies far under the mean of a loss
    that wanders. Noise is measured twice, from differences of neighbours (which trends and jumps
    do not touch) and as the deviation from the slow level (which sees slow wander as well).

    The `unit` of a rise is the range from the start to the best level, or ten noise sd where
    that is more, as it is until there is a range.
    """

    __slots__ = (
        "_before",
        "_best",
        "_count",
        "_crest",
        "_difference",
        "_doubt",
        "_last",
        "_least",
        "_level",
        "_slow",
        "_start",
        "_unit",
        "_wander",
    )
    _state = (
        "count",
        "last",
        "before",
        "start",
        "level",
        "crest",
        "slow",
        "best",
        "doubt",
        "difference",
        "least",
        "wander",
        "unit",
    )

    def __init__(self) -> None:
        self._count = 0  # finite losses seen
        self._last = 0.0  # the last two of them
        self._before = 0.0
        self._start = 0.0
        self._level = 0.0
        self._crest = 0.0  # upper envelope of the level, slowly ebbing
        self._slow = 0.0
        self._best = 0.0
        self._doubt = 0.0  # two standard errors of the best level, in noise sd
        self._difference = 0.0  # mean size of a difference of neighbours
        self._least = 0.0  # smallest of the first differences
        self._wander = 0.0  # mean deviation from the slow level
        self._unit = TINY

    def _first_noise(self, difference: float) -> None:
        """Keeps the two smallest differences of the first reports."""
        if self._count < 3:
            self._least = self._difference = difference if self._count == 2 else 0.0
        elif difference < self._least:
            self._difference = self._least
            self._least = difference
        elif difference < self._difference or self._count == 3:
            self._difference = difference

    @property
    def level(self) -> float | None:
        """The smoothed current loss; None until known."""
        return self._level if self._count >= 3 else None

    @property
    def best(self) -> float | None:
        """The best smoothed level of the run; None until known."""
        return self._best if self._count >= 3 else None

    @property
    def start(self) -> float | None:
        """The initial level, the median of the first three losses; the first of them where they
        rise faster and faster, which is an explosion on its way. None until known."""
        return self._start if self._count >= 3 else None

    @property
    def noise(self) -> float | None:
        """Standard deviation of one loss around its trend; None until known."""
        return self._difference * MEAN_DIFFERENCE_TO_SD if self._count >= 3 else None

    @property
    def count(self) -> int:
        """Losses so far."""
        return self._count

    @property
    def gained(self) -> bool:
        """Whether the slow level is not above the start; True until known."""
        return self._slow <= self._start

    @property
    def unit(self) -> float | None:
        """What one unit of rise is, in units of the loss; None until known."""
        return self._unit if self._count >= 3 else None

    @property
    def rise(self) -> float:
        """How far the level is above the best one, in units; 0 until known."""
        return (self._level - self._best) / self._unit

    def ebbing(self, share: float) -> bool:
        """Whether the level is coming down from a recent crest.

        Args:
            share: Of the crest's height over the best level, how much must be gone. One noise sd
                more must be gone, since the crest of a noisy level is a little above it.
        """
        gone = self._crest - self._level
        return gone > share * (self._crest - self._best) + self._difference * MEAN_DIFFERENCE_TO_SD

    def add(self, loss: float) -> float:
        """Takes the next loss, which must not be NaN or infinite.

        Returns:
            The rise of this report (the median of the last three) over the best level and the
            doubt about it, in units; 0 until known.
        """
        if not -LIMIT < loss < LIMIT:
            if not isfinite(loss):
                raise ValueError("a non-finite loss has no place in the statistics")
            loss = LIMIT if loss > 0 else -LIMIT
        self._count = count = self._count + 1
        last = self._last
        before = self._before
        self._before = last
        self._last = loss
        difference = loss - last if loss > last else last - loss
        if count <= FIRST:
            self._first_noise(difference)
            if count < 3:
                return 0.0
        if last < before:
            median = last if loss < last else before if loss > before else loss
        else:
            median = before if loss < before else last if loss > last else loss
        if count == 3:
            self._doubt = FIRST_DOUBT
            if before < last < loss and loss - last > last - before:
                median = before  # an explosion from the first step on started here
                self._doubt = LOWEST_DOUBT
            self._start = self._level = self._crest = self._slow = self._best = median

        # The unit of this report, from what was known before it.
        best = self._best
        noise = self._difference
        if noise == 0.0:
            noise = difference  # the first report that differs: what else should its noise be
        sd = MEAN_DIFFERENCE_TO_SD * noise
        wander = MEAN_DEVIATION_TO_SD * self._wander
        if wander > sd:
            sd = wander if wander < MOST_WANDER * sd else MOST_WANDER * sd
        unit = NOISES_PER_UNIT * sd
        if self._start - best > unit:
            unit = self._start - best
        floor = RESOLUTION * (median if median > 0 else -median)
        if floor > unit:
            unit = floor
        if unit < TINY:
            unit = TINY
        self._unit = unit
        rise = (median - best - self._doubt * sd) / unit

        # Noise. A difference counts at most twice the mean one, so an outlier changes little; far
        # above the best level it learns slowly, or a blow-up would pass for noise.
        if count > FIRST:
            if difference > 2.0 * noise:
                difference = 2.0 * noise
            if loss - best > CLIP * unit:
                weight = NOISE / 4
            elif count < 32:
                weight = 1.0 / count if count > 8 else 0.125
            else:
                weight = NOISE
            self._difference = noise + (difference - noise) * weight

        if rise > CLIP:
            median = best + CLIP * unit
        elif rise < -CLIP:
            median = best - CLIP * unit
        weight = SLOW_FIRST if count < 32 else 1.0 / (SHARE * count)
        slow = self._slow
        deviation = median - slow
        self._slow = slow = slow + deviation * weight
        if rise < LEARN_BELOW and self._level - best < LEARN_BELOW * unit:
            if deviation < 0.0:
                deviation = -deviation
            self._wander += (deviation - self._wander) * weight
        if slow < best:
            self._best = slow
            self._doubt = 2.0 * sqrt(weight)
        self._level = level = self._level + (median - self._level) * FAST
        crest = self._crest
        self._crest = level if level > crest else crest + (level - crest) * EBB
        return rise
