"""Spike: a loss far above its level, for a moment or for a while. It is told at once.

What is far is measured by what the run's own noise does: the highest excess over the level in each
window of reports, the middle one of the last eight windows. For Gaussian noise that is two standard
deviations, for the log-normal noise of single samples many more, so that no assumption about the
noise is needed. A spike of less than a share of what the run has gained so far matters to nobody.

Most spikes recover by themselves. What does not is a divergence, and another detector's business.
"""

from collections.abc import Sequence
from typing import Final

from lrpilot_controller.core.detectors.base import NO_SIGNALS, SlotState
from lrpilot_controller.core.detectors.divergence import SLACK
from lrpilot_controller.core.detectors.level import LIMIT, RESOLUTION, TINY
from lrpilot_controller.core.detectors.windows import WINDOW, finite, median
from lrpilot_controller.core.model import Signal, SignalKind

FAR: Final = 5.0
"""Times the usual highest excess of a window: ten standard deviations of Gaussian noise, and what
happens once in ten thousand reports where single losses scatter by a factor of two."""

WINDOWS: Final = 8
"""Windows whose highest excesses are remembered: a spike spoils one, its tail two or three."""

FEWEST: Final = 2
"""Windows before it speaks: a run's first steps jump by themselves."""

MEMORY: Final = 1 / 16
"""Weight of a new report in the average and in the average of that: together they follow a descent
without a lag (Brown's double exponential smoothing), and a spike of a few reports slowly."""

APART: Final = 16
"""Reports between two spikes: what comes sooner after the last one is the same story."""

BACK: Final = 0.5
"""A spike is over once this share of its height is gone, or the level has come up to there: then it
is no moment, but where the loss now is. Nor may it stand out any more; a rise after that is another
spike."""


class SpikeDetector(SlotState):
    """Raises one signal per spike, with the report that stands out."""

    name = "spike"
    __slots__ = (
        "_average",
        "_before",
        "_best",
        "_count",
        "_excesses",
        "_foot",
        "_highest",
        "_lagging",
        "_last",
        "_last_one",
        "_on",
        "_peak",
        "_start",
        "_usual",
    )
    _state = (
        "count",
        "last",
        "last_one",
        "before",
        "average",
        "lagging",
        "start",
        "best",
        "highest",
        "excesses",
        "usual",
        "on",
        "foot",
        "peak",
    )

    def __init__(self) -> None:
        self._count = 0
        self._last = 0.0  # the last two losses
        self._before = 0.0
        self._average = 0.0
        self._lagging = 0.0  # the average of the average: the level is ahead of it by twice the lag
        self._start = 0.0  # the first average, and the lowest
        self._best = 0.0
        self._highest = 0.0  # excess in this window
        self._excesses: list[float] = []  # of the last windows
        self._usual = 0.0  # the middle one of them
        self._last_one = -APART  # the report that stood out last
        self._on = False
        self._foot = 0.0  # level and highest loss of the spike that is on
        self._peak = 0.0

    @property
    def on(self) -> bool:
        """Whether a spike is on: no time to judge a learning rate by."""
        return self._on

    def update(
        self, step: int, train_loss: float | None, val_loss: float | None, lr: float | None
    ) -> Sequence[Signal]:
        """Takes one report; see `Detector.update`."""
        if train_loss is None:
            return NO_SIGNALS
        loss = train_loss
        if not -LIMIT < loss < LIMIT:
            if (kept := finite(loss)) is None:
                return NO_SIGNALS
            loss = kept
        count = self._count = self._count + 1
        last, before = self._last, self._before
        self._before, self._last = last, loss
        if count < 3:
            return NO_SIGNALS
        if last < before:
            middle = last if loss < last else before if loss > before else loss
        else:
            middle = before if loss < before else last if loss > last else loss
        if count == 3:
            self._average = self._lagging = self._start = self._best = middle
        average = self._average
        level = 2.0 * average - self._lagging
        excess = loss - level
        far = FAR * self._usual
        if (gained := SLACK * (self._start - self._best)) > far:
            far = gained
        if far == 0.0:
            # The first loss that differs: rounding is no spike.
            far = max(RESOLUTION * abs(level), TINY)
        found = False
        if len(self._excesses) >= FEWEST:
            if self._on or excess > far:
                found = self._judge(loss, level, stands_out=excess > far)
            if middle - level > far:
                middle = level + far  # the level follows a spike slowly
        weight = MEMORY if count * MEMORY > 1.0 else 1.0 / count
        self._average = average = average + (middle - average) * weight
        self._lagging += (average - self._lagging) * weight
        if average < self._best:
            self._best = average
        if excess > self._highest:
            self._highest = excess
        if count % WINDOW == 0:
            self._end_window()
        return (self._signal(step, loss, level, excess, far),) if found else NO_SIGNALS

    def _judge(self, loss: float, level: float, *, stands_out: bool) -> bool:
        """Whether a spike begins here."""
        if self._on:
            if loss > self._peak:
                self._peak = loss
            half_way = self._foot + BACK * (self._peak - self._foot)
            self._on = stands_out or (loss > half_way and level < half_way)
            return False
        if not stands_out:
            return False
        self._on, self._foot, self._peak = True, level, loss
        apart = self._count - self._last_one > APART
        self._last_one = self._count
        return apart

    def _end_window(self) -> None:
        self._excesses = [*self._excesses[1 - WINDOWS :], self._highest]
        self._usual = median(self._excesses)
        self._highest = 0.0

    def _signal(self, step: int, loss: float, level: float, excess: float, far: float) -> Signal:
        evidence = {
            "loss": loss,
            "level": level,
            "excess": excess,
            "usual_excess": self._usual,
            "threshold": far,
        }
        return Signal(SignalKind.SPIKE, step, step, min(1.0, 0.1 * excess / far), evidence)
