"""What the daemon does with a session's events: record, feed, record what follows, then speak."""

import math
from dataclasses import replace
from typing import Any

import pytest

from lrpilot_controller.config import Config, RunSection
from lrpilot_controller.core.engine import Engine
from lrpilot_controller.core.events import (
    Commanded,
    Decided,
    FellBack,
    ProgramEnded,
    Requested,
    SessionLost,
)
from lrpilot_controller.core.model import Action, Attempt, Decision, DecisionStatus, Mode
from lrpilot_controller.core.settings import CoreSettings, Reaction, Reactions
from lrpilot_controller.errors import NotNow
from support.house import IDLE, KEY, LOSSES, SEARCHING, START, House, applied, play
from support.streams import ATTEMPT

OLD = Decision(1, Action.CUT, "as an older version decides", 0, 0, factor=0.5)


# -- the first program


def test_a_run_that_is_to_search_is_told_to_wait_for_its_first_program(house: House) -> None:
    async def story() -> None:
        run = await house.open()
        assert run.engine.will_search
        await house.feed(run, START)
        (decision,) = house.programs()
        assert decision in house.link.decided or decision in run.unanswered.values()
        assert decision.program is not None
        assert decision.program.id == decision.id

    play(story)


@pytest.mark.parametrize("change", [{"search": False}, {"mode": Mode.OBSERVE}])
def test_a_run_that_does_not_search_need_not_wait(house: House, change: dict[str, Any]) -> None:
    async def story() -> None:
        run = await house.open(replace(SEARCHING, **change))
        assert not run.engine.will_search

    play(story)


def test_the_reports_of_a_search_reach_the_engine_once_each(house: House) -> None:
    async def story() -> None:
        run = await house.open()
        await house.feed(run, START)
        (first,) = house.programs()
        assert first.program is not None
        losses = (2.0,) * first.program.length
        ended = ProgramEnded("t1", 3, first.id, 0, losses, "length", 0, 0.01)
        await house.feed(run, applied(first, 2), ended, ended)
        assert len(house.programs()) == 2
        assert run.next_report == 4
        second = house.programs()[1]
        back = FellBack("t1", 4, second.id, 8, 1, "no word within 250 ms", 0.25)
        await house.feed(run, back, back, Requested("t1", 5, "finish", 90, 10))
        assert not run.engine.will_search
        assert house.names().count("ProgramEnded") == house.names().count("FellBack") == 1
        assert house.names()[-1] == "Requested"

    play(story)


def test_a_restarted_daemon_goes_on_with_the_same_program(house: House) -> None:
    async def story() -> None:
        run = await house.open()
        await house.feed(run, START)
        (sent,) = house.programs()
        house.restart()
        run = await house.open()
        assert run.unanswered == {sent.id: sent}
        assert run.engine.will_search
        assert house.programs() == [sent]

    play(story)


def test_where_a_replay_differs_the_journal_stands(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    """As after an update that decides otherwise: nothing recorded is decided again."""

    async def story() -> None:
        await house.open(replace(ATTEMPT, can_snapshot=True))
        [number] = house.journal.append([(KEY, 0.0, Decided(replace(OLD, id=7)))])
        house.restart()
        run = await house.open(ATTEMPT)
        assert f"first at record {number}" in caplog.text
        assert run.unanswered.keys() == {7}
        blown_up = replace(LOSSES, loss=(math.nan,) * 40)
        await house.feed(run, START, applied(OLD, 2), blown_up)
        made = [r.event.decision.id for r in house.journal.records(KEY, kinds=[Decided])]
        assert made[:2] == [7, 8]

    play(story)


# -- a person's search


SEARCH = Commanded("search", "ann", "another data set")


def test_a_person_may_start_a_search(house: House) -> None:
    async def story() -> None:
        run = await house.open(IDLE)
        await house.feed(run, START)
        await house.runs.command(KEY, SEARCH)
        assert run.engine.will_search
        assert house.inputs()[-1] == SEARCH
        assert [d.action for d in house.link.decided] == [Action.PROGRAM]

    play(story)


def test_a_search_needs_a_trainer_that_is_there(house: House) -> None:
    async def story() -> None:
        with pytest.raises(NotNow, match="no live session"):
            await house.runs.command(KEY, SEARCH)
        run = await house.open(IDLE)
        await house.runs.close(run, house.link)
        assert isinstance(house.inputs()[-1], SessionLost)
        with pytest.raises(NotNow, match="no live session"):
            await house.runs.command(KEY, SEARCH)

    play(story)


@pytest.mark.parametrize(
    ("attempt", "reason"),
    [
        (SEARCHING, "is searching already"),
        (replace(IDLE, can_program=False), "cannot run programs"),
        (replace(IDLE, mode=Mode.OBSERVE), "mode is observe"),
    ],
)
def test_a_search_that_cannot_begin_says_why_and_leaves_no_trace(
    house: House, attempt: Attempt, reason: str
) -> None:
    async def story() -> None:
        await house.open(attempt)
        with pytest.raises(NotNow, match=reason):
            await house.runs.command(KEY, SEARCH)
        assert "Commanded" not in house.names()

    play(story)


# -- what a person set


def observing(run: str) -> Config:
    settings = CoreSettings(reactions=Reactions(plateau=Reaction.CUT))
    return Config(settings, (RunSection(run, Mode.OBSERVE, {"overfit": "stop"}),))


def test_a_run_is_configured_before_its_first_session_and_when_something_changed(
    house: House,
) -> None:
    async def story() -> None:
        await house.open()
        house.restart()
        await house.open()
        assert house.names() == ["Configured", "SessionOpened", "PriorAnswered", "SessionOpened"]
        house.config = observing("demo/*")
        house.restart()
        run = await house.open()
        assert house.names()[4:] == ["Configured", "SessionOpened"]
        assert run.engine.view is not None
        assert run.engine.view.reactions == Reactions(plateau=Reaction.CUT, overfit=Reaction.STOP)

    play(story)


def test_a_replay_needs_the_journal_alone(house: House) -> None:
    async def story() -> None:
        house.config = observing("demo/*")
        house.restart()
        run = await house.open()
        engine = Engine()
        for event in house.inputs():
            engine.feed(event)
        assert engine.view == run.engine.view

    play(story)


@pytest.mark.parametrize(("pattern", "mode"), [("demo/*", Mode.OBSERVE), ("a/*", Mode.AUTO)])
def test_a_section_lowers_the_mode_of_the_runs_that_it_means(
    house: House, pattern: str, mode: Mode
) -> None:
    async def story() -> None:
        house.config = observing(pattern)
        house.restart()
        run = await house.open()
        assert run.attempt is not None
        assert run.attempt.mode is mode
        assert run.engine.will_search is (mode is Mode.AUTO)
        assert len(house.priors.asked) == (mode is Mode.AUTO)

    play(story)


def test_what_is_never_answered_does_not_pile_up(house: House) -> None:
    """The newest is kept: it is the one that is in flight."""

    async def story() -> None:
        run = await house.open()
        for number in range(1, 1001):
            run.made(Decided(replace(OLD, id=number, status=DecisionStatus.SENT)))
        assert len(run.unanswered) == 100
        assert max(run.unanswered) == 1000

    play(story)
