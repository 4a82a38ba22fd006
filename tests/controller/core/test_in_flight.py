"""Signals in flight: an engine waits for spikes, takes a cut back, tries factors, goes back."""

import math
import random
from dataclasses import replace
from typing import Any

import pytest

from lrpilot_controller.core.events import Commanded
from lrpilot_controller.core.findings import SearchEnd
from lrpilot_controller.core.model import Action, Decision, DecisionStatus, Mode, SignalKind
from lrpilot_controller.core.plans import PlanKind
from lrpilot_controller.core.settings import CoreSettings, Limits
from support.searcher import BASE, Searcher
from support.simulated import Bowl
from support.streams import ATTEMPT, Trainer, decisions, outcomes, proven, refusals, signals


def noise(count: int, level: float = 0.5, sd: float = 0.02, seed: int = 0) -> list[float]:
    rng = random.Random(seed)
    return [level + rng.gauss(0, sd) for _ in range(count)]


def falling(count: int) -> list[float]:
    rng = random.Random(1)
    return [0.5 + 2.0 / (1 + t / 20) + rng.gauss(0, 0.02) for t in range(count)]


def swinging(count: int) -> list[float]:
    return [loss + 0.3 * (-1) ** t for t, loss in enumerate(noise(count, 0.6))]


def started(
    reactions: dict[str, str] | None = None, settings: CoreSettings | None = None
) -> Trainer:
    attempt = replace(ATTEMPT, signals=reactions or {}, total_steps=2000)
    trainer = Trainer(attempt, settings)
    trainer.snapshot(1, proven=True)
    trainer.train(falling(400))
    return trainer


def swings_cut(trainer: Trainer) -> Decision:
    """Swings until the cut, which is applied."""
    (cut,) = decisions(trainer.train(swinging(128)))
    assert cut.action is Action.CUT
    assert cut.signal is not None
    assert cut.signal.kind is SignalKind.OSCILLATION
    trainer.apply(cut)
    return cut


# -- oscillation


def test_a_cut_that_made_the_swings_smaller_stays() -> None:
    trainer = started()
    swings_cut(trainer)
    found = trainer.train(noise(100))
    assert len(outcomes(found)) == 1
    assert decisions(found) == []


@pytest.mark.parametrize("aligned", [0, 7, 25])
@pytest.mark.parametrize("probation_steps", [10, 50])
def test_it_is_judged_by_what_came_after_it_once_that_has_settled(
    aligned: int, probation_steps: int
) -> None:
    trainer = started(settings=CoreSettings(probation_steps=probation_steps))
    (cut,) = decisions(trainer.train(swinging(128)))
    trainer.train(swinging(aligned))  # on its way
    trainer.apply(cut)
    settling = [0.5 + 0.6 * 0.96**t * (1 + (-1) ** t) for t in range(32)]
    found = trainer.train([*settling, *noise(100)])
    assert decisions(found) == []


def test_a_cut_that_did_not_help_is_taken_back() -> None:
    trainer = started()
    cut = swings_cut(trainer)
    (back,) = decisions(trainer.train(swinging(64)))
    assert back.action is Action.RELEASE
    assert back.release
    assert f"decision {cut.id} did not help" in back.reason


def test_it_goes_back_to_the_plan_that_was_in_force() -> None:
    trainer = started()
    blown = decisions(trainer.train([5.0 * 1.5**k for k in range(20)]))[-1]
    assert blown.action is Action.ROLLBACK
    trainer.apply(blown)
    trainer.train(falling(400)[150:])
    swings_cut(trainer)
    (back,) = decisions(trainer.train(swinging(64)))
    assert (back.action, back.plan) == (Action.PLAN, blown.plan)


def test_a_frozen_run_keeps_it() -> None:
    trainer = started()
    swings_cut(trainer)
    trainer.feed(Commanded("freeze", "ann", "it is mine now"))
    assert decisions(trainer.train(swinging(200))) == []


def test_what_takes_it_back_is_sent_again_where_it_came_too_late() -> None:
    trainer = started()
    swings_cut(trainer)
    (back,) = decisions(trainer.train(swinging(64)))
    (again,) = decisions(trainer.answer(back, DecisionStatus.EXPIRED))
    assert (again.action, again.reason) == (back.action, back.reason)
    trainer.apply(again)
    assert decisions(trainer.train(noise(60))) == []


def test_a_run_that_blows_up_meanwhile_gets_no_higher_rate() -> None:
    """It cannot be rolled back, and another cut must wait for the cooldown."""
    trainer = Trainer(replace(ATTEMPT, can_snapshot=False, total_steps=2000))
    trainer.train(falling(400))
    swings_cut(trainer)
    found = trainer.train([loss + 0.5 * min(t, 12) for t, loss in enumerate(swinging(120))])
    assert "cooldown" in refusals(found)[0]
    (cut,) = decisions(found)
    assert cut.action is Action.CUT
    assert cut.signal is not None
    assert cut.signal.kind is SignalKind.DIVERGENCE


def test_a_loss_that_swings_by_itself_now_and_then_is_cut_for_it_once() -> None:
    trainer = started()
    swings_cut(trainer)
    trainer.train(noise(400, 0.6))
    for _ in range(4):
        found = trainer.train([*swinging(200), *noise(400, 0.6)])
        assert SignalKind.OSCILLATION in [signal.kind for signal in signals(found)]
        assert decisions(found) == []


def test_wider_swings_than_those_are_cut_for_again() -> None:
    trainer = started()
    swings_cut(trainer)
    trainer.train(noise(400, 0.6))
    wider = [0.6 + 3 * (loss - 0.6) for loss in swinging(200)]
    (cut,) = decisions(trainer.train(wider))
    assert cut.action is Action.CUT


# -- spikes


def with_a_spike(trainer: Trainer) -> list[Decision]:
    """Swings whose signal falls into a spike that goes on for a while."""
    trainer.train(swinging(80))
    spike = [8.0 - 0.02 * t for t in range(48)]
    return decisions(trainer.train(spike))


def test_nothing_but_a_blow_up_is_decided_while_a_spike_is_on() -> None:
    trainer = started({"overfit": "cut", "divergence": "say"})
    signal_free = with_a_spike(trainer)
    assert [decision.action for decision in signal_free] == []


def test_it_is_answered_when_the_spike_is_over() -> None:
    trainer = started({"divergence": "say"})
    losses = swinging(400)
    (cut,) = decisions(trainer.train([*losses[:96], 9.0, *losses[97:200]]))
    assert cut.action is Action.CUT


# -- a raise


def test_after_a_raise_the_run_goes_back_to_where_it_was_healthy() -> None:
    trainer = started()
    trainer.snapshot(2)
    trainer.train(noise(60))
    for factor in (10.0, 100.0):
        native = trainer.lr
        trainer.lr = native * factor
        found = trainer.train(noise(40, level=1.0, sd=0.1))
        (decision,) = decisions(found)
        assert decision.action is Action.ROLLBACK
        assert decision.restore_snapshot == 2
        assert decision.factor == pytest.approx(1 / factor)
        trainer.apply(decision)
        trainer.lr = native
        trainer.train(noise(60))


def test_a_snapshot_from_before_a_raise_needs_no_further_proof() -> None:
    trainer = started()
    trainer.snapshot(2)
    trainer.train(noise(5))  # too few to prove it, but the raise comes after it
    trainer.lr *= 10.0
    found = trainer.train(noise(10, level=1.0, sd=0.1))
    (decision,) = decisions(found)
    assert proven(found) == [2]
    assert decision.restore_snapshot == 2


def test_one_bad_batch_after_a_raise_is_no_proof_of_it() -> None:
    trainer = started()
    trainer.snapshot(2)
    trainer.lr *= 10.0
    assert proven(trainer.train([*noise(3), math.nan, *noise(3)])) == []


def test_one_from_after_the_raise_is_not_trusted() -> None:
    trainer = started()
    trainer.lr *= 10.0
    trainer.train(noise(2, level=0.6))
    trainer.snapshot(2)
    (decision,) = decisions(trainer.train(noise(20, level=1.0, sd=0.1)))
    assert decision.restore_snapshot == 1


def test_a_search_in_place_of_the_cut_begins_from_the_snapshot() -> None:
    """Training went on while its first program was on its way."""
    run = Searcher(Bowl(noise=0.02), search=False, signals={"too_high": "search"}, total_steps=8000)
    run.train(falling(400))
    run.lr = 30 * BASE
    run.train(noise(20, level=3.0, sd=0.1))
    (first,) = run.todo
    assert first.program is not None
    assert first.program.restore_snapshot == 1
    assert first.reason.startswith("LR too high since it was raised")
    result = run.search()
    assert result is not None
    assert result.end is SearchEnd.FOUND


def test_a_loop_that_writes_its_own_rate_is_rolled_back_twice_and_then_left_alone() -> None:
    trainer = started()
    own, actions = trainer.lr, []
    for _ in range(4):
        found = decisions(trainer.train([5.0 * 1.5**k for k in range(60)]))
        actions += [decision.action for decision in found]
        for decision in found:
            if decision.action is Action.ROLLBACK:
                trainer.apply(decision)
                trainer.lr = own  # before the next step, as before each
        trainer.train(falling(400)[200:])
    assert actions.count(Action.ROLLBACK) == 2
    assert Action.NOTE in actions
    assert Action.STOP not in actions


# -- trials


def plateaued(**more: Any) -> Searcher:
    """A run that reports a plateau, in a state from which a higher LR gets further."""
    run = Searcher(
        Bowl(noise=0.02),
        search=False,
        signals={"plateau": "probe"},
        **({"total_steps": 8000} | more),
    )
    run.train([*falling(500), *noise(500, 0.58)])
    assert SignalKind.PLATEAU in [signal.kind for signal in signals(run.outputs)]
    return run


def test_a_plateau_is_answered_by_a_trial_and_the_better_factor_stays() -> None:
    run = plateaued()
    assert run.todo[0].reason.startswith("plateau since step")
    result = run.search()
    assert result is not None
    assert result.end is SearchEnd.TRIED
    assert [c.lr / BASE for c in result.candidates] == pytest.approx([1 / 3, 1, 3])
    assert result.lr == pytest.approx(3 * BASE)
    assert run.native(run.plan) == pytest.approx(3 * BASE)
    assert run.plan is not None
    assert run.plan.kind is PlanKind.SCALE  # the user's curve, by another factor


def test_a_trial_that_finds_nothing_leaves_state_and_rate_as_they_were() -> None:
    run = plateaued(max_lr=BASE)  # what would be better is not allowed
    before = run.state.weights.copy()
    result = run.search()
    assert result is not None
    assert result.end is SearchEnd.DECLINED
    assert (run.state.weights == before).all()
    assert run.native(run.plan) == BASE


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"total_steps": 1200}, "too few for 3 programs"),
        ({"can_replay": False}, "batches cannot be replayed"),
        ({"min_lr": BASE, "max_lr": BASE}, "no other LR is within"),
        ({"min_lr": 2 * BASE}, "the LR in force is not within"),
    ],
)
def test_one_that_could_find_nothing_is_refused_and_costs_nothing(
    more: dict[str, Any], why: str
) -> None:
    run = plateaued(**more)
    assert run.todo == []
    assert run.results == []
    (reason,) = refusals(run.outputs)
    assert why in reason


def test_what_the_first_one_left_of_the_budget_is_not_enough_for_a_second() -> None:
    run = plateaued(settings=CoreSettings(limits=Limits(max_probed_fraction=0.03)))
    run.search()
    told = len(run.outputs)
    run.train([loss - 1.92 for loss in [*falling(500), *noise(800, 0.58)]])
    (reason,) = refusals(run.outputs[told:])
    assert reason.startswith("programs cost 192 steps")
    assert decisions(run.outputs[told:]) == []


def test_the_state_that_it_began_from_is_proven_once() -> None:
    run = plateaued()
    run.search()
    home = run.taken
    run.train(noise(500, 0.58))
    assert proven(run.outputs).count(home) == 1


def test_its_steps_are_charged() -> None:
    run = plateaued()
    run.search()
    view = run.engine.view
    assert view is not None
    assert view.probe_steps == 3 * 64


def test_the_run_is_watched_on_after_it_as_before() -> None:
    run = plateaued()
    run.search()
    found = run.train([0.58 * 3**k for k in range(12)])
    assert Action.ROLLBACK in [decision.action for decision in decisions(found)]


@pytest.mark.parametrize("mode", [Mode.OBSERVE, Mode.ADVISE])
def test_nothing_is_tried_by_itself_in_other_modes(mode: Mode) -> None:
    run = plateaued(mode=mode)
    assert run.todo == []
    assert any(f"mode is {mode}" in reason for reason in refusals(run.outputs))


# -- the first steps


JUMPED = [4.6, 5.3, 9.9, 21.0, 10.4, 6.4, 5.4, 5.0, 5.2, 5.2, 4.5, 3.8, 3.6]


def test_a_rate_too_high_from_the_start_leads_back_to_the_start() -> None:
    trainer = Trainer(replace(ATTEMPT, total_steps=2000))
    trainer.snapshot(1, proven=True)
    trainer.train([*JUMPED, *noise(40, 3.0, 0.25)])
    trainer.snapshot(2)  # of a state that is spoiled, however calm the loss is
    found = trainer.train(noise(200, 3.0, 0.25, seed=1))
    (decision,) = decisions(found)
    assert proven(found) == []
    assert (decision.action, decision.restore_snapshot) == (Action.ROLLBACK, 1)
    assert decision.factor == pytest.approx(0.1)
    told = [signal.kind for signal in signals(trainer.outputs)]
    assert told.count(SignalKind.TOO_HIGH) == 2


def test_a_jump_that_is_made_good_changes_nothing_and_snapshots_are_proven_after_it() -> None:
    trainer = Trainer(replace(ATTEMPT, total_steps=2000))
    trainer.snapshot(1, proven=True)
    trainer.train([2.3, 2.5, 2.8, 2.6, *falling(50)])
    trainer.snapshot(2)
    found = trainer.train(falling(300)[50:])
    assert proven(found) == [2]
    assert decisions(found) == []
