"""Losses in windows of equal length: what several detectors look at instead of single losses."""

from math import isfinite
from typing import Final

from lrpilot_controller.core.detectors.base import SlotState
from lrpilot_controller.core.detectors.level import LIMIT

WINDOW: Final = 32
"""Reports in a window. Its quantiles are then known to a fifth of the noise, and an oscillation of
any period up to twice that shows within one."""

ROUNDING: Final = 2.0**-40
"""Differences below this share of the loss are rounding of doubles. Those of a float32 loss are
part of its noise, which is measured."""


def finite(loss: float) -> float | None:
    """The loss, clipped to what can be reckoned with; None where it is no number."""
    if -LIMIT < loss < LIMIT:
        return loss
    if not isfinite(loss):
        return None
    return LIMIT if loss > 0 else -LIMIT


class Windows(SlotState):
    """Collects finite losses; every `WINDOW` of them make a window."""

    __slots__ = ("_losses",)
    _state = ("losses",)

    def __init__(self) -> None:
        self._losses: list[float] = []

    def add(self, loss: float) -> list[float] | None:
        """Take the next loss; the losses of the window that it completes, if it does."""
        if not -LIMIT < loss < LIMIT:
            kept = finite(loss)
            if kept is None:
                return None
            loss = kept
        losses = self._losses
        losses.append(loss)
        if len(losses) < WINDOW:
            return None
        self._losses = []
        return losses

    def clear(self) -> None:
        """Begin a new window."""
        self._losses = []


def middle(losses: list[float]) -> float:
    """The interquartile mean of sorted losses: as robust as a median, nearly as exact as a mean."""
    quarter = len(losses) // 4
    inner = losses[quarter : len(losses) - quarter]
    # Scaled down first: a sum of clipped losses may overflow.
    return sum(loss / len(inner) for loss in inner)


def median(values: list[float]) -> float:
    """The upper median."""
    return sorted(values)[len(values) // 2]


def line(values: list[float]) -> tuple[float, list[float]]:
    """The least-squares line through equally spaced values: its slope, and what is left of each."""
    count = len(values)
    centre = (count - 1) / 2
    squares = count * (count * count - 1) / 12
    mean = sum(value / count for value in values)
    slope = sum((i - centre) / squares * value for i, value in enumerate(values))
    return slope, [value - mean - slope * (i - centre) for i, value in enumerate(values)]
