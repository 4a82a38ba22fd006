"""What people ask of a run: freeze, release, set the LR, stop."""

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrpilot_controller.core.events import (
    Commanded,
    ProgramEnded,
    ReceiptArrived,
    SaidGoodbye,
    SessionLost,
)
from lrpilot_controller.core.findings import SearchEnd
from lrpilot_controller.core.model import (
    Action,
    Decision,
    DecisionStatus,
    Mode,
    Receipt,
    RunState,
    SignalKind,
    Verdict,
)
from lrpilot_controller.core.plans import Plan, PlanKind
from lrpilot_controller.core.view import RunView
from lrpilot_controller.journal.base import Record, RunKey
from lrpilot_controller.story import Story, tell
from support.searcher import Searcher
from support.streams import ATTEMPT, LR, Trainer, decisions, descent, explosion, outcomes, signals

FREEZE = Commanded("freeze", "ann", "I look at it myself")
RELEASE = Commanded("release", "ann", "go on")
STOP = Commanded("stop", "ann", "enough")
ABLE = replace(ATTEMPT, can_stop=True)


def set_lr(lr: float) -> Commanded:
    return Commanded("set_lr", "ann", "by hand", lr=lr)


def healthy(attempt: Any = ABLE) -> Trainer:
    """A run at step 200 that can be rolled back."""
    trainer = Trainer(attempt)
    trainer.snapshot(1, proven=True)
    trainer.train(descent(200))
    return trainer


def view(trainer: Trainer) -> RunView:
    assert trainer.engine.view is not None
    return trainer.engine.view


def sent(trainer: Trainer, command: Commanded) -> Decision:
    """The one decision that a command leads to."""
    assert trainer.engine.why_not(command) is None
    (decision,) = decisions(trainer.feed(command))
    assert decision.status is DecisionStatus.SENT
    assert decision.who == "ann"
    return decision


def set_by_hand(trainer: Trainer, lr: float) -> Decision:
    """An LR that was asked for, and followed."""
    decision = sent(trainer, set_lr(lr))
    trainer.lr = lr
    trainer.apply(decision)
    return decision


def refused(trainer: Trainer, command: Commanded) -> str:
    """Why a command is not carried out; it changes nothing where it is fed all the same."""
    reason = trainer.engine.why_not(command)
    assert reason is not None
    assert trainer.feed(command) == []
    return reason


def story_of(trainer: Trainer) -> Story:
    """The story of inputs and outputs, as the journal would tell it."""
    told: list[Any] = []
    again = Trainer.__new__(Trainer)
    again.engine = type(trainer.engine)()
    for event in trainer.inputs:
        told += [event, *again.engine.feed(event)]
    return tell(RunKey("demo", "run"), [Record(n, 0.0, event) for n, event in enumerate(told, 1)])


# -- freeze


def test_a_frozen_run_is_watched_and_nothing_is_decided() -> None:
    trainer = healthy()
    assert trainer.feed(FREEZE) == []
    found = trainer.train([*explosion(60), math.nan, math.nan])
    assert SignalKind.DIVERGENCE in {signal.kind for signal in signals(found)}
    assert decisions(found) == []
    assert story_of(trainer).state is RunState.FROZEN
    assert "frozen already" in refused(trainer, FREEZE)


def test_a_freeze_lasts_across_attempts() -> None:
    trainer = healthy()
    trainer.feed(FREEZE)
    trainer.feed(SessionLost("t1"))
    trainer.open(replace(ABLE, id="t2", resumes="t1", start_step=200))
    trainer.snapshot(1, proven=True)
    trainer.train(descent(200))
    assert decisions(trainer.train(explosion(60))) == []
    assert view(trainer).frozen


def test_a_blow_up_that_is_still_on_is_answered_once_the_run_is_released() -> None:
    trainer = healthy()
    trainer.feed(FREEZE)
    trainer.train(explosion(60))
    assert trainer.feed(RELEASE) == []
    (decision,) = decisions(trainer.train(explosion(1, start=1e10)))
    assert decision.action is Action.ROLLBACK


def test_one_bad_batch_beside_it_does_not_take_its_place() -> None:
    trainer = healthy()
    trainer.feed(FREEZE)
    trainer.train([5.0] * 60 + [math.nan] + [5.0] * 5)
    trainer.feed(RELEASE)
    (decision,) = decisions(trainer.train([5.0]))
    assert decision.action is Action.ROLLBACK


def test_so_is_one_that_came_while_what_a_person_sent_was_on_its_way() -> None:
    trainer = healthy()
    decision = sent(trainer, Commanded("set_lr", "ann", "", lr=LR))
    trainer.train([5.0] * 60)
    trainer.apply(decision)
    (decision,) = decisions(trainer.train([5.0] * 60))
    assert decision.action is Action.ROLLBACK


@pytest.mark.parametrize("goes_on", [True, False])
def test_so_is_one_beside_a_release_that_changes_the_lr(goes_on: bool) -> None:
    trainer = healthy()
    set_by_hand(trainer, LR / 2)
    trainer.feed(FREEZE)
    trainer.train(explosion(60))
    trainer.lr = LR
    trainer.apply(sent(trainer, RELEASE))
    # The release has its time to show what it does, as a cut has.
    losses = explosion(45, start=1e10) if goes_on else [0.6] * 45
    assert decisions(trainer.train(losses)) == []
    losses = explosion(20, start=1e18) if goes_on else [0.6] * 20
    assert len(decisions(trainer.train(losses))) == goes_on


def test_one_that_is_over_is_not() -> None:
    trainer = healthy()
    trainer.feed(FREEZE)
    trainer.train(explosion(20))
    trainer.train([0.6] * 300)
    trainer.feed(RELEASE)
    assert decisions(trainer.train([0.6] * 50)) == []


def test_a_search_that_is_due_does_not_begin_in_a_frozen_run() -> None:
    run = Searcher(home=False)
    run.feed(FREEZE)
    assert not run.engine.will_search
    run.take(proven_now=True)
    run.ask()
    assert run.decisions == []
    assert run.engine.why_not(Commanded("search", "ann", "")) == "the run is frozen"
    run.open(replace(run.attempt, id="t2"))
    run.take(proven_now=True)
    assert run.decisions == []


@pytest.mark.parametrize("programs", [1, 2, 4, 6])
def test_a_search_under_way_ends_on_a_plan_that_is_known_to_be_sane(programs: int) -> None:
    run = Searcher()
    while run.programs < programs - 1:
        run.follow(run.todo.pop(0))
    (on_the_way,) = run.todo
    run.feed(FREEZE)  # before the trainer hears of its next program, which it will run
    result = run.search()
    assert result is not None
    assert result.end is SearchEnd.ABANDONED
    assert "ann freezes the run: I look at it myself" in result.reason
    assert run.programs == programs
    last = run.decisions[-1]
    assert last.id == on_the_way.id + 1
    assert last.action in (Action.RELEASE, Action.PLAN)
    assert run.lr == pytest.approx(result.lr)
    assert view(run).plan == run.plan
    assert not view(run).searching
    run.go_on(300)
    assert decisions(run.outputs)[-1] == last


# -- release


def test_a_release_leads_back_to_exactly_the_native_lr() -> None:
    trainer = healthy()
    set_by_hand(trainer, LR / 7)
    decision = sent(trainer, RELEASE)
    assert decision.action is Action.RELEASE
    assert decision.release
    assert decision.plan is None
    assert "ann releases the run: go on" in decision.reason
    trainer.lr = LR
    trainer.apply(decision)
    assert view(trainer).plan is None
    assert view(trainer).lr == LR
    assert story_of(trainer).state is RunState.TRACKING
    # From there on it is as if there had been no plan.
    (rollback,) = decisions(trainer.train(explosion(60)))
    assert rollback.plan == Plan.scale(rollback.factor, rollback.step)


def test_at_the_native_lr_a_release_only_lifts_the_freeze() -> None:
    trainer = healthy()
    assert "nothing to release" in refused(trainer, RELEASE)
    trainer.feed(FREEZE)
    assert trainer.feed(RELEASE) == []
    assert not view(trainer).frozen
    assert story_of(trainer).state is RunState.TRACKING


def test_a_release_ends_a_search_at_the_native_lr_and_the_state_before_it() -> None:
    run = Searcher()
    for _ in range(5):
        run.follow(run.todo.pop(0))
    run.feed(RELEASE)
    result = run.search()
    assert result is not None
    assert result.end is SearchEnd.ABANDONED
    last = run.decisions[-1]
    assert (last.action, last.restore_snapshot) == (Action.RELEASE, 1)
    assert (run.lr, run.plan, view(run).plan) == (run.attempt.groups[0].base_lr, None, None)
    assert not view(run).searching


# -- set-lr


@given(st.floats(ATTEMPT.min_lr, ATTEMPT.max_lr), st.booleans())
def test_an_lr_within_the_bounds_is_set_for_good(lr: float, frozen: bool) -> None:
    trainer = healthy()
    if frozen:
        trainer.feed(FREEZE)
    decision = set_by_hand(trainer, lr)
    assert decision.action is Action.PLAN
    assert decision.plan == Plan.constant(lr, 199)
    assert decision.plan.kind is PlanKind.REPLACE
    assert decision.expires_at_step == 199 + 10 * 50
    assert "by hand" in decision.reason
    assert view(trainer).lr == lr
    assert view(trainer).frozen is frozen


@given(st.floats(0, 1e3) | st.sampled_from([math.nan, math.inf, -1.0]))
def test_an_lr_outside_of_the_bounds_is_refused_with_the_bound(lr: float) -> None:
    trainer = healthy()
    if ATTEMPT.min_lr <= lr <= ATTEMPT.max_lr:
        sent(trainer, set_lr(lr))
        return
    reason = refused(trainer, set_lr(lr))
    assert ("max_lr 0.1" if lr > 1e-6 else "min_lr 1e-06") in reason


def test_the_automatic_goes_on_after_an_lr_was_set() -> None:
    trainer = healthy()
    set_by_hand(trainer, LR / 2)
    trainer.train([0.6] * 10)
    (rollback,) = decisions(trainer.train(explosion(60)))
    assert rollback.action is Action.ROLLBACK
    assert rollback.plan == Plan.constant(LR / 2, 199).times(rollback.factor)


def test_what_an_lr_set_by_hand_did_is_measured() -> None:
    trainer = healthy()
    decision = set_by_hand(trainer, LR / 2)
    (outcome,) = outcomes(trainer.train([0.3] * 200))
    assert (outcome.decision_id, outcome.verdict) == (decision.id, Verdict.IMPROVED)


def test_an_lr_is_not_set_in_the_middle_of_a_search() -> None:
    run = Searcher()
    assert "lrpilot freeze" in refused(run, set_lr(run.attempt.groups[0].base_lr))


def test_nothing_is_sent_while_a_decision_is_not_answered() -> None:
    trainer = healthy()
    trainer.train(explosion(60))
    for command in (set_lr(LR), STOP):
        assert "decision 1 has not been answered yet" in refused(trainer, command)
    assert trainer.engine.why_not(FREEZE) is None


# -- stop


def test_a_run_is_stopped() -> None:
    trainer = healthy()
    decision = sent(trainer, STOP)
    assert decision.stop
    assert decision.action is Action.STOP
    trainer.apply(decision)
    trainer.feed(SaidGoodbye("t1", 9, "stopped", trainer.step))
    story = story_of(trainer)
    assert story.state is RunState.STOPPED
    (told,) = story.decisions
    assert (told.status, told.who) == (DecisionStatus.APPLIED, "ann")
    assert told.to_json()["who"] == "ann"
    (command,) = story.commands
    assert (command.step, command.kind, command.who, command.why) == (200, "stop", "ann", "enough")


def test_a_stop_crosses_an_open_program() -> None:
    run = Searcher(can_stop=True)
    first = run.decisions[-1]
    receipt = Receipt(first.id, DecisionStatus.APPLIED, 0, 0, 0, (LR,), (0.0,))
    run.feed(ReceiptArrived("t1", 2, receipt))
    decision = sent(run, STOP)
    # The trainer ends the program for it, which is told first.
    run.feed(ProgramEnded("t1", 3, first.id, 0, (2.0,), "interrupted", 1))
    run.branch = 1
    assert run.result is not None
    assert run.result.end is SearchEnd.ABANDONED
    run.apply(decision)
    assert decisions(run.outputs) == [first, decision]
    assert view(run).in_flight is None


def test_a_trainer_that_cannot_stop_is_not_asked_to() -> None:
    assert "cannot end its loop" in refused(healthy(ATTEMPT), STOP)


@pytest.mark.parametrize("command", [set_lr(LR / 2), STOP], ids=["set-lr", "stop"])
def test_what_is_only_observed_is_not_touched(command: Commanded) -> None:
    trainer = healthy(replace(ABLE, mode=Mode.OBSERVE))
    assert "mode is observe: nothing reaches the trainer" in refused(trainer, command)


@pytest.mark.parametrize("command", [set_lr(LR / 2), STOP], ids=["set-lr", "stop"])
def test_a_person_needs_no_approval(command: Commanded) -> None:
    sent(healthy(replace(ABLE, mode=Mode.ADVISE)), command)


def test_a_verdict_is_in_the_story_and_changes_nothing_of_the_run() -> None:
    trainer = healthy()
    set_by_hand(trainer, LR / 2)
    before = repr(view(trainer))
    assert trainer.feed(Commanded("verdict", "ann", "eh", decision_id=1, good=False)) == []
    assert repr(view(trainer)) == before
    (told,) = story_of(trainer).decisions
    assert (told.verdict, told.remark) == ("bad", "ann: eh")
    trainer.feed(Commanded("verdict", "bob", "", decision_id=1, good=True))
    trainer.feed(Commanded("verdict", "bob", "", decision_id=9, good=True))
    (told,) = story_of(trainer).decisions
    assert (told.verdict, told.remark) == ("good", "bob")
    assert [c.kind for c in story_of(trainer).commands] == ["set_lr"]
