"""Intervals for the tables: the bootstrap over task x seed cells.

Runs of one cell share weights, batches and oracle and differ in the base LR only, so that they
are not independent: whole cells are drawn, each with all its runs.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Statistic = Callable[[Values], float]

DRAWS = 2000
LEVEL = 0.95


def mean(values: Values) -> float:
    """The mean."""
    return float(values.mean())


def share_above(limit: float) -> Statistic:
    """Returns the statistic that says which share is above `limit`."""
    return lambda values: float((values > limit).mean())


def share_within(limit: float) -> Statistic:
    """Returns the statistic that says which share is at most `limit`."""
    return lambda values: float((values <= limit).mean())


def percentile(share: float) -> Statistic:
    """Returns the statistic that is the smallest value that such a share does not exceed."""

    def smallest(values: Values) -> float:
        rank = max(1, math.ceil(round(share * len(values), 9)))
        return float(np.partition(values, rank - 1)[rank - 1])

    return smallest


def interval(
    cells: Sequence[Sequence[float]], statistic: Statistic, draws: int = DRAWS, seed: int = 0
) -> tuple[float, float]:
    """The interval of a statistic of all values, by drawing cells with replacement.

    Args:
        cells: The values of each cell; none is empty.
        statistic: Of all values of a draw, in one array.
        draws: How often.
        seed: Of the draws; the same data give the same interval.
    """
    arrays = [np.asarray(cell, dtype=np.float64) for cell in cells]
    generator = np.random.default_rng(seed)
    picks = generator.integers(len(arrays), size=(draws, len(arrays)))
    if len({len(array) for array in arrays}) == 1:
        whole = np.stack(arrays)  # the usual case, and many times faster
        found = [statistic(whole[pick].ravel()) for pick in picks]
    else:
        found = [statistic(np.concatenate([arrays[i] for i in pick])) for pick in picks]
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(found, [tail, 1 - tail])
    return float(low), float(high)
