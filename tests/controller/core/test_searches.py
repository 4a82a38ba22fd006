"""Searches of a run: when they begin, what is decided, and what any end of them means."""

import itertools
import json
import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrpilot_controller.core.engine import Engine
from lrpilot_controller.core.events import (
    Commanded,
    Input,
    Output,
    PriorAnswered,
    ProgramEnded,
    SearchEnded,
    SnapshotProven,
)
from lrpilot_controller.core.findings import SearchEnd
from lrpilot_controller.core.model import Action, Decision, DecisionStatus, Mode
from lrpilot_controller.core.plain import to_plain
from lrpilot_controller.core.plans import Batches, PlanKind, Shape
from lrpilot_controller.core.search.horizon import main_plan
from lrpilot_controller.core.settings import CoreSettings, Limits, Reuse, SearchSettings
from lrpilot_controller.core.telemetry import Samples
from support.searcher import ATTEMPT, BASE, Searcher
from support.simulated import Bowl
from support.streams import decisions, explosion, proven, signals

SEARCH = Commanded("search", "ada", "")
TRUST = CoreSettings(search=SearchSettings(Reuse.TRUST))
NEVER = CoreSettings(search=SearchSettings(Reuse.NEVER))
GARBAGE = Bowl(scale=math.nan)


def programs(decided: Sequence[Decision]) -> list[Decision]:
    return [decision for decision in decided if decision.program is not None]


def found_lr(**more: object) -> float:
    result = Searcher(**more).search()  # type: ignore[arg-type]
    assert result is not None
    assert result.end is SearchEnd.FOUND
    return result.lr


def mid_search(after: int = 5, **more: object) -> Searcher:
    """A trainer that has followed some programs; the next decision waits."""
    run = Searcher(**more)  # type: ignore[arg-type]
    for _ in range(after):
        run.follow(run.todo.pop(0))
    assert len(run.todo) == 1
    return run


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


# -- receipts


def test_a_rejected_program_ends_the_search_with_a_word_to_the_trainer() -> None:
    run = mid_search(after=1)
    found = run.answer(run.todo.pop(0), DecisionStatus.REJECTED)
    (last,) = decisions(found)
    assert last.action is Action.RELEASE  # no LR is known to be healthy yet
    assert last.restore_snapshot == 1
    assert run.result is None
    result = run.search()
    assert result is not None
    assert result.end is SearchEnd.ABANDONED
    assert "rejected" in result.reason
    assert run.lr == BASE


def test_it_settles_on_an_lr_that_is_known_to_be_healthy() -> None:
    run = mid_search(after=6)
    found = run.answer(run.todo.pop(0), DecisionStatus.REJECTED)
    (last,) = decisions(found)
    assert last.action is Action.PLAN
    result = run.search()
    assert result is not None
    assert (result.end, result.lr) == (SearchEnd.ABANDONED, pytest.approx(run.lr))
    assert last.plan == main_plan(result.lr, last.step, 1000)
    assert 0.01 < result.lr < 2.0


def test_a_last_word_that_is_rejected_as_well_is_the_last() -> None:
    run = mid_search(after=1)
    run.answer(run.todo.pop(0), DecisionStatus.REJECTED)
    run.answer(run.todo.pop(0), DecisionStatus.REJECTED)
    assert run.todo == []
    assert run.result is not None
    assert run.result.end is SearchEnd.ABANDONED
    assert not run.engine.will_search


@pytest.mark.parametrize("status", [DecisionStatus.EXPIRED, DecisionStatus.STALE])
def test_a_program_that_came_too_late_ends_the_search(status: DecisionStatus) -> None:
    run = mid_search()
    found = run.answer(run.todo.pop(0), status)
    assert decisions(found) == []
    assert run.result is not None
    assert run.result.end is SearchEnd.ABANDONED
    assert str(status) in run.result.reason
    assert not run.engine.will_search


def test_the_fallback_that_follows_a_search_without_an_end_is_known() -> None:
    run = mid_search(after=6)
    run.answer(run.todo.pop(0), DecisionStatus.EXPIRED)
    run.fall_back()
    assert run.engine.view is not None
    assert run.engine.view.plan == run.plan is not None
    assert len(run.results) == 1


# -- interruptions


@pytest.mark.parametrize("at", range(1, 9))
def test_an_interrupted_program_is_run_again_and_finds_the_same(at: int) -> None:
    calm = Searcher()
    calm.search()
    run = Searcher()
    run.interrupted = lambda count: 2 if count == at else None
    result = run.search()
    assert result is not None
    assert result.end is SearchEnd.FOUND
    assert result.lr == pytest.approx(calm.result.lr, rel=1e-12)
    assert result.candidates == calm.result.candidates
    assert run.programs > calm.programs
    assert result.steps == run.step > calm.step


@pytest.mark.parametrize("at", list(itertools.combinations(range(3, 9), 2)))
def test_so_it_is_when_it_is_interrupted_again_on_the_way_back(at: tuple[int, int]) -> None:
    calm = Searcher().search()
    assert calm is not None
    for second in (at[0] + 1, at[1]):
        run = Searcher()
        run.interrupted = lambda count: 1 if count in (at[0], second) else None  # noqa: B023
        result = run.search()
        assert result is not None
        assert (result.end, result.lr) == (SearchEnd.FOUND, pytest.approx(calm.lr, rel=1e-12))
        assert result.candidates == calm.candidates
        assert result.steps == run.step


def test_one_that_is_interrupted_all_the_time_settles() -> None:
    run = Searcher()
    run.interrupted = lambda count: 1 if count > 4 else None
    result = run.search()
    assert result is not None
    assert result.end is SearchEnd.ABANDONED
    assert "interrupted 6 times" in result.reason
    assert run.decisions[-1].action is Action.PLAN
    assert run.programs == 4 + 6


# -- other ends


@pytest.mark.parametrize("after", [1, 3, 5, 7])
def test_a_trainer_that_fell_back_ended_it(after: int) -> None:
    run = mid_search(after)
    late = run.todo.pop(0)
    found = run.fall_back()
    assert decisions(found) == []
    result = run.result
    assert result is not None
    assert result.end is SearchEnd.FELL_BACK
    assert result.reason == "no word came"
    assert run.engine.view is not None
    assert run.engine.view.plan == run.plan
    if run.plan is not None:
        assert result.lr == pytest.approx(run.native(run.plan))
    assert run.answer(late, DecisionStatus.STALE) == []
    assert not run.engine.will_search


def test_finish_ends_it() -> None:
    run = mid_search(after=6)
    assert run.opened is not None
    run.plan = run.opened.fallback
    found = run.ask("finish", 40)
    assert run.result is not None
    assert run.result.end is SearchEnd.ABANDONED
    assert "finished" in run.result.reason
    assert decisions(found) == []
    view = run.engine.view
    assert view is not None
    assert view.plan is not None
    assert view.plan.kind is run.plan.kind
    (line,) = view.plan.segments
    assert (line.shape, line.start, line.end) == (Shape.LINEAR, run.step, run.step + 40)
    assert line.start_value == pytest.approx(run.native(run.plan))
    assert line.end_value == 0.0


def test_finish_without_a_search_leads_from_the_plan_in_force() -> None:
    run = Searcher()
    run.search()
    run.go_on(20)
    run.ask("finish", 40)
    assert run.engine.view is not None
    plan = run.engine.view.plan
    assert plan is not None
    assert plan.segments[0].start_value == pytest.approx(run.lr)
    assert len(run.results) == 1


def test_a_goodbye_ends_it() -> None:
    run = mid_search()
    run.goodbye()
    assert run.result is not None
    assert run.result.end is SearchEnd.ABANDONED
    assert run.result.reason == "the attempt ended"


def test_a_new_attempt_ends_it_and_begins_its_own() -> None:
    run = mid_search()
    last = run.decisions[-1].id
    run.open(replace(ATTEMPT, id="t2"))
    ended = [output for output in run.outputs if isinstance(output, SearchEnded)]
    assert [end.attempt for end in ended] == ["t1"]
    run.todo.clear()
    run.state, run.held, run.taken, run.proven_one = Searcher().state, {}, 0, 0
    run.take(proven_now=True)
    assert run.decisions[-1].id > last
    result = run.search()
    assert result is not None
    assert result.end is SearchEnd.FOUND
    assert result.lr == pytest.approx(found_lr())


def test_the_same_process_on_a_new_stream_goes_on() -> None:
    run = mid_search()
    assert run.open(run.attempt) == []
    result = run.search()
    assert result is not None
    assert result.lr == found_lr()


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


# -- what earlier runs found


def test_an_lr_that_is_trusted_costs_nothing() -> None:
    run = Searcher(prior=0.3, settings=TRUST)
    (only,) = run.decisions
    assert (only.action, only.program, only.restore_snapshot) == (Action.PLAN, None, None)
    assert only.plan == main_plan(0.3, 0, 1000)
    result = run.search()
    assert result is not None
    assert (result.end, result.lr, result.steps) == (SearchEnd.REUSED, 0.3, 0)


def test_one_that_is_checked_costs_a_ladder() -> None:
    known = found_lr()
    run = Searcher(prior=known)
    result = run.search()
    assert result is not None
    assert result.end is SearchEnd.FOUND
    phases = {d.program.phase for d in programs(run.decisions) if d.program}
    assert phases == {"reference", "ladder"}
    assert known / 2.5 < result.lr < known * 2.5


def test_one_that_is_not_to_be_used_changes_nothing() -> None:
    assert found_lr(prior=1e-5, settings=NEVER) == found_lr()


def test_an_answer_that_knows_none_is_a_first_run() -> None:
    run = Searcher(home=False)
    run.feed(PriorAnswered("t1", None, "there is none"))
    run.take(proven_now=True)
    result = run.search()
    assert result is not None
    assert result.lr == found_lr()


@pytest.mark.parametrize("known", [1e-30, 1e-9, 1e9, 1e30])
@pytest.mark.parametrize("settings", [TRUST, CoreSettings()], ids=["trust", "check"])
def test_one_beyond_the_bounds_is_brought_within(known: float, settings: CoreSettings) -> None:
    run = Searcher(prior=known, settings=settings)
    result = run.search()
    assert result is not None
    assert ATTEMPT.min_lr <= result.lr <= ATTEMPT.max_lr
    assert run.engine.view is not None
    assert run.decisions[-1].action is Action.PLAN


# -- in mid-run


@pytest.mark.parametrize("who", ["the code", "a person"])
def test_a_search_in_mid_run_saves_the_state_first(who: str) -> None:
    run = Searcher(search=False)
    run.go_on(100)
    assert run.decisions == []
    state = run.state.copy()
    if who == "the code":
        run.ask()
    else:
        run.feed(Commanded("search", "ada", "it is slow"))
    (first,) = run.decisions
    assert first.save_snapshot
    assert first.program is not None
    assert (first.restore_snapshot, first.program.restore_snapshot) == (None, None)
    assert first.expires_at_step is not None
    assert first.expires_at_step > run.step + 100  # it begins from whatever state it finds
    run.go_on(3)
    state = run.state.copy()
    run.follow(run.todo.pop(0))
    assert proven(run.outputs) == [2]
    assert SnapshotProven("t1", 2) in run.outputs
    assert run.held[2].weights == pytest.approx(state.weights)
    result = run.search()
    assert result is not None
    assert result.end is SearchEnd.FOUND
    assert result.steps == run.step - 103
    assert {d.program.restore_snapshot for d in programs(run.decisions)[1:] if d.program} == {
        2,
        None,
    }
    assert run.decisions[-1].plan == main_plan(result.lr, run.step, 1000)


def test_an_interruption_of_its_first_program_goes_back_to_where_it_began() -> None:
    run = Searcher(search=False)
    run.go_on(100)
    run.ask()
    run.interrupted = lambda count: 2 if count == 1 else None
    run.held = {1: run.held[1]}
    result = run.search()
    assert result is not None
    assert result.end is SearchEnd.FOUND
    again = programs(run.decisions)[1]
    assert again.restore_snapshot == 2
    assert not again.save_snapshot


def test_one_at_a_time() -> None:
    run = mid_search()
    waiting = len(run.decisions)
    run.ask()
    run.feed(SEARCH)
    assert len(run.decisions) == waiting
    assert run.engine.why_not(SEARCH) == "the run is searching already"
    run.search()
    assert run.engine.why_not(SEARCH) is None


def test_a_second_search_that_finds_nothing_keeps_the_plan_of_the_first() -> None:
    run = Searcher(total_steps=2000)
    first = run.search()
    plan = run.plan
    run.go_on(100)
    lr = run.lr
    run.bowl = GARBAGE
    run.ask()
    second = run.search()
    assert first is not None
    assert second is not None
    assert (second.end, second.lr) == (SearchEnd.DECLINED, lr)
    assert run.plan == plan
    assert run.decisions[-1].action is Action.PLAN


@pytest.mark.parametrize(
    ("known", "why"),
    [
        ({"mode": Mode.OBSERVE}, "mode is observe"),
        ({"can_program": False}, "cannot run programs"),
    ],
)
def test_where_it_cannot_begin_it_says_why(known: dict[str, object], why: str) -> None:
    run = Searcher(**known)
    assert why in str(run.engine.why_not(SEARCH))
    run.ask()
    assert run.decisions == []
    assert Engine().why_not(SEARCH) == "it has no trainer"


# -- limits


@given(st.floats(0, 0.5), st.booleans(), st.sampled_from([200, 500, 1000, None]))
@settings(max_examples=20)
def test_programs_never_cost_more_than_their_share(
    share: float, replay: bool, total: int | None
) -> None:
    limits = CoreSettings(limits=Limits(max_probed_fraction=share))
    run = Searcher(settings=limits, can_replay=replay, total_steps=total)
    result = run.search()
    assert result is not None
    assert result.steps <= share * (total or 2000)
    assert run.engine.view is not None
    assert run.engine.view.probe_steps == result.steps


def test_a_second_search_has_only_what_the_first_one_left() -> None:
    limits = CoreSettings(limits=Limits(max_probed_fraction=0.25))
    run = Searcher(settings=limits)
    run.search()
    run.go_on(10)
    run.ask()
    second = run.search()
    assert second is not None
    assert run.engine.view is not None
    assert run.engine.view.probe_steps <= 250
    assert run.todo == []
    assert not run.engine.will_search


@pytest.mark.parametrize("replay", [True, False])
@given(st.floats(-6, 2), st.floats(0, 4), st.floats(0, 1))
@settings(max_examples=20)
def test_no_lr_is_above_the_bound(replay: bool, low: float, width: float, at: float) -> None:
    low, high = 10**low, 10 ** (low + width)
    base = replace(ATTEMPT.groups[0], base_lr=low * (high / low) ** at)
    run = Searcher(groups=(base,), min_lr=low, max_lr=high, can_replay=replay)
    result = run.search()
    assert result is not None
    assert result.end in (SearchEnd.FOUND, SearchEnd.DECLINED)  # never refused
    for decision in run.decisions:
        parts = (decision.program.segments if decision.program else ()) + (
            decision.plan.segments if decision.plan else ()
        )
        for segment in parts:
            assert max(segment.start_value, segment.end_value) <= high * (1 + 1e-9)


# -- a replay


def as_json(outputs: Sequence[Output]) -> str:
    return json.dumps([[type(output).__name__, to_plain(output)] for output in outputs])


def eventful() -> list[Input]:
    """Two searches with everything that can happen in them."""
    run = Searcher(total_steps=2000)
    run.interrupted = lambda count: 2 if count in (4, 5, 11) else None
    run.search()
    run.go_on(60)
    run.ask()
    for _ in range(7):
        run.follow(run.todo.pop(0))
    run.todo.clear()
    run.fall_back()
    run.go_on(30)
    run.goodbye()
    return run.inputs


EVENTS = eventful()


def fed(events: Sequence[Input]) -> list[Output]:
    engine = Engine()
    return [output for event in events for output in engine.feed(event)]


def test_the_same_inputs_give_the_same_bytes() -> None:
    said = as_json(fed(EVENTS))
    assert "fell_back" in said
    assert as_json(fed(EVENTS)).encode() == said.encode()


@given(st.lists(st.integers(1, 40), min_size=1, max_size=10))
@settings(max_examples=15)
def test_however_samples_were_batched(sizes: list[int]) -> None:
    size = itertools.cycle(sizes)
    batched: list[Input] = []
    for event in EVENTS:
        last = batched[-1] if batched else None
        both = isinstance(event, Samples) and isinstance(last, Samples)
        if both and len(last.step) < next(size):
            batched[-1] = replace(
                last,
                validation=last.validation + event.validation,
                step=last.step + event.step,
                branch=last.branch + event.branch,
                program=last.program + event.program,
                loss=last.loss + event.loss,
                lrs=last.lrs + event.lrs,
            )
            continue
        batched.append(event)
    assert len(batched) <= len(EVENTS)
    assert as_json(fed(batched)) == as_json(fed(EVENTS))


LOSS = st.floats() | st.sampled_from([math.nan, math.inf, 1e308, -1e308, 1.0, 2.0])
REASONS = ["length", "length", "loss_cap", "non_finite", "interrupted", "made up"]


@given(st.data(), st.booleans(), st.sampled_from([None, 0.3]))
@settings(max_examples=60)
def test_whatever_programs_report_it_ends(
    data: st.DataObject, replay: bool, prior: float | None
) -> None:
    run = Searcher(can_replay=replay, prior=prior)
    losses = itertools.cycle(data.draw(st.lists(LOSS, min_size=1, max_size=20)))
    reasons = itertools.cycle(data.draw(st.lists(st.sampled_from(REASONS), min_size=1)))
    for _ in range(400):
        if not run.todo:
            break
        decision = run.todo.pop(0)
        run.answer(decision, DecisionStatus.APPLIED)
        if decision.program is None:
            continue
        length = data.draw(st.sampled_from([decision.program.length, 1, 0]))
        heard = tuple(itertools.islice(losses, length))
        why = next(reasons)
        run.step += length
        ended = ProgramEnded("t1", run._report(), decision.id, 0, heard, why, run.branch)
        run.feed(replace(ended, first_step=run.step - length))
    assert run.result is not None
    assert not run.engine.will_search
    assert ATTEMPT.min_lr <= run.result.lr <= ATTEMPT.max_lr
    to_plain(run.result)
