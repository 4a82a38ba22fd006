"""What a run's story tells of its searches."""

import math
from typing import Any

import pytest

from lrpilot_controller.core.events import (
    Decided,
    Event,
    FellBack,
    ProgramEnded,
    ReceiptArrived,
    SaidGoodbye,
    SearchEnded,
    SessionLost,
    SessionOpened,
    SnapshotTaken,
)
from lrpilot_controller.core.findings import Candidate, Reach, SearchEnd, SearchResult, Sweep
from lrpilot_controller.core.model import (
    Action,
    Attempt,
    Decision,
    DecisionStatus,
    ParamGroup,
    Receipt,
    RunState,
)
from lrpilot_controller.core.plans import Plan, Program, Segment, Shape
from lrpilot_controller.core.telemetry import Samples
from lrpilot_controller.journal import Record, RunKey
from lrpilot_controller.server.tell_wire import story_to
from lrpilot_controller.story import Progress, Story, tell

OPENED = SessionOpened(Attempt("t1", (ParamGroup("all", 0.1),), 1e-6, 1.0, search=True))
START = SnapshotTaken("t1", 1, 1, 0, 0, True)
RESULT = SearchResult(
    SearchEnd.FOUND,
    0.03,
    60,
    "0.0316 won of 2 LRs",
    2.3,
    (Candidate(0.0316, 0.4, 30), Candidate(0.316, math.inf, 8)),
    Sweep((1e-6, 1e-3, 1.0), (2.3, 2.2, math.inf)),
    Reach(0.0316, 30, 0.2, 1.3, 1.9),
)


def story(*events: Event) -> Story:
    return tell(RunKey("demo", "exp-1"), (Record(n, 0.0, e) for n, e in enumerate(events, 1)))


def program(number: int, phase: str = "ladder", lr: float = 0.0316, share: float = 0.0) -> Decided:
    made = Program(
        number,
        (Segment(Shape.CONSTANT, 0, 30, lr, lr),),
        30,
        Plan.scale(1.0, 0),
        restore_snapshot=1,
        phase=phase,
        lr=lr,
        share=share,
    )
    return Decided(Decision(number, Action.PROGRAM, "why", 0, 0, restore_snapshot=1, program=made))


def taken(number: int, wait: float = 0.0, status: str = "applied", step: int = 0) -> ReceiptArrived:
    answer = Receipt(number, DecisionStatus(status), step, 0, 1, (0.1,), (0.0316,), wait)
    return ReceiptArrived("t1", number, answer)


def ran(number: int, steps: int = 30, wait: float = 0.0) -> ProgramEnded:
    return ProgramEnded("t1", 100 + number, number, 0, (1.0,) * steps, "length", 1, wait)


def samples(programs: tuple[int, ...], first: int = 0) -> Samples:
    count = len(programs)
    return Samples(
        attempt="t1",
        first_seq=first + 1,
        validation=(False,) * count,
        step=tuple(range(first, first + count)),
        branch=(0,) * count,
        program=programs,
        loss=(1.0,) * count,
        lrs=((0.1,),),
    )


# -- the state


@pytest.mark.parametrize(
    ("events", "state"),
    [
        ([program(1)], "tracking"),
        ([program(1), taken(1)], "searching"),
        ([program(1), taken(1, status="rejected")], "tracking"),
        ([program(1), taken(1), ran(1)], "searching"),
        ([program(1), taken(1), ran(1), program(2), taken(2)], "searching"),
        ([program(1), taken(1), SearchEnded("t1", RESULT)], "tracking"),
        ([program(1), taken(1), FellBack("t1", 9, 1, 30, 2, "no word")], "tracking"),
        ([program(1), taken(1), SessionLost("t1")], "lost"),
        ([program(1), taken(1), SessionLost("t1"), OPENED], "searching"),
        ([program(1), taken(1), SaidGoodbye("t1", 9, "finished", 30)], "finished"),
    ],
)
def test_a_run_is_searching_from_its_first_program_to_the_end_of_the_search(
    events: list[Event], state: str
) -> None:
    assert story(OPENED, *events).state is RunState(state)


def test_another_attempt_does_not_search_because_the_one_before_did() -> None:
    again = SessionOpened(Attempt("t2", OPENED.attempt.groups, 1e-6, 1.0))
    assert story(OPENED, program(1), taken(1), again).state is RunState.TRACKING


def test_the_plan_that_a_search_ends_with_is_not_on_probation() -> None:
    plan = Decision(2, Action.PLAN, "found", 30, 1, restore_snapshot=1, plan=Plan.scale(0.3, 30))
    told = story(
        OPENED, START, program(1), taken(1), ran(1), Decided(plan), taken(2, step=30),
        SearchEnded("t1", RESULT),
    )  # fmt: skip
    assert told.state is RunState.TRACKING
    assert told.cost.rolled_back_steps == 0  # they are the search's steps
    assert told.cost.probe_steps == 30


def test_the_steps_that_a_search_in_mid_run_begins_by_undoing_are_told() -> None:
    told = story(
        OPENED, SnapshotTaken("t1", 1, 1, 50, 0, True), program(1), taken(1, step=80), ran(1),
        program(2), taken(2, step=110), ran(2), SearchEnded("t1", RESULT),
    )  # fmt: skip
    assert told.cost.rolled_back_steps == 80 - 50
    assert told.cost.probe_steps == 60


# -- progress


def test_progress_is_the_newest_programs() -> None:
    told = story(OPENED, program(1, "range test", 1e-6), taken(1), ran(1), program(2, share=0.46))
    assert told.progress == Progress("ladder", 0.0316, 0.46)
    assert story(OPENED, program(1)).progress is None
    assert story(OPENED, program(1), taken(1), SearchEnded("t1", RESULT)).progress is None


# -- the cost


def test_probe_steps_are_what_programs_ran() -> None:
    told = story(
        OPENED, samples((1, 1, 1)), program(1), taken(1), ran(1, 3), ran(1, 3),
        program(2), taken(2), ran(2, 20), ran(2, 20),
    )  # fmt: skip
    assert told.cost.probe_steps == 23
    assert [d.steps for d in told.decisions] == [3, 20]


def test_a_wait_that_two_reports_tell_is_counted_once() -> None:
    told = story(
        OPENED,
        program(1), taken(1, 0.125), ran(1, wait=0.125),
        program(2), taken(2, 0.0), ran(2, wait=0.5),
        program(3), taken(3, 0.25), FellBack("t1", 9, 3, 30, 2, "no word", 1.0),
    )  # fmt: skip
    assert told.cost.wait_seconds == 0.125 + 0.5 + 0.25 + 1.0


# -- the picture


def test_what_programs_ran_is_drawn_as_left() -> None:
    told = story(OPENED, samples((1, 1, 0, 0, 2)))
    assert [p.left for p in told.points] == [True, True, False, False, True]


# -- the result


def test_the_newest_result_is_told_whole() -> None:
    told = story(OPENED, SearchEnded("t1", RESULT), SearchEnded("t1", RESULT))
    assert told.searches == (RESULT, RESULT)
    assert told.to_json()["search"] == {
        "end": "found",
        "lr": 0.03,
        "steps": 60,
        "reason": "0.0316 won of 2 LRs",
        "reference": 2.3,
        "candidates": [
            {"lr": 0.0316, "score": 0.4, "steps": 30},
            {"lr": 0.316, "score": "Infinity", "steps": 8},
        ],
        "sweep": {"lrs": [1e-6, 1e-3, 1.0], "losses": [2.3, 2.2, "Infinity"]},
        "progress": {"lr": 0.0316, "steps": 30, "at_once": 0.2, "halfway": 1.3, "end": 1.9},
    }


def test_every_program_is_among_the_decisions() -> None:
    decisions: list[Any] = story(OPENED, program(1), taken(1), program(2)).to_json()["decisions"]
    assert [d["action"] for d in decisions] == ["program", "program"]
    assert [d["status"] for d in decisions] == ["applied", "sent"]


# -- the Operator service says the same


def test_a_result_on_the_wire() -> None:
    message = story_to(story(OPENED, SearchEnded("t1", RESULT)))
    assert (message.search.end, message.search.lr, message.search.steps) == ("found", 0.03, 60)
    assert message.search.reason == RESULT.reason
    assert message.search.reference == 2.3
    assert [(c.lr, c.score, c.steps) for c in message.search.candidates] == [
        (0.0316, 0.4, 30),
        (0.316, math.inf, 8),
    ]
    assert list(message.search.sweep.lrs) == [1e-6, 1e-3, 1.0]
    assert not message.HasField("searching")


def test_progress_on_the_wire() -> None:
    message = story_to(story(OPENED, program(1, share=0.46), taken(1)))
    assert not message.HasField("search")
    assert (message.searching.phase, message.searching.share) == ("ladder", 0.46)
    assert message.searching.lr == 0.0316
