"""A search in mid-run, after another one, or after what earlier runs found."""

import pytest

from lrpilot_controller.core.engine import Engine
from lrpilot_controller.core.events import Commanded, PriorAnswered, SnapshotProven
from lrpilot_controller.core.findings import Reach, SearchEnd
from lrpilot_controller.core.model import Action, Mode
from lrpilot_controller.core.search.horizon import main_plan
from lrpilot_controller.core.settings import CoreSettings, Reuse, SearchSettings
from support.searcher import ATTEMPT, GARBAGE, Searcher, found_lr, mid_search, programs
from support.streams import proven

SEARCH = Commanded("search", "ada", "")
TRUST = CoreSettings(search=SearchSettings(Reuse.TRUST))
NEVER = CoreSettings(search=SearchSettings(Reuse.NEVER))


# -- what earlier runs found


def test_an_lr_that_is_trusted_costs_nothing() -> None:
    run = Searcher(prior=0.3, settings=TRUST)
    (only,) = run.decisions
    assert (only.action, only.program, only.restore_snapshot) == (Action.PLAN, None, None)
    assert only.plan == main_plan(0.3, 0, 1000)
    result = run.search()
    assert result is not None
    assert (result.end, result.lr, result.steps) == (SearchEnd.REUSED, 0.3, 0)


def test_one_that_is_checked_costs_a_program() -> None:
    first = Searcher().search()
    assert first is not None
    assert first.progress is not None
    run = Searcher(prior=first.lr, progress=(first.progress,))
    result = run.search()
    assert result is not None
    assert (result.end, result.lr) == (SearchEnd.FOUND, first.lr)
    phases = [d.program.phase for d in programs(run.decisions) if d.program]
    assert phases == ["reference", "ladder"]
    assert run.decisions[-1].restore_snapshot is None  # it goes on where the program ended
    assert result.progress is not None  # for the next run


def test_one_that_nobody_measured_is_searched_anew() -> None:
    assert found_lr(prior=1e-5) == found_lr()


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
    progress = (Reach(known, 40, 0.0, 1.0, 1.0),)
    run = Searcher(prior=known, progress=progress, settings=settings)
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
