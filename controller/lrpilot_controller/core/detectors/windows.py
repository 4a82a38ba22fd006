"""Losses in windows of equal length: what several detectors look at instead of single losses."""

from functools import cache
from math import isfinite
from operator import mul
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


LONGEST_EPOCH: Final = 8 * WINDOW
"""Reports; a window of a longer epoch would come too seldom."""


def whole_epochs(steps_per_epoch: int | None) -> int:
    """The size of windows that hold whole epochs, as near to `WINDOW` as that allows.

    What a loss does within each epoch (batches in one order, a net that remembers the last one) is
    then the same in every window.
    """
    if steps_per_epoch is None or not 1 < steps_per_epoch <= LONGEST_EPOCH:
        return WINDOW
    return steps_per_epoch * -(-WINDOW // steps_per_epoch)


class Windows(SlotState):
    """Collects finite losses; every `size` of them make a window."""

    __slots__ = ("_losses", "_size")
    _state = ("size", "losses")

    def __init__(self, size: int = WINDOW) -> None:
        self._size = size
        self._losses: list[float] = []

    @property
    def size(self) -> int:
        """Reports in a window."""
        return self._size

    def add(self, loss: float) -> list[float] | None:
        """Take the next loss; the losses of the window that it completes, if it does."""
        if not -LIMIT < loss < LIMIT:
            kept = finite(loss)
            if kept is None:
                return None
            loss = kept
        losses = self._losses
        losses.append(loss)
        if len(losses) < self._size:
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
    return sum(inner) / len(inner)


def median(values: list[float]) -> float:
    """The upper median."""
    return sorted(values)[len(values) // 2]


def line(values: list[float]) -> tuple[float, list[float]]:
    """The least-squares line through equally spaced values: its slope, and what is left of each."""
    offsets, weights = _spaced(len(values))
    mean = sum(values) / len(values)
    slope = sum(map(mul, weights, values))
    return slope, [value - mean - slope * at for value, at in zip(values, offsets, strict=True)]


@cache
def _spaced(count: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Distances from the middle, and the same over the sum of their squares."""
    offsets = tuple(i - (count - 1) / 2 for i in range(count))
    squares = sum(at * at for at in offsets)
    return offsets, tuple(at / squares for at in offsets)
