"""What follows from the number of steps that are left."""

import itertools

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lrpilot_controller.core.plans import PlanKind, Shape
from lrpilot_controller.core.search.horizon import correction, main_plan, program_steps
from lrpilot_controller.core.search.job import Family
from support.simulated import lr_at

families = st.sampled_from(list(Family))
horizons = st.integers(200, 10**6)
lrs = st.floats(1e-8, 1e2)


# -- programs


@given(families, horizons)
def test_programs_are_short_and_not_too_short(family: Family, horizon: int) -> None:
    assert 24 <= program_steps(family, horizon) <= 64
    assert program_steps(family, horizon) <= program_steps(family, horizon + 1000)


def test_an_unknown_horizon_counts_as_2000_steps() -> None:
    for family in Family:
        assert program_steps(family, None) == program_steps(family, 2000)
        assert correction(family, None, 40) == correction(family, 2000, 40)


# -- what a program's best LR is worth


@given(families, horizons, horizons, st.integers(24, 80))
def test_the_longer_the_run_the_lower_its_lr(family: Family, a: int, b: int, steps: int) -> None:
    assume(a < b)
    assert correction(family, b, steps) <= correction(family, a, steps)
    assert 0 < correction(family, b, steps) < 1


@given(families, horizons, st.integers(24, 79))
def test_the_longer_the_program_the_less_it_is_corrected(
    family: Family, horizon: int, steps: int
) -> None:
    assert correction(family, horizon, steps) <= correction(family, horizon, steps + 1)


@given(families, st.integers(200, 500))
def test_a_program_of_a_good_part_of_the_run_needs_no_more_than_the_margin(
    family: Family, horizon: int
) -> None:
    assert correction(family, horizon, horizon // 10) == correction(family, horizon, horizon)


# -- the plan for the rest of the run


@given(lrs, st.integers(0, 10**6), st.integers(2, 10**6))
def test_the_plan_is_constant_and_then_a_line_to_0(lr: float, start: int, steps: int) -> None:
    plan = main_plan(lr, start, start + steps)
    assert plan.kind is PlanKind.REPLACE
    constant, line, after = (*plan.segments, None, None)[:3]
    assert constant.shape is Shape.CONSTANT
    assert (constant.start, constant.start_value, constant.end_value) == (start, lr, lr)
    assert constant.end - start == pytest.approx(0.6 * steps, abs=1)
    assert line is not None
    assert line.shape is Shape.LINEAR
    assert (line.start, line.end) == (constant.end, start + steps)
    assert (line.start_value, line.end_value) == (lr, 0.0)
    assert after is not None
    assert after.start == start + steps


@given(lrs, st.integers(0, 10**6), st.integers(2, 10**6))
def test_beyond_the_horizon_training_goes_on_at_a_small_lr(
    lr: float, start: int, steps: int
) -> None:
    plan = main_plan(lr, start, start + steps)
    for late in (0, 1, 10, 10**6):
        assert lr_at(plan.segments, start + steps + late) == pytest.approx(0.05 * lr)
    assert plan.end_value == pytest.approx(0.05 * lr)


@given(lrs, st.integers(0, 1000), st.none() | st.integers(-1000, 2001))
def test_any_plan_is_in_order_and_never_above_its_lr(
    lr: float, start: int, left: int | None
) -> None:
    plan = main_plan(lr, start, None if left is None else start + left)
    assert plan.segments[0].start == start
    for one, next_one in itertools.pairwise(plan.segments):
        assert one.end == next_one.start
    for segment in plan.segments:
        assert segment.start < segment.end
        assert 0 <= segment.end_value <= segment.start_value <= lr


@pytest.mark.parametrize("end", [None, 0, 100, 101])
def test_without_an_end_to_come_it_is_constant_for_ever(end: int | None) -> None:
    plan = main_plan(0.1, 100, end)
    assert [s.shape for s in plan.segments] == [Shape.CONSTANT]
    assert plan.end_value == lr_at(plan.segments, 10**9) == 0.1


@pytest.mark.parametrize(
    ("name", "family"),
    [("SGD", "plain"), ("Adam", "normalized"), ("AdamW", "normalized"), ("Lion", "normalized")],
)
def test_the_family_of_an_optimizer(name: str, family: str) -> None:
    assert Family.of(name) == family
