"""The trend of a series of unknown length: the means of equal stretches of it, in one pass."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple


class Mean(NamedTuple):
    """The mean of neighbouring values, and the first and the last step that they belong to."""

    attempt: int
    first: int
    last: int
    value: float


@dataclass(slots=True)
class _Stretch:
    attempt: int
    first: int
    last: int
    total: float
    count: int
    """Of the finite values, which alone have a mean."""
    width: int
    """Of all values."""


class Trend:
    """Means over stretches of values; stretches double in width when there are too many of them.

    Of more attempts than means the newest have one each.

    One value after the other is added, so that the sums do not hang on how they arrived.

    Args:
        limit: The most means, at least 2.
        width: How many values the first stretches hold.
    """

    def __init__(self, limit: int, width: int = 4) -> None:
        self._limit = limit
        self._width = width
        self._stretches: list[_Stretch] = []

    def extend(self, attempt: int, steps: Sequence[int], values: Sequence[float]) -> None:
        """Takes the next values of the series.

        Args:
            attempt: Where all of them come from; no mean is of two attempts.
            steps: One per value.
            values: May be NaN or infinite.
        """
        for step, value in zip(steps, values, strict=True):
            last = self._stretches[-1] if self._stretches else None
            if last is None or last.attempt != attempt or last.width >= self._width:
                last = _Stretch(attempt, step, step, 0.0, 0, 0)
                self._stretches.append(last)
                if len(self._stretches) > self._limit:
                    self._make_room()
                    last = self._stretches[-1]
            last.last = step
            last.width += 1
            if math.isfinite(value):
                last.total += value
                last.count += 1

    def means(self) -> list[Mean]:
        """The means, in order; none of a stretch without a finite value."""
        return [
            Mean(s.attempt, s.first, s.last, s.total / s.count)
            for s in self._stretches
            if s.count and math.isfinite(s.total)
        ]

    def _make_room(self) -> None:
        if any(one.attempt == other.attempt for one, other in pairwise(self._stretches)):
            self._widen()
        else:
            del self._stretches[0]

    def _widen(self) -> None:
        self._width *= 2
        stretches, self._stretches = self._stretches, []
        for one in stretches:
            last = self._stretches[-1] if self._stretches else None
            fits = last is not None and last.width + one.width <= self._width
            if last is None or not fits or last.attempt != one.attempt:
                self._stretches.append(one)
                continue
            last.last = one.last
            last.total += one.total
            last.count += one.count
            last.width += one.width
