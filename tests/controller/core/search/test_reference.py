"""The losses before any training, which give the search its unit."""

import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrpilot_controller.core.search.job import BudgetSpent, Family, Job, Prober
from lrpilot_controller.core.search.probe import Probe, Result
from lrpilot_controller.core.search.reference import Reference, measure
from support.simulated import drive


def measured(
    losses: list[float], *, reason: str = "length", **known: object
) -> tuple[Reference | None, Probe]:
    """What is known after these losses, repeated as often as is asked for."""
    job = Job(0.1, 1e-6, 1e3, Family.PLAIN, **{"steps": 1000, "budget": 400} | known)  # type: ignore[arg-type]

    def answer(probe: Probe) -> Result:
        return Result(tuple((losses * probe.length)[: probe.length]), reason)

    seen, (probe,) = drive(measure(Prober(job)), answer)
    return seen, probe


def test_the_lr_is_0_all_the_time() -> None:
    _, probe = measured([1.0, 2.0])
    assert [(s.start_value, s.end_value) for s in probe.segments] == [(0.0, 0.0)]
    assert probe.segments[-1].end == probe.length == 6


@given(st.lists(st.floats(-1e6, 1e6), min_size=6, max_size=6))
def test_level_and_noise_are_those_of_the_batches(losses: list[float]) -> None:
    seen, _ = measured(losses)
    assert seen is not None
    assert seen.losses == tuple(losses)
    assert seen.level == pytest.approx(statistics.fmean(losses))
    assert seen.noise == pytest.approx(statistics.stdev(losses), abs=1e-6 * abs(seen.level) + 1e-9)
    assert seen.worst == max(losses)
    assert seen.error == pytest.approx(seen.noise / math.sqrt(6))


@given(st.floats(-1e6, 1e6))
def test_batches_that_are_all_alike_leave_a_unit_above_their_rounding(loss: float) -> None:
    seen, _ = measured([loss])
    assert seen is not None
    assert seen.noise >= max(1e-6 * abs(loss) * 0.999, 1e-12)


@pytest.mark.parametrize("steps", [None, 200, 300, 400, 10_000])
def test_without_replayed_batches_it_looks_longer_where_that_is_affordable(
    steps: int | None,
) -> None:
    _, probe = measured([1.0, 2.0], replay=False, steps=steps)
    assert 6 <= probe.length <= 16
    assert steps is None or probe.length == 6 or probe.length <= 0.03 * steps


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e300])
@pytest.mark.parametrize("at", [0, 3, 5])
def test_where_a_loss_is_not_finite_there_is_none(bad: float, at: int) -> None:
    losses = [1.0, 2.0, 3.0, 1.0, 2.0, 3.0]
    losses[at] = bad
    assert measured(losses)[0] is None


def test_where_it_was_stopped_there_is_none() -> None:
    assert measured([1.0, 2.0], reason="non_finite")[0] is None


def test_it_is_not_begun_beyond_the_budget() -> None:
    with pytest.raises(BudgetSpent):
        measured([1.0], budget=5)
