"""The guard's rule: what it proposes about a signal."""

from dataclasses import replace

import pytest

from lrpilot_controller.core.model import (
    Action,
    Attempt,
    Experiment,
    ParamGroup,
    Proposal,
    Signal,
    SignalKind,
)
from lrpilot_controller.core.policies.guard import GuardPolicy
from lrpilot_controller.core.settings import GuardSettings, Reactions
from lrpilot_controller.core.view import RunView

ATTEMPT = Attempt("t1", (ParamGroup("all", 0.1),), min_lr=1e-3, max_lr=1.0)
DIVERGENCE = Signal(SignalKind.DIVERGENCE, 500, 490, 0.9, {"level": 5.0, "best": 0.25})
NANS = Signal(SignalKind.NONFINITE, 500, 499, 1.0, {"count": 2.0})
RULE = GuardSettings(factor=0.5, escalated_factor=0.2, max_rollbacks=4)


def decide(signal: Signal, **known: object) -> Proposal:
    proposal = decision(signal, **known)
    assert isinstance(proposal, Proposal)
    return proposal


def decision(signal: Signal, **known: object) -> Proposal | Experiment | None:
    view = RunView(ATTEMPT, step=500, lr=0.1)
    for name, value in known.items():
        setattr(view, name, value)
    return GuardPolicy(RULE).decide(view, signal)


TOLD = (SignalKind.SPIKE, SignalKind.PLATEAU, SignalKind.TOO_LOW, SignalKind.OVERFIT)


@pytest.mark.parametrize("kind", TOLD)
def test_nothing_follows_from_these_until_a_person_asks_for_it(kind: SignalKind) -> None:
    assert decision(Signal(kind, 500, 490, 1.0), snapshot=1) is None


JUMP = Signal(SignalKind.TOO_HIGH, 96, 3, 0.9, {"start": 4.6, "peak": 21.0, "level": 3.0})
RAISED = Signal(
    SignalKind.TOO_HIGH,
    516,
    500,
    0.9,
    {"level_before": 0.5, "loss": 0.9, "lr": 1.0, "healthy_lr": 0.1},
)


def test_a_rate_too_high_from_the_start_goes_back_and_is_cut_deeper() -> None:
    proposal = decide(JUMP, snapshot=1)
    assert (proposal.action, proposal.snapshot) == (Action.ROLLBACK, 1)
    assert proposal.factor == RULE.too_high_factor
    assert "from 4.6 to 21" in proposal.reason


@pytest.mark.parametrize("signal", [RAISED, DIVERGENCE, NANS])
def test_after_a_raise_the_rate_goes_back_to_what_the_run_was_healthy_at(signal: Signal) -> None:
    proposal = decide(signal, snapshot=3, lr=1.0, raised_from=0.01)
    assert (proposal.action, proposal.snapshot) == (Action.ROLLBACK, 3)
    assert proposal.factor == pytest.approx(0.01)
    bare = decide(signal, lr=1.0, raised_from=0.01)
    assert (bare.action, bare.factor) == (Action.CUT, pytest.approx(0.01))


@pytest.mark.parametrize("lr", [0.0, 0.005])
def test_a_schedule_that_is_low_just_now_is_cut_as_ever(lr: float) -> None:
    for snapshot in (3, None):
        assert decide(NANS, snapshot=snapshot, lr=lr, raised_from=0.01).factor == RULE.factor


def test_a_rate_too_high_is_no_reason_to_stop() -> None:
    spent = decide(JUMP, snapshot=1, rollbacks_spent=True)
    assert spent.action is Action.CUT
    assert "the rollbacks are spent" in spent.reason  # there is a snapshot


def test_where_the_training_code_writes_over_the_rate_nothing_more_is_undone_in_vain() -> None:
    assert decide(DIVERGENCE, snapshot=3, overwritten=1).action is Action.ROLLBACK
    noted = decide(DIVERGENCE, snapshot=3, overwritten=2)
    assert noted.action is Action.NOTE
    assert "writes over the LR" in noted.reason


def test_a_search_in_place_of_a_cut() -> None:
    able = replace(ATTEMPT, can_snapshot=True, can_program=True)
    reactions = Reactions().overridden({"too_high": "search"})
    wanted = decision(JUMP, snapshot=1, attempt=able, reactions=reactions)
    assert isinstance(wanted, Experiment)
    assert (wanted.factors, wanted.snapshot) == ((), 1)


def test_where_no_search_is_possible_the_rate_is_cut_all_the_same() -> None:
    reactions = Reactions().overridden({"too_high": "search"})
    assert decide(JUMP, snapshot=1, reactions=reactions).action is Action.ROLLBACK


def test_one_bad_batch_is_noted() -> None:
    proposal = decide(Signal(SignalKind.NONFINITE, 500, 500, 0.3), snapshot=1)
    assert (proposal.action, proposal.factor, proposal.snapshot) == (Action.NOTE, 1.0, None)
    assert "step 500" in proposal.reason


@pytest.mark.parametrize("signal", [DIVERGENCE, NANS])
def test_a_blow_up_is_rolled_back_and_cut(signal: Signal) -> None:
    proposal = decide(signal, snapshot=3)
    assert (proposal.action, proposal.factor, proposal.snapshot) == (Action.ROLLBACK, 0.5, 3)
    assert proposal.signal is signal
    for part in ("snapshot 3", "x0.5", "from 0.1", f"since step {signal.since}"):
        assert part in proposal.reason


def test_the_evidence_is_told_in_numbers() -> None:
    assert "loss 5, best 0.25" in decide(DIVERGENCE, snapshot=3).reason
    # Two NaN in a row are a divergence as well, with other evidence.
    bare = Signal(SignalKind.DIVERGENCE, 500, 490, 1.0, {"count": 2.0})
    assert "since step 490" in decide(bare, snapshot=3).reason


@pytest.mark.parametrize(
    ("lasted", "factor"),
    [(None, 0.5), (39, 0.5), (40, 0.2), (41, 0.2)],
    ids=["first", "longer", "as long", "shorter"],
)
def test_a_cut_that_did_not_make_the_run_last_longer_is_followed_by_a_larger_one(
    lasted: int | None, factor: float
) -> None:
    """The blow-up began at step 490, 40 steps after the last rollback."""
    known = {"rollbacks_to": {3: 1}, "rollbacks": 1} if lasted else {}
    proposal = decide(DIVERGENCE, snapshot=3, began=450, lasted=lasted, **known)
    assert (proposal.action, proposal.factor) == (Action.ROLLBACK, factor)
    told = "rollback 2 to this snapshot; the last lasted 40 steps"
    assert (told in proposal.reason) is (lasted is not None)


def test_too_many_rollbacks_are_a_stop() -> None:
    proposal = decide(DIVERGENCE, snapshot=3, rollbacks=4)
    assert proposal.action is Action.STOP
    assert "4 rollbacks" in proposal.reason
    assert "guard.max_rollbacks" in proposal.reason


def test_rollbacks_that_the_guardrails_do_not_allow_any_more_are_a_stop() -> None:
    proposal = decide(
        DIVERGENCE, snapshot=3, rollbacks=2, rolled_back_steps=345, rollbacks_spent=True
    )
    assert proposal.action is Action.STOP
    assert "345 steps" in proposal.reason


def test_without_a_snapshot_it_can_only_cut() -> None:
    proposal = decide(DIVERGENCE, rollbacks=99, cuts=5)
    assert (proposal.action, proposal.factor, proposal.snapshot) == (Action.CUT, 0.5, None)
    assert "no snapshot" in proposal.reason


def test_nan_weights_stay_nan_at_any_lr() -> None:
    assert decide(NANS).action is Action.CUT  # the step may have been skipped
    assert decide(NANS, cuts=1).action is Action.STOP


def test_it_is_pure() -> None:
    assert decide(DIVERGENCE, snapshot=3) == decide(DIVERGENCE, snapshot=3)
