"""Searches of a run: when they begin, what is decided, and where they decline."""

import math
from dataclasses import replace

import numpy as np
import pytest

from lrpilot_controller.core.events import ProgramEnded, SearchEnded
from lrpilot_controller.core.findings import SearchEnd
from lrpilot_controller.core.model import Action, DecisionStatus, Mode
from lrpilot_controller.core.plans import Batches, PlanKind, Shape
from lrpilot_controller.core.search.horizon import main_plan
from support.searcher import ATTEMPT, BASE, GARBAGE, Searcher, mid_search, programs
from support.simulated import Bowl
from support.streams import explosion, signals

# -- how it begins


def test_a_search_begins_with_the_start_snapshot() -> None:
    run = Searcher(home=False)
    assert run.engine.will_search
    assert run.outputs == []
    run.take(proven_now=True)
    (first,) = run.decisions
    assert (first.action, first.id, first.step) == (Action.PROGRAM, 1, 0)
    assert first.program is not None
    assert first.program.restore_snapshot == 1
    # Training stands at this very state: nothing has to be restored or saved.
    assert (first.restore_snapshot, first.save_snapshot) == (None, False)
    assert run.engine.view is not None
    assert run.engine.view.searching


@pytest.mark.parametrize(
    "lacks",
    [
        {"search": False},
        {"can_snapshot": False},
        {"can_program": False},
        {"mode": Mode.OBSERVE},
        {"resumes": "t0"},
    ],
    ids=lambda lacks: next(iter(lacks)),
)
def test_it_does_not_begin_by_itself(lacks: dict[str, object]) -> None:
    run = Searcher(**lacks)
    assert not run.engine.will_search
    assert run.decisions == []


def test_a_snapshot_that_is_not_proven_begins_none() -> None:
    run = Searcher(home=False)
    run.take()
    assert run.decisions == []


# -- its decisions


def test_programs_are_decisions_of_the_same_number() -> None:
    run = Searcher()
    result = run.search()
    assert result is not None
    assert result.end is SearchEnd.FOUND
    assert [decision.id for decision in run.decisions] == list(range(1, len(run.decisions) + 1))
    *tried, last = run.decisions
    for decision in tried:
        assert decision.action is Action.PROGRAM
        assert decision.program is not None
        assert decision.program.id == decision.id
        assert decision.restore_rng
        assert decision.program.batches is Batches.REPLAYED
        assert decision.signal is None
        assert decision.status is DecisionStatus.SENT
        assert decision.expires_at_step == decision.step + 1
        assert 0 <= decision.program.share <= 1
        assert decision.program.phase in decision.reason
    assert last.action is Action.PLAN
    assert last.program is None
    shares = [decision.program.share for decision in tried if decision.program]
    assert shares == sorted(shares)


def test_the_plan_leads_over_the_rest_of_the_run() -> None:
    run = Searcher()
    result = run.search()
    assert result is not None
    last = run.decisions[-1]
    assert last.plan == main_plan(result.lr, last.step, 1000)
    assert result.steps == last.step  # nothing but programs ran so far
    assert run.engine.view is not None
    assert run.engine.view.plan == last.plan
    assert run.engine.view.probe_steps == result.steps
    assert run.lr == pytest.approx(result.lr)


def test_it_ends_once_and_then_the_run_is_watched() -> None:
    run = Searcher()
    run.search()
    assert isinstance(run.outputs[-1], SearchEnded)
    assert not run.engine.will_search
    assert run.engine.view is not None
    assert not run.engine.view.searching
    run.go_on(100)
    assert signals(run.outputs) == []
    run.train(explosion(60, start=20.0))
    assert run.decisions[-1].action is Action.ROLLBACK
    assert run.decisions[-1].restore_snapshot == run.proven_one == 1


def test_a_run_that_blows_up_after_it_is_judged_by_the_losses_before_it() -> None:
    """The level at the start is known although the run's own first losses are of its end."""
    run = Searcher()
    run.search()
    run.train([100.0] * 60)
    assert signals(run.outputs)


def test_one_low_loss_before_a_search_is_no_level_that_the_run_jumped_from() -> None:
    run = Searcher()
    heard = [(2.0, 6.1, 5.9, 6.2, 6.0, 5.8), *[(math.inf,)] * 100]
    while run.todo:
        decision = run.todo.pop(0)
        run.answer(decision, DecisionStatus.APPLIED)
        if decision.program is not None:
            losses = heard.pop(0)
            first, run.step = run.step, run.step + len(losses)
            why = "length" if math.isfinite(losses[0]) else "non_finite"
            ended = ProgramEnded("t1", run._report(), decision.id, first, losses, why, run.branch)
            run.feed(ended)
    assert run.result is not None
    run.train([float(loss) for loss in np.random.default_rng(1).normal(5.0, 1.0, 300)])
    assert not signals(run.outputs)


def test_on_fresh_batches_programs_say_so() -> None:
    run = Searcher(can_replay=False)
    run.search()
    assert {d.program.batches for d in programs(run.decisions) if d.program} == {Batches.FRESH}


def test_the_state_of_the_winner_is_kept_or_restored() -> None:
    run = Searcher()
    run.search()
    saving = [decision for decision in run.decisions if decision.save_snapshot]
    assert saving  # and `follow` found every snapshot that was named
    last = run.decisions[-1]
    assert last.restore_snapshot in (None, *run.held)
    loss = run.state.copy().step(run.bowl, 0.0)
    assert run.result is not None
    assert run.result.reference is not None
    assert loss < run.result.reference


@pytest.mark.parametrize("factor", [1e-3, 1.0, 100.0])
@pytest.mark.parametrize("optimizer", ["SGD", "AdamW"])
def test_a_base_that_is_wrong_by_orders_makes_no_difference(factor: float, optimizer: str) -> None:
    family = "plain" if optimizer == "SGD" else "normalized"
    bowl = Bowl(family, 0.3)  # type: ignore[arg-type]
    base = replace(ATTEMPT.groups[0], base_lr=factor)
    result = Searcher(
        bowl, groups=(base,), optimizer=optimizer, min_lr=factor * 1e-6, max_lr=factor * 1e6
    ).search()
    assert result is not None
    assert 0.1 < result.lr < 2.0


# -- who else may decide


def test_the_guard_does_not_act_meanwhile() -> None:
    run = mid_search()
    waiting = len(run.decisions)
    run.train([math.nan] * 5)  # samples of its own, as the training code may send them
    run.train(explosion(60))
    run.train([1e9], validation=(True,))
    assert len(run.decisions) == waiting
    assert run.engine.will_search


def test_programs_losses_are_no_signals() -> None:
    run = Searcher()
    run.search()
    assert any(candidate.score == math.inf for candidate in run.result.candidates)
    assert signals(run.outputs) == []


def test_nothing_is_decided_before_the_receipt() -> None:
    run = mid_search()
    decision = run.todo[0]
    assert run.engine.feed(ProgramEnded("t1", 99, decision.id, 0, (1.0,), "length", 0)) == []


# -- where it declines


def test_where_it_declines_the_native_lr_stands_with_a_decay() -> None:
    run = Searcher(GARBAGE)
    result = run.search()
    assert result is not None
    assert (result.end, result.lr) == (SearchEnd.DECLINED, BASE)
    last = run.decisions[-1]
    assert last.action is Action.PLAN
    assert last.plan == main_plan(BASE, last.step, 1000)
    assert last.restore_snapshot == 1
    assert "not finite" in last.reason


@pytest.mark.parametrize("known", [{"total_steps": None}, {"scheduled": True}], ids=str)
def test_without_a_horizon_or_beside_a_scheduler_it_is_left_alone(known: dict[str, object]) -> None:
    run = Searcher(GARBAGE, **known)
    result = run.search()
    assert result is not None
    assert (result.end, result.lr) == (SearchEnd.DECLINED, BASE)
    assert run.decisions[-1].action is Action.RELEASE
    assert run.decisions[-1].plan is None
    assert run.engine.view is not None
    assert run.engine.view.plan is None


def test_a_run_that_is_too_short_is_not_probed() -> None:
    run = Searcher(total_steps=150)
    result = run.search()
    assert result is not None
    assert result.end is SearchEnd.DECLINED
    assert programs(run.decisions) == []
    assert run.decisions[-1].plan == main_plan(BASE, 0, 150)
    assert run.decisions[-1].restore_snapshot is None


def test_beside_a_scheduler_the_users_shape_stays() -> None:
    run = Searcher(scheduled=True)
    result = run.search()
    assert result is not None
    plan = run.decisions[-1].plan
    assert plan is not None
    assert plan.kind is PlanKind.SCALE
    assert plan.end_value == pytest.approx(result.lr / BASE)
    for decision in programs(run.decisions):
        assert decision.program is not None
        assert decision.program.fallback.kind is PlanKind.SCALE


def test_without_a_horizon_the_plan_is_constant() -> None:
    run = Searcher(total_steps=None)
    result = run.search()
    assert result is not None
    plan = run.decisions[-1].plan
    assert plan is not None
    assert [segment.shape for segment in plan.segments] == [Shape.CONSTANT]
    assert plan.end_value == result.lr
