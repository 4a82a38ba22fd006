"""Overfit: the validation loss rises from its best, and the training loss is lower than then.

Patience on the validation loss alone says little: it also rises when the whole run goes astray, and
by chance all the time.
"""

from collections.abc import Sequence
from typing import Final

from lrpilot_controller.core.detectors.base import NO_SIGNALS, SlotState
from lrpilot_controller.core.detectors.level import LIMIT, MEAN_DIFFERENCE_TO_SD, TINY
from lrpilot_controller.core.detectors.windows import ROUNDING, finite, median
from lrpilot_controller.core.model import Signal, SignalKind

IN_A_ROW: Final = 5
"""Validations in a row that must be clearly above the best one."""

NOISES: Final = 4.0
"""Standard deviations of a validation above the best one, which may be low by luck."""

SHARE: Final = 0.02
"""Share of what the validation loss has gained: a smaller rise is no loss worth speaking of."""

FEWEST: Final = 6
"""Validations before anything is said: fewer do not give their noise."""

NOISE: Final = 1 / 16
"""Weight of a new difference in the noise of the validations."""

MEMORY: Final = 1 / 32
"""Weight of a new report in the training loss's level."""


class OverfitDetector(SlotState):
    """Raises one signal per episode; the next needs a new best validation loss in between."""

    name = "overfit"
    __slots__ = (
        "_best",
        "_best_step",
        "_count",
        "_last",
        "_noise",
        "_row",
        "_start",
        "_train",
        "_train_then",
        "_trained",
    )
    _state = (
        "best",
        "best_step",
        "count",
        "last",
        "noise",
        "row",
        "start",
        "train",
        "train_then",
        "trained",
    )

    def __init__(self) -> None:
        self._count = 0  # validations
        self._last: list[float] = []  # the last three
        self._start = 0.0  # highest of the first three
        self._best = 0.0  # lowest median of three, where the training loss was `_train_then`
        self._best_step = 0
        self._noise = 0.0  # mean size of a difference of neighbours
        self._row = 0  # validations in a row that were clearly above the best
        self._trained = 0  # training losses
        self._train = 0.0  # their level
        self._train_then = 0.0

    def update(
        self, step: int, train_loss: float | None, val_loss: float | None, lr: float | None
    ) -> Sequence[Signal]:
        """Takes one report; see `Detector.update`."""
        if train_loss is not None:
            usual = -LIMIT < train_loss < LIMIT  # nearly always: a call less
            loss = train_loss if usual else finite(train_loss)
            if loss is not None:
                trained = self._trained = self._trained + 1
                weight = MEMORY if trained * MEMORY > 1.0 else 1.0 / trained
                self._train += (loss - self._train) * weight
        if val_loss is None or (loss := finite(val_loss)) is None:
            return NO_SIGNALS
        return self._validated(step, loss)

    def _validated(self, step: int, loss: float) -> Sequence[Signal]:
        self._count += 1
        if self._last:
            difference = abs(loss - self._last[-1])
            self._noise += (difference - self._noise) * max(NOISE, 1.0 / (self._count - 1))
        self._last = [*self._last[-2:], loss]
        if self._count < 3:
            return NO_SIGNALS
        level = median(self._last)
        if self._count == 3:
            self._start = max(self._last)
        if self._count == 3 or level < self._best:
            self._best, self._best_step, self._train_then = level, step, self._train
            self._row = 0
            return NO_SIGNALS
        return self._judge(step, level)

    def _judge(self, step: int, level: float) -> Sequence[Signal]:
        gained = self._start - self._best
        sd = MEAN_DIFFERENCE_TO_SD * self._noise
        clear = max(NOISES * sd, SHARE * gained, ROUNDING * abs(level), TINY)
        learning = self._trained > 0 and self._train < self._train_then
        if level - self._best <= clear or not learning:
            self._row = 0 if self._row < IN_A_ROW else self._row  # told already
            return NO_SIGNALS
        self._row += 1
        if self._row != IN_A_ROW or self._count < FEWEST:
            return NO_SIGNALS
        evidence = {
            "validation": level,
            "best_validation": self._best,
            "train": self._train,
            "train_at_best": self._train_then,
            "threshold": clear,
        }
        rise = (level - self._best) / max(gained, clear)
        return (Signal(SignalKind.OVERFIT, step, self._best_step, min(1.0, rise), evidence),)
