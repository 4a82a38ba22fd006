"""Plans inside the trainer: the curves, the clamps, and what is refused."""

import json
import math
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrpilot.plan import Bounds, Plan, PlanError, Ramp, plan_from_state, plan_to_state
from lrpilot_proto.v1 import model_pb2

SCALE, REPLACE = model_pb2.PLAN_KIND_SCALE, model_pb2.PLAN_KIND_REPLACE
CONSTANT = model_pb2.SHAPE_CONSTANT
LINEAR = model_pb2.SHAPE_LINEAR
COSINE = model_pb2.SHAPE_COSINE
ONE_MINUS_SQRT = model_pb2.SHAPE_ONE_MINUS_SQRT
EXPONENTIAL = model_pb2.SHAPE_EXPONENTIAL
WIDE = Bounds(0.0, 1e9)

Row = tuple[Any, int, int, float, float]


def message(*segments: Row, kind: Any = REPLACE) -> model_pb2.Plan:
    return model_pb2.Plan(
        kind=kind,
        segments=[
            model_pb2.Segment(shape=shape, start=start, end=end, start_value=v0, end_value=v1)
            for shape, start, end, v0, v1 in segments
        ],
    )


def plan(
    *segments: Row,
    kind: Any = REPLACE,
    bounds: Bounds = WIDE,
    base: Sequence[float] = (0.1,),
    ramp: Ramp | None = None,
) -> Plan:
    return Plan(message(*segments, kind=kind), bounds, base, ramp)


def factor(value: float, **more: Any) -> Plan:
    return plan((CONSTANT, 0, 1, value, value), kind=SCALE, **more)


# -- the curves


def formula(shape: Any, f: float, v0: float, v1: float) -> float:
    return {
        CONSTANT: v0,
        LINEAR: (1 - f) * v0 + f * v1,
        COSINE: v1 + (v0 - v1) * math.cos(math.pi * f / 2) ** 2,
        ONE_MINUS_SQRT: v1 + (v0 - v1) * (1 - f**0.5),
        EXPONENTIAL: math.exp((1 - f) * math.log(v0) + f * math.log(v1)),
    }[shape]


@pytest.mark.parametrize("shape", [CONSTANT, LINEAR, COSINE, ONE_MINUS_SQRT, EXPONENTIAL])
@pytest.mark.parametrize(("v0", "v1"), [(0.5, 0.02), (0.02, 0.5), (0.3, 0.3)])
def test_each_shape_follows_its_formula(shape: Any, v0: float, v1: float) -> None:
    made = plan((shape, 100, 300, v0, v1))
    for step in range(100, 301, 10):
        expected = formula(shape, (step - 100) / 200, v0, v1)
        assert made.value(step) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("shape", [LINEAR, COSINE, ONE_MINUS_SQRT, EXPONENTIAL])
def test_the_ends_are_exact_and_held(shape: Any) -> None:
    made = plan((shape, 100, 300, 0.5, 0.125))
    assert [made.value(k) for k in (0, 99, 100)] == [0.5] * 3
    assert [made.value(k) for k in (300, 301, 10**9)] == [0.125] * 3


def test_a_decay_to_zero_reaches_zero() -> None:
    for shape in (LINEAR, COSINE, ONE_MINUS_SQRT):
        assert plan((shape, 0, 10, 0.5, 0.0)).value(10) == 0.0


def test_segments_follow_each_other_and_a_gap_holds_the_last_value() -> None:
    made = plan((CONSTANT, 0, 10, 0.4, 0.4), (LINEAR, 10, 20, 0.4, 0.2), (LINEAR, 30, 40, 0.1, 0.0))
    assert made.value(9) == 0.4
    assert made.value(10) == 0.4
    assert made.value(15) == pytest.approx(0.3)
    assert made.value(25) == 0.2
    assert made.value(30) == 0.1
    assert made.value(99) == 0.0


def test_a_late_plan_is_entered_where_it_is_now() -> None:
    # Steps are absolute: a plan is a function of the step alone.
    assert plan((LINEAR, 0, 100, 1.0, 0.0)).value(60) == pytest.approx(0.4)


@given(
    st.sampled_from([CONSTANT, LINEAR, COSINE, ONE_MINUS_SQRT, EXPONENTIAL]),
    st.floats(1e-9, 1e3),
    st.floats(1e-9, 1e3),
    st.integers(0, 10**9),
    st.integers(1, 10**6),
    st.integers(-(10**6), 10**7),
)
def test_a_segment_stays_between_its_ends(
    shape: Any, v0: float, v1: float, start: int, length: int, offset: int
) -> None:
    value = plan((shape, start, start + length, v0, v1)).value(max(start + offset, 0))
    assert min(v0, v1) * (1 - 1e-9) <= value <= max(v0, v1) * (1 + 1e-9)


# -- stairs and triangles

STEP, CYCLICAL = model_pb2.SHAPE_STEP, model_pb2.SHAPE_CYCLICAL


def counted(shape: Any, start: int, end: int, v0: float, v1: float, count: int) -> Plan:
    segment = model_pb2.Segment(
        shape=shape, start=start, end=end, start_value=v0, end_value=v1, count=count
    )
    return Plan(model_pb2.Plan(kind=REPLACE, segments=[segment]), WIDE, (0.1,))


def test_stairs_are_equally_long_and_the_same_factor_apart() -> None:
    made = counted(STEP, 10, 40, 0.8, 0.2, 3)
    assert [made.value(k) for k in (0, 10, 19)] == [0.8] * 3
    assert [made.value(k) for k in (20, 29)] == pytest.approx([0.4] * 2)
    assert [made.value(k) for k in (30, 39, 40, 99)] == [0.2] * 4


def test_stairs_to_zero_are_the_same_difference_apart() -> None:
    made = counted(STEP, 0, 30, 0.8, 0.0, 3)
    assert [made.value(k) for k in (0, 10, 20, 30)] == pytest.approx([0.8, 0.4, 0.0, 0.0])


def test_triangles_lead_there_and_back() -> None:
    made = counted(CYCLICAL, 100, 140, 0.1, 0.5, 2)
    values = [made.value(k) for k in (0, 100, 105, 110, 115, 120, 130, 140, 999)]
    assert values == pytest.approx([0.1, 0.1, 0.3, 0.5, 0.3, 0.1, 0.5, 0.1, 0.1])


@pytest.mark.parametrize("shape", [EXPONENTIAL, STEP])
@pytest.mark.parametrize("ends", [(2.3e-309, 1.0), (1.0, 2.3e-309)])
def test_ends_whose_ratio_is_no_number_have_a_middle(shape: int, ends: tuple[float, float]) -> None:
    assert counted(shape, 0, 2, *ends, 3).value(1) == pytest.approx(math.sqrt(2.3e-309))


@given(
    st.floats(0, 1e3),
    st.floats(0, 1e3),
    st.integers(2, 50),
    st.integers(1, 10**6),
    st.integers(0, 10**6),
)
def test_there_are_as_many_stairs_as_said_and_each_is_between_the_ends(
    v0: float, v1: float, count: int, length: int, step: int
) -> None:
    made = counted(STEP, 0, length, v0, v1, count)
    assert min(v0, v1) * (1 - 1e-9) <= made.value(step) <= max(v0, v1) * (1 + 1e-9)
    stair = min(step * count // length, count - 1)
    first = -(-stair * length // count)  # the first step on the same stair
    assert made.value(first) == made.value(min(step, length))
    assert (made.value(0), made.value(length)) == (v0, v1)


@given(
    st.floats(0, 1e3),
    st.floats(0, 1e3),
    st.integers(1, 50),
    st.integers(1, 1000),
    st.integers(0, 10**6),
)
def test_each_triangle_is_like_the_first(
    v0: float, v1: float, count: int, length: int, step: int
) -> None:
    length *= count
    made = counted(CYCLICAL, 0, length, v0, v1, count)
    step %= length
    assert made.value(step) == made.value(step % (length // count))
    assert min(v0, v1) * (1 - 1e-9) <= made.value(step) <= max(v0, v1) * (1 + 1e-9)
    assert made.value(length) == v0


@pytest.mark.parametrize(("shape", "count"), [(STEP, 0), (STEP, 1), (CYCLICAL, 0)])
def test_too_few_stairs_or_triangles_are_refused(shape: Any, count: int) -> None:
    with pytest.raises(PlanError, match=f"counts {count}: at least"):
        counted(shape, 0, 10, 0.1, 0.2, count)


def test_counts_are_kept_in_a_checkpoint() -> None:
    made = counted(STEP, 0, 30, 0.8, 0.2, 3)
    again = plan_from_state(json.loads(json.dumps(plan_to_state(made))), WIDE, (0.1,))
    assert again is not None
    assert [again.value(k) for k in range(40)] == [made.value(k) for k in range(40)]


# -- the ramp


def test_a_ramp_leads_from_the_value_in_force_to_the_plan() -> None:
    made = plan((LINEAR, 0, 100, 1.0, 0.0), ramp=Ramp(20, 10, 0.1))
    assert made.value(20) == pytest.approx(0.1)
    assert made.value(25) == pytest.approx((0.1 + 0.7) / 2)  # halfway to plan(30)
    assert made.value(30) == pytest.approx(0.7)
    assert made.value(31) == pytest.approx(0.69)


def test_no_ramp_means_at_once() -> None:
    made = plan((CONSTANT, 0, 1, 0.5, 0.5), ramp=Ramp(20, 0, 0.1))
    assert made.ramp is None
    assert made.value(20) == 0.5


@pytest.mark.parametrize(
    ("segments", "ramp", "until"),
    [
        ([(CONSTANT, 5, 6, 0.5, 0.5)], None, 5),
        ([(CONSTANT, 5, 6, 0.5, 0.5)], Ramp(20, 10, 0.1), 30),
        ([(LINEAR, 5, 60, 0.5, 0.1)], None, 60),
        ([(LINEAR, 5, 60, 0.5, 0.1)], Ramp(20, 10, 0.1), 60),
        ([(CONSTANT, 0, 9, 0.5, 0.5), (LINEAR, 9, 70, 0.5, 0.1)], None, 70),
    ],
)
def test_a_plan_knows_when_it_comes_to_rest(
    segments: list[Row], ramp: Ramp | None, until: int
) -> None:
    made = plan(*segments, ramp=ramp)
    assert made.moves_until == until
    # Nobody writes the LR from then on, so it must not move.
    assert {made.value(k) for k in range(until, until + 200)} == {made.value(until)}


# -- scaling the native LR


@given(st.floats(0, 1e6, allow_subnormal=True), st.integers(0, 10**6))
def test_a_factor_of_one_gives_the_native_lr_back_to_the_last_bit(native: float, step: int) -> None:
    for bounds in (WIDE, Bounds(1e-3, 1e-2)):
        assert factor(1.0, bounds=bounds).lr(0, native, step) == native


def test_the_native_curve_is_the_anchor() -> None:
    made = factor(0.25, base=(0.1, 0.01))
    for native in (0.1, 0.07, 0.0):
        assert made.lr(0, native, 5) == native * 0.25
        assert made.lr(1, native / 10, 5) == native / 10 * 0.25


def test_a_factor_is_clamped_to_the_bounds() -> None:
    bounds = Bounds(0.01, 0.2)
    assert factor(1e-6, bounds=bounds).lr(0, 0.1, 0) == 0.01
    assert factor(1e6, bounds=bounds).lr(0, 0.1, 0) == 0.2


def test_a_native_lr_outside_of_the_bounds_is_the_users_own() -> None:
    bounds = Bounds(0.01, 0.2)
    assert factor(0.5, bounds=bounds).lr(0, 0.001, 0) == 0.001  # not raised to the bound
    assert factor(2.0, bounds=bounds).lr(0, 0.5, 0) == 0.5
    assert factor(0.5, bounds=bounds).lr(0, 0.5, 0) == 0.25
    assert factor(0.5, bounds=bounds).lr(0, 0.0, 0) == 0.0


# -- several groups


@given(
    st.floats(1e-6, 1e6),
    st.floats(1e-6, 1.0),
    st.floats(1e-3, 1e3),
    st.sampled_from([SCALE, REPLACE]),
)
def test_groups_keep_their_ratio_however_much_is_clamped(
    value: float, low: float, ratio: float, kind: Any
) -> None:
    base = (0.1, 0.1 * ratio)
    made = plan((CONSTANT, 0, 1, value, value), kind=kind, bounds=Bounds(low * 0.1, 0.2), base=base)
    first, second = (made.lr(i, lr, 0) for i, lr in enumerate(base))
    assert second / first == pytest.approx(ratio)


def test_a_group_at_zero_stays_at_zero() -> None:
    made = plan((CONSTANT, 0, 1, 0.5, 0.5), bounds=Bounds(0.01, 1.0), base=(0.1, 0.0))
    assert made.lr(0, 0.1, 0) == 0.5
    assert made.lr(1, 0.0, 0) == 0.0


def test_a_first_group_at_zero_still_follows_a_replacing_plan() -> None:
    made = plan((CONSTANT, 0, 1, 0.5, 0.5), base=(0.0, 0.1))
    assert made.lr(0, 0.0, 0) == 0.5


@given(
    st.sampled_from([SCALE, REPLACE]),
    st.floats(0, 1e300),
    st.floats(0, 10),
    st.floats(1e-6, 1e-3),
    st.floats(1e-3, 10),
)
def test_whatever_the_daemon_says_the_lr_stays_within_the_bounds(
    kind: Any, value: float, native: float, low: float, high: float
) -> None:
    made = plan((CONSTANT, 0, 1, value, value), kind=kind, bounds=Bounds(low, high))
    lr = made.lr(0, native, 3)
    own = (native, native) if kind == SCALE else (low, low)
    assert min(low, *own) <= lr <= max(high, *own)


def test_all_groups_at_once_are_each_group_for_itself() -> None:
    native = (0.1, 0.03, 0.0)
    for kind in (SCALE, REPLACE):
        made = plan((LINEAR, 0, 50, 0.9, 0.1), kind=kind, base=native, bounds=Bounds(0.01, 0.5))
        for step in (0, 17, 50):
            assert made.lrs(native, step) == [made.lr(i, lr, step) for i, lr in enumerate(native)]


# -- what is refused


@pytest.mark.parametrize(
    ("segments", "why"),
    [
        ([], "no segment"),
        ([(LINEAR, 5, 5, 0.1, 0.1)], r"\[5, 5\) is empty"),
        ([(LINEAR, 6, 5, 0.1, 0.1)], r"\[6, 5\) is empty"),
        ([(LINEAR, 0, 5, math.nan, 0.1)], "finite"),
        ([(LINEAR, 0, 5, 0.1, math.inf)], "finite"),
        ([(LINEAR, 0, 5, -0.1, 0.1)], ">= 0"),
        ([(EXPONENTIAL, 0, 5, 0.1, 0.0)], "must be > 0"),
        ([(EXPONENTIAL, 0, 5, 0.0, 0.1)], "must be > 0"),
        ([(LINEAR, 0, 9, 0.1, 0.1), (LINEAR, 5, 12, 0.1, 0.1)], "overlap or are out of order"),
        ([(LINEAR, 9, 12, 0.1, 0.1), (LINEAR, 0, 5, 0.1, 0.1)], "overlap or are out of order"),
        ([(model_pb2.SHAPE_UNSPECIFIED, 0, 5, 0.1, 0.1)], "unknown segment shape 0"),
        ([(99, 0, 5, 0.1, 0.1)], "unknown segment shape 99.*newer"),
    ],
)
def test_a_bad_plan_is_refused_before_it_is_followed(segments: list[Row], why: str) -> None:
    with pytest.raises(PlanError, match=why):
        plan(*segments)


@pytest.mark.parametrize("kind", [model_pb2.PLAN_KIND_UNSPECIFIED, 99])
def test_a_kind_that_is_not_known_is_refused(kind: Any) -> None:
    # A factor taken for an LR, or the reverse, would be a disaster.
    with pytest.raises(PlanError, match="kind"):
        plan((CONSTANT, 0, 1, 0.1, 0.1), kind=kind)


# -- in a checkpoint


@pytest.mark.parametrize("ramp", [None, Ramp(20, 10, 0.1)])
@pytest.mark.parametrize("kind", [SCALE, REPLACE])
def test_a_plan_survives_a_checkpoint(kind: Any, ramp: Ramp | None) -> None:
    made = plan(
        (CONSTANT, 0, 10, 1 / 3, 1 / 3),
        (EXPONENTIAL, 10, 2**40, 1 / 3, 1e-7),
        kind=kind,
        ramp=ramp,
        base=(0.1, 0.3),
        bounds=Bounds(0.0, 1.0),
    )
    state = json.loads(json.dumps(plan_to_state(made)))
    again = plan_from_state(state, Bounds(0.0, 1.0), (0.1, 0.3))
    assert again is not None
    for step in (0, 9, 15, 25, 30, 10**6, 2**41):
        for group, native in enumerate((0.1, 0.3)):
            assert again.lr(group, native, step) == made.lr(group, native, step)


def test_no_plan_survives_as_well() -> None:
    assert plan_to_state(None) is None
    assert plan_from_state(None, WIDE, (0.1,)) is None


def test_a_checkpoint_of_a_newer_lrpilot_is_read_as_far_as_it_is_known() -> None:
    state = plan_to_state(factor(0.5))
    assert state is not None
    state["plan"]["news"] = 1
    again = plan_from_state(state, WIDE, (0.1,))
    assert again is not None
    assert again.value(0) == 0.5


def test_the_bounds_of_the_new_process_hold() -> None:
    again = plan_from_state(plan_to_state(factor(0.01)), Bounds(0.05, 1.0), (0.1,))
    assert again is not None
    assert again.lr(0, 0.1, 0) == 0.05
