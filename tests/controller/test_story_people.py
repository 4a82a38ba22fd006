"""What people did to a run, as its story tells it."""

from dataclasses import replace

import pytest

from lrpilot_controller.core.events import (
    Commanded,
    Decided,
    OutcomeMeasured,
    Resolved,
    SessionLost,
    SessionOpened,
)
from lrpilot_controller.core.model import Action, Attempt, Decision, DecisionStatus, RunState
from lrpilot_controller.server.tell_wire import story_to
from lrpilot_controller.story.model import Command
from support.told import GROUPS, OPENED, OUTCOME, ROLLBACK, arrived, receipt, samples, story


@pytest.mark.parametrize(
    ("kinds", "state"),
    [
        (["freeze"], RunState.FROZEN),
        (["freeze", "set_lr"], RunState.FROZEN),
        (["freeze", "release"], RunState.TRACKING),
        (["set_lr"], RunState.TRACKING),
    ],
)
def test_a_run_is_frozen_until_it_is_released(kinds: list[str], state: RunState) -> None:
    asked = [Commanded(kind, "ann", "so") for kind in kinds]
    told = story(OPENED, samples(range(10)), *asked)
    assert told.state is state
    assert told.commands == tuple(Command(10, kind, "ann", "so") for kind in kinds)
    later = SessionOpened(Attempt("t2", GROUPS, 1e-6, 1.0, resumes="t1"))
    assert story(OPENED, *asked, SessionLost("t1"), later).state is state


@pytest.mark.parametrize("status", ["superseded", "expired"])
def test_a_decision_that_nobody_approved_says_what_became_of_it(status: str) -> None:
    waits = replace(ROLLBACK, status=DecisionStatus.PROPOSED)
    (told,) = story(OPENED, Decided(waits)).decisions
    assert told.status is DecisionStatus.PROPOSED
    ended = Resolved(1, DecisionStatus(status), "ann" if status == "superseded" else None)
    (told,) = story(OPENED, Decided(waits), ended).decisions
    assert told.status == status
    assert told.applied_step is None


def test_a_decision_that_was_approved_is_told_once_with_who_approved_it() -> None:
    waits = replace(ROLLBACK, status=DecisionStatus.PROPOSED)
    approved = Resolved(1, DecisionStatus.APPROVED, "ann")
    sent = replace(ROLLBACK, step=55)
    (told,) = story(OPENED, Decided(waits), approved, Decided(sent)).decisions
    assert (told.status, told.decision.step, told.who) == (DecisionStatus.SENT, 55, "ann")
    (told,) = story(OPENED, Decided(waits), approved, Decided(sent), arrived(receipt())).decisions
    assert (told.status, told.applied_step, told.who) == (DecisionStatus.APPLIED, 60, "ann")
    assert told.to_json()["who"] == "ann"


def test_what_people_did_is_on_the_wire_too() -> None:
    asked = Decision(1, Action.PLAN, "ann sets the LR", 10, 0, who="ann")
    message = story_to(story(OPENED, Commanded("set_lr", "ann", "slow", lr=0.05), Decided(asked)))
    (decision,) = message.decisions
    assert decision.who == "ann"
    (command,) = message.commands
    assert (command.step, command.kind, command.who, command.why) == (0, "set_lr", "ann", "slow")
    assert not story_to(story(OPENED, Decided(ROLLBACK))).decisions[0].HasField("who")


def test_an_lr_that_a_person_set_is_no_search() -> None:
    asked = Decision(1, Action.PLAN, "ann sets the LR", 50, 0, who="ann")
    told = story(OPENED, Decided(asked), arrived(receipt()))
    assert told.state is RunState.PROBATION
    back = Decision(2, Action.RELEASE, "ann releases the run", 70, 0, who="ann", release=True)
    done = [OutcomeMeasured(OUTCOME), Decided(back), arrived(receipt(2, step=70))]
    told = story(OPENED, Decided(asked), arrived(receipt()), *done)
    assert told.state is RunState.TRACKING
    assert [decision.who for decision in told.decisions] == ["ann", "ann"]
