"""What no policy may pass, and what a person reads where one tried."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrpilot_controller.core.guardrails import Guardrails, Refusal
from lrpilot_controller.core.model import (
    Action,
    Attempt,
    Decision,
    DecisionStatus,
    Mode,
    ParamGroup,
    Proposal,
    Signal,
    SignalKind,
)
from lrpilot_controller.core.plans import Plan, PlanKind, Program, Segment, Shape
from lrpilot_controller.core.settings import Limits
from lrpilot_controller.core.view import RunView

ATTEMPT = Attempt("t1", (ParamGroup("all", 0.1),), min_lr=1e-3, max_lr=1.0)
SIGNAL = Signal(SignalKind.DIVERGENCE, 500, 490, 0.9)
CUT = Proposal(Action.CUT, "the loss rose", SIGNAL, 0.5)
ROLLBACK = Proposal(Action.ROLLBACK, "the loss rose", SIGNAL, 0.5, snapshot=4)
NOTE = Proposal(Action.NOTE, "noted", SIGNAL)
STOP = Proposal(Action.STOP, "no use", SIGNAL)


def view(**known: object) -> RunView:
    made = RunView(ATTEMPT, step=500, branch=2, lr=0.1)
    for name, value in known.items():
        setattr(made, name, value)
    return made


def allowed(seen: RunView, proposal: Proposal, limits: Limits | None = None) -> Decision:
    verdict = Guardrails(limits).judge(seen, proposal, 7)
    assert isinstance(verdict, Decision), verdict
    return verdict


def refused(seen: RunView, proposal: Proposal, limits: Limits | None = None) -> str:
    verdict = Guardrails(limits).judge(seen, proposal, 7)
    assert isinstance(verdict, Refusal), verdict
    return verdict.reason


def test_what_passes_becomes_a_numbered_decision() -> None:
    decision = allowed(view(plan=Plan.scale(0.8, 400)), ROLLBACK)
    assert decision.id == 7
    assert (decision.action, decision.reason) == (Action.ROLLBACK, "the loss rose")
    assert (decision.step, decision.branch, decision.signal) == (500, 2, SIGNAL)
    assert decision.expires_at_step == 500 + 10 * 50
    assert decision.restore_snapshot == 4
    assert decision.plan is not None
    assert decision.plan.end_value == 0.4
    assert decision.plan.segments[0].start == 400  # the curve in force, scaled
    assert (decision.stop, decision.release, decision.factor) == (False, False, 0.5)
    assert decision.status is DecisionStatus.SENT


def test_a_longer_run_waits_longer() -> None:
    long = replace(ATTEMPT, total_steps=100_000)
    assert allowed(view(attempt=long), CUT).expires_at_step == 500 + 10 * 2000


def test_a_note_and_a_stop_change_no_lr() -> None:
    for proposal in (NOTE, STOP):
        decision = allowed(view(), proposal)
        assert decision.plan is None
        assert decision.restore_snapshot is None
        assert decision.factor == 1.0
        assert decision.stop is (proposal is STOP)


def test_a_note_and_a_stop_have_no_budget() -> None:
    spent = view(rollbacks=99, rolled_back_steps=10**6, last_change_step=499)
    for proposal in (NOTE, STOP):
        allowed(spent, proposal)


@pytest.mark.parametrize(
    ("mode", "status"),
    [
        (Mode.AUTO, DecisionStatus.SENT),
        (Mode.OBSERVE, DecisionStatus.SHADOW),
        (Mode.ADVISE, DecisionStatus.PROPOSED),
        (Mode.OFF, DecisionStatus.SHADOW),
    ],
)
def test_only_auto_sends(mode: Mode, status: DecisionStatus) -> None:
    assert allowed(view(attempt=replace(ATTEMPT, mode=mode)), CUT).status is status


# -- refusals


def test_one_decision_at_a_time() -> None:
    flying = allowed(view(), CUT)
    for proposal in (CUT, ROLLBACK, NOTE, STOP):
        reason = refused(view(in_flight=flying), proposal)
        assert reason == "decision 7 has not been answered yet"


def test_the_number_of_rollbacks() -> None:
    limits = Limits(max_rollbacks=3)
    allowed(view(rollbacks=2), ROLLBACK, limits)
    reason = refused(view(rollbacks=3), ROLLBACK, limits)
    assert "3 rollbacks" in reason
    assert "limits.max_rollbacks" in reason
    allowed(view(rollbacks=3), CUT, limits)


def test_the_share_of_the_horizon_that_rollbacks_cost() -> None:
    limits = Limits(max_rolled_back_fraction=0.25)
    horizon = replace(ATTEMPT, total_steps=1000)
    allowed(view(attempt=horizon, rolled_back_steps=250), ROLLBACK, limits)
    reason = refused(view(attempt=horizon, rolled_back_steps=251), ROLLBACK, limits)
    for part in ("251 of 1000 steps", "25%", "limits.max_rolled_back_fraction"):
        assert part in reason
    # Without a horizon there is nothing to take a share of: the number alone limits.
    allowed(view(rolled_back_steps=10**9), ROLLBACK, limits)


def test_a_spent_budget_says_that_it_is_spent_for_good() -> None:
    spent = Guardrails().judge(view(rollbacks=8), ROLLBACK, 7)
    cooling = Guardrails().judge(view(last_change_step=499), CUT, 7)
    assert isinstance(spent, Refusal)
    assert isinstance(cooling, Refusal)
    assert (spent.spent, cooling.spent) == (True, False)


def test_the_cooldown() -> None:
    limits = Limits(cooldown_steps=30)
    reason = refused(view(last_change_step=471), CUT, limits)
    for part in ("step 471", "30 steps", "limits.cooldown_steps"):
        assert part in reason
    allowed(view(last_change_step=470), CUT, limits)
    # A blow-up that can be undone does not wait.
    allowed(view(last_change_step=499), ROLLBACK, limits)


def test_a_cut_at_the_bound() -> None:
    reason = refused(view(lr=1e-3), CUT)
    for part in ("LR 0.001", "min_lr 0.001", "max_lr 1"):
        assert part in reason
    # The weights can be put back all the same.
    decision = allowed(view(lr=1e-3, plan=Plan.scale(0.01, 400)), ROLLBACK)
    assert decision.factor == 1.0
    assert decision.plan is not None
    assert decision.plan.end_value == 0.01


# -- what a search proposes


def plan(lr: float, kind: PlanKind = PlanKind.REPLACE) -> Plan:
    return Plan(kind, (Segment(Shape.LINEAR, 500, 900, lr, 0.0),))


def probe(lr: float, length: int = 40, **more: object) -> Proposal:
    segments = (Segment(Shape.EXPONENTIAL, 0, length, lr / 10, lr),)
    program = Program(0, segments, length, Plan(PlanKind.SCALE, ()))
    return Proposal(Action.PROGRAM, "a probe", program=program, **more)  # type: ignore[arg-type]


def test_a_program_has_the_number_of_its_decision() -> None:
    decision = allowed(view(), probe(0.5))
    assert decision.program is not None
    assert (decision.id, decision.program.id) == (7, 7)
    assert decision.restore_rng
    assert not decision.release


def test_no_lr_of_a_program_or_a_plan_is_above_the_bound() -> None:
    for proposal in (probe(1.01), Proposal(Action.PLAN, "found", plan=plan(1.01))):
        reason = refused(view(), proposal)
        for part in ("LR of 1.01", "max_lr 1"):
            assert part in reason
    allowed(view(), probe(1.0))
    allowed(view(), Proposal(Action.PLAN, "found", plan=plan(1.0)))


def test_a_factor_is_judged_by_the_lr_that_it_makes() -> None:
    allowed(view(), Proposal(Action.PLAN, "found", plan=plan(9.0, PlanKind.SCALE)))
    reason = refused(view(), Proposal(Action.PLAN, "found", plan=plan(11.0, PlanKind.SCALE)))
    assert "LR of 1.1 " in reason


def test_programs_may_cost_a_share_of_the_run() -> None:
    limits = Limits(max_probed_fraction=0.25)
    horizon = replace(ATTEMPT, total_steps=1000)
    allowed(view(attempt=horizon, probe_steps=210), probe(0.5, 40), limits)
    reason = refused(view(attempt=horizon, probe_steps=211), probe(0.5, 40), limits)
    for part in ("211 steps", "40 more", "25%", "limits.max_probed_fraction"):
        assert part in reason
    # Without a horizon it is a share of 2000 steps.
    allowed(view(probe_steps=460), probe(0.5, 40), limits)
    refused(view(probe_steps=461), probe(0.5, 40), limits)
    # A plan and a release cost nothing.
    spent = view(attempt=horizon, probe_steps=10**6)
    allowed(spent, Proposal(Action.PLAN, "found", plan=plan(0.5)), limits)
    assert allowed(spent, Proposal(Action.RELEASE, "declined"), limits).release


def test_a_search_has_no_cooldown_and_its_plan_no_factor() -> None:
    decision = allowed(view(last_change_step=499), Proposal(Action.PLAN, "f", plan=plan(0.9)))
    assert decision.plan == plan(0.9)
    assert decision.factor == 1.0


def test_it_speaks_of_one_boundary_unless_it_begins_from_whatever_state_it_finds() -> None:
    assert allowed(view(), probe(0.5)).expires_at_step == 501
    assert allowed(view(), probe(0.5, save=True, snapshot=3)).expires_at_step == 501
    assert allowed(view(), probe(0.5, save=True)).expires_at_step == 500 + 10 * 50
    assert allowed(view(), Proposal(Action.PLAN, "f", plan=plan(0.9))).expires_at_step == 501


# -- clamping


@pytest.mark.parametrize(
    ("lr", "asked", "given"),
    [
        (0.1, 0.5, 0.5),
        (0.1, 0.001, 0.1),  # the largest change
        (0.01, 1e3, 10.0),
        (0.1, 0.1, 0.1),
        (4e-3, 0.1, 0.25),  # min_lr
        (0.5, 10.0, 2.0),  # max_lr
        (1e-5, 0.5, 1.0),  # below the bound by the user's own schedule: not pushed, nor back
        (20.0, 2.0, 1.0),
        (20.0, 0.5, 0.5),
        (0.0, 0.5, 0.5),  # a schedule that is at 0 just now
    ],
)
def test_a_factor_is_clamped(lr: float, asked: float, given: float) -> None:
    decision = allowed(view(lr=lr), replace(ROLLBACK, factor=asked))
    assert decision.factor == pytest.approx(given)


def test_a_factor_that_is_clamped_is_told() -> None:
    assert (
        allowed(view(), replace(CUT, factor=0.001)).reason
        == "the loss rose; within the limits x0.1"
    )


@given(
    st.floats(0, 10) | st.floats(),
    st.floats(allow_nan=False) | st.floats(1e-3, 1e3),
    st.floats(1.5, 100),
)
def test_no_factor_passes_the_bounds(lr: float, asked: float, widest: float) -> None:
    limits = Limits(max_factor=widest)
    decision = allowed(view(lr=lr), replace(ROLLBACK, factor=asked), limits)
    assert 1 / widest <= decision.factor <= widest
    assert decision.plan is not None
    assert math.isfinite(decision.plan.end_value)
    after = lr * decision.factor
    if ATTEMPT.min_lr <= lr <= ATTEMPT.max_lr:
        assert ATTEMPT.min_lr * (1 - 1e-12) <= after <= ATTEMPT.max_lr * (1 + 1e-12)


def test_the_largest_change_counts_from_an_lr_that_the_run_has_proven() -> None:
    wide = replace(ATTEMPT, min_lr=1e-9)
    raised = view(lr=1.0, attempt=wide, raised_from=0.01)
    limits = Limits(max_factor=10.0)
    assert allowed(raised, replace(ROLLBACK, factor=0.01), limits).factor == pytest.approx(0.01)
    assert allowed(raised, replace(ROLLBACK, factor=1e-6), limits).factor == pytest.approx(1e-3)
    assert allowed(view(attempt=wide), replace(ROLLBACK, factor=1e-6), limits).factor == 0.1
