"""A raise of the learning rate to where the run has never been, judged by the loss after it."""

from math import sqrt
from typing import Final

from lrpilot_controller.core.detectors.base import SlotState
from lrpilot_controller.core.detectors.divergence import LR_CHANGE
from lrpilot_controller.core.detectors.level import MEAN_DIFFERENCE_TO_SD
from lrpilot_controller.core.detectors.windows import ROUNDING
from lrpilot_controller.core.model import Signal, SignalKind

RAISE: Final = 2.0
"""Factor on the highest healthy rate that is a raise worth watching."""

AFTER: Final = 8
"""Reports whose mean is compared with the level before a raise."""

WATCHED: Final = 8
"""Such means that are watched after a raise: what comes later is no answer to it. Where it is, the
rate is not taken for a healthy one until the loss has come back."""

FEWEST: Final = 16
"""Reports before a raise is watched: the level before it must be known."""

OUTLIER: Final = 4.0
"""Noise sd beyond which a report enters the level before a raise, and the means after it, at this
distance."""

RISEN: Final = 4.0
"""Standard errors of the mean, two times in a row, by which the loss must have risen."""

HIGH, HIGH_REPORTS = 8.0, 4
"""Standard errors of that mean (three noise sd) by which so many reports in a row need only lie
above the level for the same: it has exploded."""

MEMORY: Final = 1 / 16
"""Weight of a new report in the level and in the noise before a raise."""


class Raised(SlotState):
    """Judges the reports after a raise of the learning rate to where the run has never been."""

    __slots__ = (
        "_blocks",
        "_count",
        "_healthy",
        "_high",
        "_last",
        "_level",
        "_lr",
        "_noise",
        "_reports",
        "_risen",
        "_since",
        "_sum",
        "_told",
        "_watching",
    )
    _state = (
        "count",
        "lr",
        "healthy",
        "last",
        "level",
        "noise",
        "watching",
        "since",
        "reports",
        "sum",
        "blocks",
        "risen",
        "high",
        "told",
    )

    def __init__(self) -> None:
        self._count = 0
        self._lr: float | None = None
        self._healthy = 0.0  # highest rate that the run has been healthy at
        self._last = 0.0
        self._level = 0.0  # of the loss, and its noise sd, before the raise
        self._noise = 0.0
        self._watching = False
        self._since = 0  # the step of the raise
        self._reports = 0  # in this block, and their sum relative to the level
        self._sum = 0.0
        self._blocks = 0
        self._risen = 0  # blocks in a row
        self._high = 0  # reports in a row
        self._told = False  # of this raise

    @property
    def raised_from(self) -> float | None:
        """The highest healthy rate, while a raise far above it is judged, or was found too high."""
        lr = self._lr
        return self._healthy if lr is not None and lr >= RAISE * self._healthy > 0.0 else None

    @property
    def since(self) -> int:
        """The step of the last raise."""
        return self._since

    @property
    def lr(self) -> float | None:
        """The learning rate as last reported."""
        return self._lr

    def see_rate(self, step: int, lr: float) -> bool:
        """Takes another learning rate; whether it is a clear cut, at once."""
        last, self._lr = self._lr, lr
        if last is None:
            return False
        if lr >= RAISE * max(last, self._healthy) and self._count >= FEWEST:
            self._watching, self._told, self._since = True, False, step
            self._reports = self._blocks = self._risen = self._high = 0
            self._sum = 0.0
        elif self._watching and lr < RAISE * self._healthy:
            self._watching = False
        return lr < (1 - LR_CHANGE) * last

    def add(self, step: int, loss: float) -> Signal | None:
        """Takes a loss; the signal that it completes."""
        if self._watching:
            return self._watch(step, loss)
        lr = self._lr
        if lr is not None and lr > self._healthy:
            self._healthy = lr
        last, self._last = self._last, loss
        count = self._count
        if count < FEWEST:
            self._learn_first(count, last, loss)
            return None
        noise, level = self._noise, self._level
        most = OUTLIER * noise
        difference = MEAN_DIFFERENCE_TO_SD * (loss - last if loss > last else last - loss)
        self._noise = noise + ((difference if difference < most else most) - noise) * MEMORY
        self._level = level + ((loss if loss - level < most else level + most) - level) * MEMORY
        return None

    def _learn_first(self, count: int, last: float, loss: float) -> None:
        """Plain means, until there are enough reports to tell an outlier by."""
        weight = 1.0 / (count + 1)
        if count:
            self._noise += (MEAN_DIFFERENCE_TO_SD * abs(loss - last) - self._noise) * weight
        self._level += (loss - self._level) * weight
        self._count = count + 1

    def _watch(self, step: int, loss: float) -> Signal | None:
        self._reports += 1
        rise = loss - self._level
        self._sum += min(rise, OUTLIER * self._noise) / AFTER
        error = max(self._noise / sqrt(AFTER), ROUNDING * abs(self._level))
        self._high = self._high + 1 if rise > HIGH * error else 0
        found = self._high == HIGH_REPORTS  # what is as plain as this needs no mean
        if self._reports == AFTER:
            self._risen = self._risen + 1 if self._sum > RISEN * error else 0
            self._sum, self._reports = 0.0, 0
            self._blocks += 1
            found = found or self._risen == 2
            self._watching = self._blocks < WATCHED or (self._told and self._risen > 0)
        if self._told or not found or self._lr is None:
            return None
        self._told = True
        evidence = {
            "loss": loss,
            "level_before": self._level,
            "noise": self._noise,
            "lr": self._lr,
            "healthy_lr": self._healthy,
        }
        far = max(rise, 0.0)
        severity = 0.5 + 0.5 * far / (far + RISEN * error)
        return Signal(SignalKind.TOO_HIGH, step, self._since, severity, evidence)
