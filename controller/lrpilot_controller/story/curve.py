"""A curve of bounded size from a series of unknown length, in one pass."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import NamedTuple


class CurveSample(NamedTuple):
    """One value of the series; `place` grows with each of them."""

    place: int
    attempt: int
    step: int
    loss: float
    lr: float
    probe: bool = False


@dataclass(slots=True)
class _Bucket:
    """The lowest and the highest of neighbouring samples; a NaN counts as the highest."""

    low: CurveSample
    high: CurveSample

    def take(self, low: CurveSample, high: CurveSample) -> None:
        """Widens the bucket to later samples; of equal ones the first is kept."""
        if _height(low.loss) < _height(self.low.loss):
            self.low = low
        if _height(high.loss) > _height(self.high.loss):
            self.high = high


class Curve:
    """Keeps the extremes of equal stretches of the series, and doubles the stretch when full.

    What is kept is always between half the limit and the limit once there is that much; up to the
    limit every sample is kept.

    Args:
        limit: The most samples to keep, at least 4.
    """

    def __init__(self, limit: int) -> None:
        if limit < 4:
            raise ValueError(f"a curve needs at least 4 points, not {limit}")
        self._limit = limit
        self._stretch = 1
        self._count = 0
        self._buckets: list[_Bucket] = []

    def extend(
        self,
        attempt: int,
        steps: Sequence[int],
        losses: Sequence[float],
        lr: Callable[[int], float],
        probe: Callable[[int], bool] = lambda i: False,
    ) -> None:
        """Takes the next samples of the series.

        Args:
            attempt: Where all of them come from.
            steps: One per sample.
            losses: One per sample.
            lr: Gives the LR of the i-th of them; asked only for what is kept.
            probe: Says whether a program ran the i-th of them; asked only for what is kept.
        """

        def sample(i: int) -> CurveSample:
            return CurveSample(begin + i, attempt, steps[i], losses[i], lr(i), probe(i))

        begin, i = self._count, 0
        while i < len(losses):
            room = len(self._buckets) * self._stretch - (begin + i)
            if not room:
                self._buckets.append(_Bucket(sample(i), sample(i)))
                i += 1
                while len(self._buckets) * min(self._stretch, 2) > self._limit:
                    self._merge()
                continue
            # A stretch at a time: this is what makes a million samples quick.
            part = losses[i : i + room]
            heights = part if not math.isnan(sum(part)) else [_height(loss) for loss in part]
            low, high = heights.index(min(heights)), heights.index(max(heights))
            self._buckets[-1].take(sample(i + low), sample(i + high))
            i += len(part)
        self._count += len(losses)

    def samples(self) -> list[CurveSample]:
        """What was kept, in order."""
        return sorted({s for bucket in self._buckets for s in (bucket.low, bucket.high)})

    def _merge(self) -> None:
        self._stretch *= 2
        pairs = zip_longest(self._buckets[::2], self._buckets[1::2])
        self._buckets = []
        for bucket, other in pairs:
            if other is not None:
                bucket.take(other.low, other.high)
            self._buckets.append(bucket)


def _height(loss: float) -> float:
    return math.inf if math.isnan(loss) else loss
