"""A curve of bounded size from a series of unknown length, in one pass."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
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
    """The lowest and the highest of neighbouring samples; a NaN counts as the highest.

    It is the `index`-th stretch of the series.
    """

    index: int
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
    limit every sample is kept. A part of the series may be known by some of its samples only.

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
            index, past = divmod(begin + i, self._stretch)
            if not self._buckets or self._buckets[-1].index < index:
                self._open(sample(i))
                i += 1
                continue
            # A stretch at a time: this is what makes a million samples quick.
            part = losses[i : i + self._stretch - past]
            heights = part if not math.isnan(sum(part)) else [_height(loss) for loss in part]
            low, high = heights.index(min(heights)), heights.index(max(heights))
            self._buckets[-1].take(sample(i + low), sample(i + high))
            i += len(part)
        self._count += len(losses)

    def extend_thinned(self, span: int, samples: Sequence[CurveSample]) -> None:
        """Takes the next `span` samples of the series, of which only some are known.

        Args:
            span: how many there were.
            samples: those that are known, in order, `place` counted from the first of the span.
        """
        begin = self._count
        for sample in samples:
            sample = sample._replace(place=begin + sample.place)
            if self._buckets and self._buckets[-1].index == sample.place // self._stretch:
                self._buckets[-1].take(sample, sample)
            else:
                self._open(sample)
        self._count += span

    def samples(self) -> list[CurveSample]:
        """What was kept, in order."""
        return sorted({s for bucket in self._buckets for s in (bucket.low, bucket.high)})

    def _open(self, sample: CurveSample) -> None:
        """Begins the stretch that this sample is in."""
        self._buckets.append(_Bucket(sample.place // self._stretch, sample, sample))
        while len(self._buckets) * min(self._stretch, 2) > self._limit:
            self._merge()

    def _merge(self) -> None:
        self._stretch *= 2
        halves, self._buckets = self._buckets, []
        for half in halves:
            half.index //= 2
            if self._buckets and self._buckets[-1].index == half.index:
                self._buckets[-1].take(half.low, half.high)
            else:
                self._buckets.append(half)


def _height(loss: float) -> float:
    return math.inf if math.isnan(loss) else loss
