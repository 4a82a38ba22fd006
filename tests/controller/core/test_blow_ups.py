"""A blow-up: rolled back, cut, escalated, ended; and a run that learns nothing."""

import itertools
import math
import random
from collections.abc import Sequence
from dataclasses import replace

import pytest

from lrpilot_controller.core.engine import Engine
from lrpilot_controller.core.events import SnapshotTaken
from lrpilot_controller.core.model import Action, DecisionStatus, SignalKind, Verdict
from lrpilot_controller.core.plans import PlanKind
from lrpilot_controller.core.settings import CoreSettings, GuardSettings, Limits
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
    proven,
    refusals,
    signals,
)

# -- a blow-up


@pytest.mark.parametrize("seed", range(5))
def test_a_healthy_run_is_left_alone(seed: int) -> None:
    trainer = Trainer()
    trainer.snapshot(1, proven=True)
    found = trainer.train(descent(2000, seed))
    assert {signal.kind for signal in signals(found)} <= {SignalKind.PLATEAU}  # it has its floor
    assert len(found) == len(signals(found))


def test_nothing_is_known_before_the_first_session() -> None:
    engine = Engine()
    taken = SnapshotTaken("t1", 1, 1, 0, 0, True)
    assert engine.feed(taken) == []
    assert engine.view is None


def test_a_blow_up_is_one_rollback_to_the_proven_snapshot(trainer: Trainer) -> None:
    found = trainer.train(explosion(100))
    spike, signal = signals(found)
    assert (spike.kind, signal.kind) == (SignalKind.SPIKE, SignalKind.DIVERGENCE)
    assert 200 <= signal.since <= signal.step
    (decision,) = decisions(found)
    assert decision.id == 1
    assert decision.action is Action.ROLLBACK
    assert decision.status is DecisionStatus.SENT
    assert decision.signal == signal
    assert decision.step == signal.step
    assert decision.branch == 0
    assert decision.restore_snapshot == 2
    assert decision.restore_rng is False
    assert decision.factor == CoreSettings().guard.factor
    assert decision.plan is not None
    assert decision.plan.kind is PlanKind.SCALE
    assert decision.plan.end_value == decision.factor
    assert decision.expires_at_step == decision.step + 10 * 50
    assert "snapshot 2" in decision.reason
    assert "from 0.1" in decision.reason


def test_a_single_nan_is_noted_and_two_are_a_blow_up(trainer: Trainer) -> None:
    noted = trainer.train([math.nan])
    assert [d.action for d in decisions(noted)] == [Action.NOTE]
    assert decisions(noted)[0].plan is None
    # A note is not waited for.
    (decision,) = decisions(trainer.train([math.nan] * 50))
    assert (decision.id, decision.action) == (2, Action.ROLLBACK)
    assert "non-finite losses since step 200" in decision.reason


def test_nothing_is_decided_between_a_decision_and_its_receipt(trainer: Trainer) -> None:
    blown_up(trainer)
    found = trainer.train([*explosion(50, 1e9), math.nan, math.nan, math.nan])
    assert decisions(found) == []
    assert refusals(found) == []
    assert SignalKind.NONFINITE in {signal.kind for signal in signals(found)}  # told all the same


def test_a_run_without_a_snapshot_is_cut() -> None:
    trainer = Trainer(replace(ATTEMPT, can_snapshot=False))
    trainer.train(descent(200))
    (decision,) = decisions(trainer.train(explosion(40)))
    assert decision.action is Action.CUT
    assert decision.restore_snapshot is None
    assert decision.plan is not None
    assert decision.plan.end_value == pytest.approx(1 / 3)


def test_what_was_not_proven_is_not_restored() -> None:
    trainer = Trainer()
    trainer.snapshot(1, proven=True)
    trainer.train(descent(200))
    trainer.snapshot(2)  # a step before the blow-up: poisoned already
    (decision,) = decisions(trainer.train(explosion(40)))
    assert decision.restore_snapshot == 1


# -- repeated blow-ups


def test_repeated_blow_ups_escalate_and_end_in_a_stop() -> None:
    run = Quadratic(edge=0.0)  # no LR helps
    run.run(5000)
    assert run.stopped
    actions = [d.action for d in run.decisions if d.action is not Action.NOTE]
    assert actions == [Action.ROLLBACK] * 8 + [Action.STOP]
    rule = GuardSettings()
    factors = [d.factor for d in run.decisions]
    assert factors[:5] == [rule.factor] + [rule.escalated_factor] * 4
    assert all(
        ATTEMPT.min_lr * 0.999 <= lr <= ATTEMPT.max_lr
        for lr in itertools.accumulate(factors, lambda lr, factor: lr * factor, initial=LR)
    )
    assert [o.verdict for o in outcomes(run.outputs)] == [Verdict.ROLLED_BACK] * 8
    assert run.step < 400


@pytest.mark.parametrize("edge", [0.05, 0.01, 1e-3, 1e-4])
def test_an_lr_too_high_is_brought_below_its_edge(edge: float) -> None:
    run = Quadratic(edge)
    run.run(2000)
    assert not run.stopped
    assert edge / 10 <= run.lr < edge
    assert run.excess < 0.1
    assert outcomes(run.outputs)[-1].verdict is Verdict.IMPROVED
    assert refusals(run.outputs) == []


def test_a_spent_share_of_the_horizon_ends_in_a_stop_as_well() -> None:
    # A refused rollback alone would leave the run burning: the detectors speak once per episode.
    run = Quadratic(edge=0.0, attempt=replace(ATTEMPT, total_steps=100))
    run.run(3000)
    assert run.stopped
    assert run.step < 200
    (reason,) = refusals(run.outputs)
    assert "limits.max_rolled_back_fraction" in reason
    assert run.decisions[-1].action is Action.STOP
    assert "budget of rollbacks is spent" in run.decisions[-1].reason


def test_the_tighter_of_the_two_budgets_of_rollbacks_holds() -> None:
    limits = Limits(max_rollbacks=2)
    run = Quadratic(edge=0.0, settings=CoreSettings(limits=limits))
    run.run(3000)
    assert run.stopped
    assert [d.action for d in run.decisions].count(Action.ROLLBACK) == 2
    run = Quadratic(edge=0.0, settings=CoreSettings(guard=GuardSettings(max_rollbacks=1)))
    run.run(3000)
    assert run.stopped
    assert [d.action for d in run.decisions].count(Action.ROLLBACK) == 1


def test_without_snapshots_it_ends_in_a_stop_or_at_rest() -> None:
    run = Quadratic(edge=0.0, attempt=replace(ATTEMPT, can_snapshot=False))
    run.run(3000)
    assert run.stopped
    actions = {d.action for d in run.decisions}
    assert actions <= {Action.CUT, Action.NOTE, Action.STOP}


# -- a run that learns nothing


def flat(count: int, level: float, seed: int = 0) -> list[float]:
    """A loss that goes nowhere."""
    rng = random.Random(seed)
    return [2.3, 2.31, 2.3, *(level + rng.gauss(0, 0.1) for _ in range(count - 3))]


def restarted(losses: Sequence[float]) -> Trainer:
    """A run that blew up at once, was rolled back to its start and cut, and then did `losses`."""
    trainer = Trainer()
    trainer.snapshot(1, proven=True)
    trainer.train([2.3, 2.31, math.nan, math.nan])
    trainer.apply(trainer.decisions[-1])
    trainer.train(losses)
    return trainer


@pytest.mark.parametrize("seed", range(5))
def test_a_state_above_the_start_is_never_proven(seed: int) -> None:
    def proofs(level: float) -> list[int]:
        trainer = Trainer()
        trainer.snapshot(1, proven=True)
        losses = flat(400, level, seed)
        trainer.train(losses[:50])
        trainer.snapshot(2)
        return proven(trainer.train(losses[50:]))

    assert proofs(2.45) == []
    assert proofs(2.0) == [2]


@pytest.mark.parametrize("seed", range(5))
def test_a_cut_after_which_nothing_is_learnt_is_followed_by_another(seed: int) -> None:
    trainer = restarted(flat(120, 2.45, seed))
    rollbacks = [d for d in trainer.decisions if d.action is Action.ROLLBACK]
    assert len(rollbacks) == 2
    second = rollbacks[1]
    assert 50 <= second.step - 4 <= 52  # a time scale after the first
    assert (second.restore_snapshot, second.factor) == (1, GuardSettings().factor)
    assert "nothing learnt since step 4" in second.reason
    assert signals(trainer.outputs)[-1] == second.signal
    assert second.signal is not None
    assert second.signal.evidence["level"] > second.signal.evidence["start"]


@pytest.mark.parametrize("seed", range(5))
def test_a_cut_after_which_something_is_learnt_is_left_at_that(seed: int) -> None:
    rollbacks = [d for d in restarted(descent(300, seed)).decisions if d.action is Action.ROLLBACK]
    assert len(rollbacks) == 1


def test_learning_nothing_is_followed_up_a_few_times_and_stops_no_run() -> None:
    trainer = restarted(flat(60, 2.45))
    for _ in range(8):
        if trainer.engine.view is not None and trainer.engine.view.in_flight is not None:
            trainer.apply(trainer.decisions[-1])
        trainer.train(flat(60, 2.45))
    actions = [d.action for d in trainer.decisions if d.action is not Action.NOTE]
    assert actions == [Action.ROLLBACK] * 3


# -- without snapshots


def test_a_cut_that_did_not_end_the_blow_up_is_followed_up() -> None:
    """A detector speaks once per episode, and NaN weights stay NaN whatever the LR is."""
    trainer = Trainer(replace(ATTEMPT, can_snapshot=False))
    trainer.train(descent(60))
    trainer.train([math.nan] * 3)
    cut = trainer.decisions[-1]
    assert cut.action is Action.CUT
    made = len(trainer.decisions)
    trainer.apply(cut)
    trainer.train([math.nan] * 50)
    assert len(trainer.decisions) == made
    trainer.train([math.nan] * 5)
    assert [d.action for d in trainer.decisions[made:]] == [Action.STOP]


def test_a_cut_that_ended_the_blow_up_is_left_at_that() -> None:
    trainer = Trainer(replace(ATTEMPT, can_snapshot=False))
    trainer.train(descent(60))
    trainer.train(explosion(40))
    trainer.apply(trainer.decisions[-1])
    made = len(trainer.decisions)
    trainer.train(descent(300))
    assert len(trainer.decisions) == made


def test_notes_do_not_pile_up() -> None:
    trainer = Trainer()
    for _ in range(100):
        trainer.train([1.0, math.nan])
    notes = [d for d in trainer.decisions if d.action is Action.NOTE]
    assert len(notes) == 200 // Limits().cooldown_steps


def test_a_noisy_run_that_learns_slowly_gets_its_snapshots_proven() -> None:
    """As a fine-tuning or a resumed run does: its start lies a little below its level."""
    rng = random.Random(3)
    trainer = Trainer()
    trainer.snapshot(1, proven=True)
    trainer.train([0.9, 0.9, 0.9] + [rng.gauss(1.0, 0.2) for _ in range(250)])
    trainer.snapshot(2)
    trainer.train([rng.gauss(1.0, 0.2) for _ in range(100)])
    assert proven(trainer.outputs) == [2]
