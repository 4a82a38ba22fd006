"""What follows from the trainer's answer to a decision, and what came of the decision."""

import math
from dataclasses import replace

import pytest

from lrpilot_controller.core.events import Output, ReceiptArrived
from lrpilot_controller.core.model import Action, DecisionStatus, Mode, Receipt, Verdict
from lrpilot_controller.core.settings import CoreSettings, GuardSettings
from support.streams import (
    ATTEMPT,
    LR,
    Quadratic,
    Trainer,
    blown_up,
    decisions,
    descent,
    explosion,
    outcomes,
)

# -- after the receipt


def test_after_a_rollback_the_left_branch_is_not_heard(trainer: Trainer) -> None:
    trainer.apply(blown_up(trainer).decisions[0])
    assert trainer.branch == 1
    assert trainer.train([math.nan] * 20, branch=(0,) * 20) == []
    assert trainer.train(explosion(60, 1e6), branch=(0,) * 60) == []


def test_a_program_is_not_heard(trainer: Trainer) -> None:
    assert trainer.train([math.nan] * 60, program=(7,) * 60) == []
    assert trainer.train(explosion(60), program=(7,) * 60) == []


def test_a_stranger_is_not_heard(trainer: Trainer) -> None:
    losses = explosion(60)
    assert trainer.train(losses, attempt="t0") == []
    blown_up(trainer)
    (decision,) = trainer.decisions
    receipt = Receipt(decision.id, DecisionStatus.APPLIED, 240, 0, 1, (LR,), (LR,))
    assert trainer.feed(ReceiptArrived("t0", 9, receipt)) == []
    assert trainer.engine.view is not None
    assert trainer.engine.view.in_flight == decision


def test_the_detectors_go_back_to_the_snapshot(trainer: Trainer) -> None:
    # Else the blow-up's own level would be the measure of what comes after it.
    trainer.apply(blown_up(trainer).decisions[0])
    assert trainer.train(descent(200)[100:]) == outcomes_only(trainer)
    (again,) = decisions(trainer.train(explosion(40)))
    assert again.action is Action.ROLLBACK


def outcomes_only(trainer: Trainer) -> list[Output]:
    return [o for o in trainer.outputs if hasattr(o, "outcome")]


def test_the_plan_multiplies_what_is_in_force(trainer: Trainer) -> None:
    trainer.apply(blown_up(trainer).decisions[0])
    trainer.train(explosion(40))
    second = trainer.decisions[-1]
    assert second.id == 2
    assert second.plan is not None
    assert second.plan.end_value == pytest.approx(second.factor / 3)
    assert second.branch == 1


def test_a_receipt_counts_once(trainer: Trainer) -> None:
    (decision,) = blown_up(trainer).decisions
    trainer.apply(decision)
    receipt = trainer.inputs[-1]
    view = trainer.engine.view
    assert view is not None
    assert view.rollbacks == 1
    assert trainer.feed(receipt) == []
    assert view.rollbacks == 1
    assert view.branch == 1


def test_steps_are_counted_as_rolled_back_once(trainer: Trainer) -> None:
    view = trainer.engine.view
    assert view is not None
    trainer.apply(blown_up(trainer).decisions[-1])
    assert (trainer.step, view.rolled_back_steps) == (240, 140)  # back to step 100
    # The second one undoes only what came since the first, the rest is undone already.
    trainer.apply(blown_up(trainer).decisions[-1])
    assert (trainer.step, view.rolled_back_steps) == (280, 180)


# -- answers other than applied


def test_an_expired_decision_is_decided_anew(trainer: Trainer) -> None:
    (first,) = blown_up(trainer).decisions
    trainer.step += 1000
    (second,) = decisions(trainer.answer(first, DecisionStatus.EXPIRED))
    assert second.id == first.id + 1
    assert second.action is Action.ROLLBACK
    assert second.restore_snapshot == first.restore_snapshot
    assert second.step == trainer.step
    assert second.expires_at_step is not None
    assert second.expires_at_step > trainer.step
    assert trainer.engine.view is not None
    assert trainer.engine.view.in_flight == second
    assert trainer.engine.view.rollbacks == 0


def test_a_snapshot_that_the_trainer_cannot_restore_is_not_asked_for_again(
    trainer: Trainer,
) -> None:
    (first,) = blown_up(trainer).decisions
    (second,) = decisions(trainer.answer(first, DecisionStatus.REJECTED))
    assert (second.id, second.action, second.restore_snapshot) == (2, Action.CUT, None)
    # Whoever rejects that as well is not asked for ever.
    assert trainer.answer(second, DecisionStatus.REJECTED) == []


@pytest.mark.parametrize("status", ["stale", "superseded"])
def test_a_decision_that_was_not_followed_changes_nothing(trainer: Trainer, status: str) -> None:
    (decision,) = blown_up(trainer).decisions
    assert trainer.answer(decision, DecisionStatus(status)) == []
    view = trainer.engine.view
    assert view is not None
    assert (view.in_flight, view.rollbacks, view.plan, view.branch) == (None, 0, None, 0)


@pytest.mark.parametrize(
    ("settings", "snapshots", "losses", "actions"),
    [
        (CoreSettings(), True, [math.nan], [Action.NOTE]),
        (CoreSettings(), True, explosion(40), [Action.ROLLBACK]),
        (CoreSettings(), False, explosion(40), [Action.CUT]),
        (CoreSettings(guard=GuardSettings(max_rollbacks=0)), True, explosion(40), [Action.STOP]),
    ],
)
def test_nothing_of_what_an_observed_run_is_told_reaches_it(
    settings: CoreSettings, snapshots: bool, losses: list[float], actions: list[Action]
) -> None:
    attempt = replace(ATTEMPT, mode=Mode.OBSERVE, can_snapshot=snapshots, can_stop=True)
    trainer = Trainer(attempt, settings)
    if snapshots:
        trainer.snapshot(1, proven=True)
    trainer.train(descent(200))
    made = decisions(trainer.train(losses))
    assert [decision.action for decision in made] == actions
    assert {decision.status for decision in made} == {DecisionStatus.SHADOW}
    assert trainer.engine.view is not None
    assert trainer.engine.view.in_flight is trainer.engine.view.proposed is None


def test_a_run_that_is_only_observed_gets_shadow_decisions() -> None:
    trainer = Trainer(replace(ATTEMPT, mode=Mode.OBSERVE))
    trainer.snapshot(1, proven=True)
    trainer.train(descent(200))
    (decision,) = decisions(trainer.train(explosion(40)))
    assert decision.status is DecisionStatus.SHADOW
    assert decision.action is Action.ROLLBACK
    view = trainer.engine.view
    assert view is not None
    assert view.in_flight is None
    # The run recovers by itself, and blows up again: that is said again.
    trainer.train(descent(400)[200:])
    (again,) = decisions(trainer.train(explosion(40)))
    assert (again.id, again.status) == (2, DecisionStatus.SHADOW)
    assert (view.rollbacks, view.plan) == (0, None)


# -- outcomes


def test_an_outcome_is_measured_over_the_probation(trainer: Trainer) -> None:
    trainer.apply(blown_up(trainer).decisions[0])
    losses = descent(400)[100:]
    assert outcomes(trainer.train(losses[:49])) == []
    (outcome,) = outcomes(trainer.train(losses[49:50]))
    assert outcome.decision_id == 1
    assert outcome.steps == 50
    assert outcome.verdict is Verdict.IMPROVED
    assert 0 < outcome.gain <= 1
    # Compared with the snapshot that it started from, not with the blow-up.
    assert outcome.loss_before == pytest.approx(descent(101)[100], abs=0.1)


def test_another_blow_up_is_the_worst_outcome(trainer: Trainer) -> None:
    trainer.apply(blown_up(trainer).decisions[0])
    found = trainer.train(explosion(40))
    assert [(o.decision_id, o.verdict, o.gain) for o in outcomes(found)] == [
        (1, Verdict.ROLLED_BACK, -1.0)
    ]


@pytest.mark.parametrize("end", ["goodbye", "attempt"])
def test_an_end_leaves_it_unfinished(trainer: Trainer, end: str) -> None:
    trainer.apply(blown_up(trainer).decisions[0])
    trainer.train(descent(120)[100:])
    found = trainer.goodbye() if end == "goodbye" else trainer.open(replace(ATTEMPT, id="t2"))
    assert [(o.verdict, o.gain, o.steps) for o in outcomes(found)] == [
        (Verdict.UNFINISHED, 0.0, 20)
    ]


def test_every_applied_change_has_one_outcome_at_most() -> None:
    run = Quadratic(edge=1e-3)
    run.run(1500)
    ids = [o.decision_id for o in outcomes(run.outputs)]
    assert len(set(ids)) == len(ids)
    assert set(ids) == {d.id for d in run.decisions if d.action is Action.ROLLBACK}
