"""The curve of a story: bounded, with its extremes."""

import itertools
import math

import pytest

from support.told import OPENED, samples, story


@pytest.mark.parametrize("limit", [4, 5, 37, 500])
@pytest.mark.parametrize("count", [1, 4, 36, 37, 38, 500, 501, 5000])
def test_the_curve_is_bounded_and_keeps_the_extremes(limit: int, count: int) -> None:
    losses = [math.sin(k / 50) + 2 for k in range(count)]
    losses[count // 3] = 90.0
    losses[count // 2] = -90.0
    told = story(OPENED, samples(range(count), loss=tuple(losses)), points=limit)
    assert len(told.points) <= limit
    assert len(told.points) >= min(count, limit // 4)
    steps = [p.step for p in told.points]
    assert all(a < b for a, b in itertools.pairwise(steps))
    assert {min(losses), max(losses)} <= {p.loss for p in told.points}
    assert all(p.loss == losses[p.step] and p.lr == 0.1 for p in told.points)
    if count <= limit:
        assert steps == list(range(count))


def test_a_nan_survives_the_thinning() -> None:
    losses = (1.0,) * 777 + (math.nan,) + (1.0,) * 777
    told = story(OPENED, samples(range(len(losses)), loss=losses), points=10)
    assert [p.step for p in told.points if math.isnan(p.loss)] == [777]


def test_too_few_points() -> None:
    with pytest.raises(ValueError, match="at least 4"):
        story(points=3)
