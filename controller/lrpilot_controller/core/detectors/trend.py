"""Plateau and too low: what the trend of the loss says, over the whole of a learning rate's time.

The descent of a loss is about a power law, that is, self-similar in time: its slope *per doubling*
changes slowly, whatever the step. So the whole history since the learning rate changed is kept in
at most 32 blocks of equal length, and the newest fifth and two fifths of it are compared with what
came before.

*Plateau*: the slope per unit of log time is within a fifth of what it was, with two standard errors
to spare: a test of equivalence, not of a difference that could not be shown. From the reference
span to the recent one, log time grows by about one; even a loss that falls like 1/t keeps a third.

*Too low*: the second half of the time descends as fast per step as the first, in a straight line. A
learning rate near its best bends the curve long before.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import log, sqrt
from typing import Final

from lrpilot_controller.core.detectors.base import NO_SIGNALS, SlotState
from lrpilot_controller.core.detectors.level import LIMIT
from lrpilot_controller.core.detectors.windows import ROUNDING, Windows, line, middle, whole_epochs
from lrpilot_controller.core.model import Signal, SignalKind

MOST: Final = 32
"""Blocks: beyond, neighbours are merged. A thirty-second of the time is as fine as needed."""

FEWEST: Final = 6
"""Blocks before anything is said."""

LOOKS: Final = (0.2, 0.4)
"""Shares of the time that are looked at: a short one for speed, a long one for noisy losses."""

SHORTEST: Final = 4
"""Blocks in a look, so that the scatter about its line is known."""

BEFORE: Final = 4.0
"""The reference span reaches back to this fraction of the time at which the look begins."""

FLAT: Final = 0.2
"""Share of the reference slope that is no descent any more."""

CONFIDENCE: Final = 2.0
"""Standard errors: 97.7 %, one-sided. It is looked at some seventy times in a run."""

STRAIGHT: Final = 0.8
"""Share of the first half's slope that the second must keep. A power law through the start keeps
less than half, an exponential decay four fifths until a seventh of its range is gone."""

EXACT: Final = 0.1
"""Relative standard error to which both slopes must be known."""

STRAIGHT_BLOCKS: Final = 8
"""Blocks before `too_low` is said: four on either side."""

LR_CHANGE: Final = 0.1
"""A cut at once, or a raise since the beginning, by more than this begins a new trend. A decay does
not: it only makes a descent slower, and a plateau under it is one."""


@dataclass(frozen=True, slots=True)
class Slope:
    """A descent per report (positive: the loss falls), and its standard error."""

    descent: float
    error: float

    @classmethod
    def of(cls, levels: list[float], width: int) -> "Slope":
        """Of blocks of `width` reports, by least squares; their scatter gives the error."""
        slope, deviations = line(levels)
        scale = max(map(abs, deviations)) or 1.0  # squares of clipped losses would overflow
        squares = sum((d / scale) ** 2 for d in deviations)
        products = sum(a / scale * (b / scale) for a, b in pairwise(deviations))
        likeness = min(max(products / squares, 0.0), 0.9) if squares else 0.0
        count = len(levels)
        variance = squares / (count - 2) * (1 + likeness) / (1 - likeness)
        spread = count * (count * count - 1) / 12
        return cls(-slope / width, scale * sqrt(variance / spread) / width)


@dataclass(frozen=True, slots=True)
class Look:
    """Descents per unit of log time: over the newest reports, give or take, and before them."""

    reports: int
    now: float
    doubt: float
    before: float

    @property
    def most(self) -> float:
        """The steepest that the newest trend can be, up or down."""
        return abs(self.now) + self.doubt

    @property
    def least(self) -> float:
        """The least that it descends."""
        return self.now - self.doubt


class TrendDetector(SlotState):
    """Raises `plateau` once per plateau, and `too_low` once per learning rate.

    After a plateau the next one needs a clear descent, or another learning rate, in between.

    Args:
        steps_per_epoch: The epoch's length where it is known: a sawtooth is then no trend.
    """

    name = "trend"
    __slots__ = (
        "_blocks",
        "_first_lr",
        "_flat",
        "_lr",
        "_merged",
        "_straight",
        "_sum",
        "_width",
        "_windows",
    )
    _state = (
        "windows",
        "blocks",
        "merged",
        "sum",
        "width",
        "flat",
        "straight",
        "lr",
        "first_lr",
    )

    def __init__(self, steps_per_epoch: int | None = None) -> None:
        self._windows = Windows(whole_epochs(steps_per_epoch))
        self._lr: float | None = None
        self._begin(None)

    def _begin(self, lr: float | None) -> None:
        self._windows.clear()
        self._blocks: list[float] = []  # their levels
        self._sum = 0.0  # of the windows' levels in the block that is being filled: their share
        self._merged = 0  # how many there are
        self._width = 1  # windows per block
        self._flat = 0.0  # the reference slope of the plateau that was told of
        self._straight = False  # too_low was told of
        self._first_lr = lr

    def update(
        self, step: int, train_loss: float | None, val_loss: float | None, lr: float | None
    ) -> Sequence[Signal]:
        """Takes one report; see `Detector.update`."""
        if lr != self._lr and lr is not None:
            self._see_rate(lr)
        if train_loss is None or (losses := self._windows.add(train_loss)) is None:
            return NO_SIGNALS
        self._sum += middle(sorted(losses)) / self._width
        self._merged += 1
        if self._merged < self._width:
            return NO_SIGNALS
        self._blocks.append(self._sum)
        self._sum, self._merged = 0.0, 0
        signals = self._judge(step)
        if len(self._blocks) == MOST:
            pairs = zip(self._blocks[::2], self._blocks[1::2], strict=True)
            self._blocks = [a / 2 + b / 2 for a, b in pairs]
            self._width *= 2
        return signals

    def _see_rate(self, lr: float) -> None:
        if not 0.0 <= lr < LIMIT:
            return  # not a rate
        last, first = self._lr, self._first_lr
        self._lr = lr
        cut = last is not None and lr < (1 - LR_CHANGE) * last
        raised = first is not None and lr > (1 + LR_CHANGE) * first
        if first is None or cut or raised:
            self._begin(lr)

    def _judge(self, step: int) -> Sequence[Signal]:
        if len(self._blocks) < FEWEST:
            return NO_SIGNALS
        plateau = self._plateau(step)
        too_low = self._too_low(step)
        return tuple(signal for signal in (plateau, too_low) if signal is not None)

    def _plateau(self, step: int) -> Signal | None:
        looks = [look for share in LOOKS if (look := self._look(share)) is not None]
        flat = next((look for look in looks if look.most < FLAT * look.before), None)
        if flat is None:
            limits = [FLAT * max(look.before, self._flat) for look in looks]
            descends = [look.least > limit for look, limit in zip(looks, limits, strict=True)]
            if looks and all(descends):
                self._flat = 0.0
            return None
        if self._flat:
            return None
        self._flat = flat.before
        evidence = {
            "descent": flat.now,
            "doubt": flat.doubt,
            "descent_before": flat.before,
            "level": self._blocks[-1],
            "reports": float(flat.reports),
        }
        since = max(0, step - flat.reports + 1)
        severity = 1.0 - flat.most / flat.before
        return Signal(SignalKind.PLATEAU, step, since, severity, evidence)

    def _look(self, share: float) -> Look | None:
        """The newest share of the time against what came before; None where that tells nothing."""
        count, width = len(self._blocks), self._width * self._windows.size
        look = max(SHORTEST, round(share * count))
        before = self._before(count - look)
        if before <= ROUNDING * abs(self._blocks[-1]):
            return None
        slope = Slope.of(self._blocks[-look:], width)
        # Per unit of log time: the descent per report times the time.
        at = (count - look / 2) * width
        return Look(look * width, slope.descent * at, CONFIDENCE * slope.error * at, before)

    def _before(self, end: int) -> float:
        """The descent per unit of log time over the blocks before `end`: by the best levels.

        A spike does not touch them, nor does the noise of the last block on its own.
        """
        best, lowest = [], self._blocks[0]
        for level in self._blocks[:end]:
            lowest = min(lowest, level)
            best.append(lowest)
        last = end - 0.5  # the middle of the last block, in blocks
        first = max(last / BEFORE, 0.5)
        if first >= last:
            return 0.0
        i = min(int(first - 0.5), end - 2)
        share = first - 0.5 - i
        start = best[i] + (best[i + 1] - best[i]) * share
        return (start - best[-1]) / log(last / first)

    def _too_low(self, step: int) -> Signal | None:
        count, width = len(self._blocks), self._width * self._windows.size
        if self._straight or count < STRAIGHT_BLOCKS:
            return None
        half = count // 2
        early = Slope.of(self._blocks[:half], width)
        late = Slope.of(self._blocks[-half:], width)
        exact = all(slope.error < EXACT * slope.descent for slope in (early, late))
        rounding = ROUNDING * abs(self._blocks[-1]) / (half * width)
        if not exact or early.descent <= rounding or late.descent < STRAIGHT * early.descent:
            return None
        self._straight = True
        kept = late.descent / early.descent
        evidence = {
            "descent": late.descent,
            "descent_before": early.descent,
            "kept": kept,
            "level": self._blocks[-1],
            "reports": float(count * width),
        }
        since = max(0, step - count * width + 1)
        return Signal(SignalKind.TOO_LOW, step, since, min(1.0, kept / 2), evidence)
