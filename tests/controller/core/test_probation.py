"""What a decision did to the loss."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrpilot_controller.core.model import Action, Decision, Outcome, Verdict
from lrpilot_controller.core.probation import Probation

DECISION = Decision(3, Action.ROLLBACK, "the loss rose", 100, 0)


def measure(
    losses: list[float], before: float | None = 2.0, unit: float | None = 1.0
) -> Outcome | None:
    probation = Probation(DECISION, len([x for x in losses if math.isfinite(x)]), before, unit)
    found = [probation.update(loss) for loss in losses]
    assert found[:-1] == [None] * (len(found) - 1)
    return found[-1]


@pytest.mark.parametrize(
    ("loss", "verdict", "gain"),
    [
        (1.5, Verdict.IMPROVED, 0.5),
        (2.3, Verdict.WORSE, -0.3),
        (2.01, Verdict.UNCHANGED, -0.01),
        (1.99, Verdict.UNCHANGED, 0.01),
        (2.0, Verdict.UNCHANGED, 0.0),
        (-50.0, Verdict.IMPROVED, 1.0),  # clipped
        (50.0, Verdict.WORSE, -1.0),
    ],
)
def test_the_gain_is_the_fall_in_units(loss: float, verdict: Verdict, gain: float) -> None:
    outcome = measure([loss] * 20)
    assert outcome is not None
    assert (outcome.decision_id, outcome.verdict, outcome.steps) == (3, verdict, 20)
    assert outcome.gain == pytest.approx(gain)
    assert (outcome.loss_before, outcome.loss_after) == (2.0, pytest.approx(loss))


def test_a_single_loss_says_little() -> None:
    outcome = measure([1.5] * 30 + [9.0])
    assert outcome is not None
    assert outcome.loss_after == pytest.approx(1.5 + 0.75)


def test_only_finite_losses_count() -> None:
    outcome = measure([1.5, math.nan, 1.5, math.inf, -math.inf, 1.5])
    assert outcome is not None
    assert (outcome.steps, outcome.loss_after) == (3, pytest.approx(1.5))


def test_without_a_level_the_first_loss_is_what_it_started_from() -> None:
    outcome = measure([4.0] + [2.0] * 50, before=None, unit=None)
    assert outcome is not None
    assert (outcome.loss_before, outcome.verdict) == (4.0, Verdict.IMPROVED)
    assert outcome.gain == pytest.approx(1.0)  # no unit is known: the fall itself is


def test_a_flat_run_without_a_unit_is_unchanged() -> None:
    outcome = measure([2.0] * 5, unit=0.0)
    assert outcome is not None
    assert (outcome.verdict, outcome.gain) == (Verdict.UNCHANGED, 0.0)


def test_a_blow_up_and_an_early_end() -> None:
    probation = Probation(DECISION, 50, 2.0, 1.0)
    probation.update(1.0)
    assert probation.rolled_back() == Outcome(3, Verdict.ROLLED_BACK, -1.0, 1, 2.0, 1.0)
    assert probation.unfinished() == Outcome(3, Verdict.UNFINISHED, 0.0, 1, 2.0, 1.0)


@given(
    st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=20),
    st.none() | st.floats(-1e300, 1e300),
    st.none() | st.floats(0, 2e300),
)
def test_every_number_stays_finite(
    losses: list[float], before: float | None, unit: float | None
) -> None:
    outcome = measure(losses, before, unit)
    assert outcome is not None
    assert -1 <= outcome.gain <= 1
    assert outcome.loss_before is not None
    assert outcome.loss_after is not None
    assert math.isfinite(outcome.loss_before)
    assert math.isfinite(outcome.loss_after)


@given(
    st.lists(st.floats(0, 5), min_size=1, max_size=20),
    st.floats(1e-3, 1e3),
    st.floats(-10, 10),
)
def test_the_gain_does_not_depend_on_the_scale_of_the_loss(
    losses: list[float], scale: float, offset: float
) -> None:
    plain = measure(losses, 2.0, 1.5)
    moved = measure([scale * x + offset for x in losses], scale * 2.0 + offset, scale * 1.5)
    assert plain is not None
    assert moved is not None
    assert moved.gain == pytest.approx(plain.gain, abs=1e-6 * (1 + 10 / scale))
