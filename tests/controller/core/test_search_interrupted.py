"""A search that is interrupted, refused or left: it is run again, settles, or is over."""

import itertools
from dataclasses import replace

import pytest

from lrpilot_controller.core.events import SearchEnded
from lrpilot_controller.core.findings import SearchEnd
from lrpilot_controller.core.model import Action, DecisionStatus
from lrpilot_controller.core.plans import Shape
from lrpilot_controller.core.search.horizon import main_plan
from support.searcher import ATTEMPT, BASE, Searcher, found_lr, mid_search
from support.streams import decisions

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
