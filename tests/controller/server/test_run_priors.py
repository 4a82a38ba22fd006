"""What earlier runs found is asked for once per attempt, and never waited for for long."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from lrpilot_controller.core.events import Configured, PriorAnswered, SaidGoodbye, SessionOpened
from lrpilot_controller.core.model import Mode
from lrpilot_controller.core.settings import CoreSettings
from lrpilot_controller.errors import LRPilotError
from support.house import KEY, SEARCHING, House, play


def test_a_search_is_told_what_earlier_runs_found_before_it_begins(house: House) -> None:
    house.priors.answer = PriorAnswered("", 0.03, "run demo/exp-0")

    async def story() -> None:
        await house.open()
        assert house.priors.asked == [(KEY, "t1")]
        assert house.inputs() == [
            Configured(CoreSettings()),
            SessionOpened(SEARCHING),
            PriorAnswered("t1", 0.03, "run demo/exp-0"),
        ]

    play(story)


def test_an_attempt_is_asked_for_once_whatever_happens_to_its_streams(house: House) -> None:
    async def story() -> None:
        await house.open()
        await house.open()
        house.restart()
        await house.open()
        assert house.priors.asked == [(KEY, "t1")]
        assert house.names().count("PriorAnswered") == 1
        await house.open(replace(SEARCHING, id="t2", resumes=None), house.link)

    with pytest.raises(LRPilotError, match="live session of another attempt"):
        play(story)


def test_each_attempt_is_asked_for(house: House) -> None:
    async def story() -> None:
        run = await house.open()
        await house.feed(run, SaidGoodbye("t1", 1, "finished", 0))
        await house.runs.close(run, house.link)
        await house.open(replace(SEARCHING, id="t2"))
        assert [attempt for _, attempt in house.priors.asked] == ["t1", "t2"]

    play(story)


@pytest.mark.parametrize("change", [{"search": False}, {"mode": Mode.OBSERVE}, {"resumes": "t0"}])
def test_nobody_is_asked_for_a_run_that_does_not_search(
    house: House, change: dict[str, Any]
) -> None:
    async def story() -> None:
        await house.open(replace(SEARCHING, **change))
        assert house.priors.asked == []
        assert house.names() == ["Configured", "SessionOpened"]

    play(story)


def test_an_answer_that_does_not_come_is_waited_for_no_longer_than_a_moment(house: House) -> None:
    house.priors.answer = None

    async def story() -> None:
        begin = asyncio.get_running_loop().time()
        await house.open()
        assert 0.1 < asyncio.get_running_loop().time() - begin < 2.0
        answer = house.inputs()[-1]
        assert answer == PriorAnswered("t1", None, "no answer: it did not come within 0.2 s")

    play(story)


def test_a_memory_that_is_broken_costs_the_run_nothing(house: House) -> None:
    house.priors.answer = OSError("the disk is gone")

    async def story() -> None:
        run = await house.open()
        assert house.inputs()[-1] == PriorAnswered("t1", None, "no answer: the disk is gone")
        assert run.engine.will_search

    play(story)
