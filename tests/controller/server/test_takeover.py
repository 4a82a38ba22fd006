"""One session of a run after another: who is told, who writes, and who is refused."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from lrpilot_controller.core.events import (
    Decided,
    Input,
    SaidGoodbye,
    SearchEnded,
    SessionLost,
    SessionOpened,
)
from lrpilot_controller.core.model import Mode
from lrpilot_controller.errors import JournalUnavailable
from lrpilot_controller.journal import MemoryJournal
from lrpilot_controller.journal.base import Entry
from lrpilot_controller.journal.writer import JournalWriter
from support.house import IDLE, KEY, LOSSES, SEARCHING, START, House, Link, play

# -- a session that takes over


def test_what_a_new_session_brings_about_is_not_told_to_the_one_before(house: House) -> None:
    async def story() -> None:
        first = Link()
        await house.open(link=first)
        house.link = Link()
        await house.runs.open(KEY, replace(SEARCHING, id="t2", resumes="t1"), house.link)
        assert first.decided == []
        assert len(first.ended) == 1

    play(story)


def test_a_trainer_whose_run_was_dropped_meanwhile_gets_decisions_that_it_heeds(
    house: House,
) -> None:
    async def story() -> None:
        run = await house.open(replace(SEARCHING, last_decision=7))
        await house.feed(run, START, LOSSES)
        assert [decision.id for decision in house.link.decided][:1] == [8]

    play(story)


class Full(MemoryJournal):
    """Takes what a trainer says, but not what follows from it, while it is `full`."""

    full = False

    def append(self, entries: Any) -> list[int]:
        if self.full and not all(isinstance(event, Input) for _, _, event in entries):
            raise JournalUnavailable("the disk is full")
        return super().append(entries)


def test_a_session_of_a_run_that_was_loaded_anew_writes_no_more(house: House) -> None:
    async def story() -> None:
        house.journal = Full()
        house.writer.close()
        house.writer = JournalWriter(house.journal)
        house.restart()
        run = await house.open()
        await house.feed(run, START, LOSSES)  # a program was sent, which the next attempt ends
        old, new = house.link, Link()
        house.journal.full = True
        other = replace(SEARCHING, id="t2", resumes="t1")
        with pytest.raises(JournalUnavailable):
            await house.runs.open(KEY, other, new)
        house.journal.full = False
        assert len(old.ended) == 1  # its run is of no use any more
        await house.runs.open(KEY, other, new)
        names = house.names()
        with pytest.raises(JournalUnavailable, match="loaded anew"):
            await house.runs.take(run, old, replace(LOSSES, first_seq=41))
        await house.runs.close(run, old)
        assert house.names() == names
        assert new.ended == []

    play(story)


# -- one whose records could not be written, or were not heard of


def fail(house: House, kind: type) -> Callable[[], None]:
    """From now on the journal takes no event of this kind; gives what ends that."""
    real = house.journal.append

    def append(entries: Sequence[Entry]) -> list[int]:
        if any(isinstance(event, kind) for _, _, event in entries):
            raise JournalUnavailable("the disk is full")
        return real(entries)

    house.journal.append = append  # type: ignore[method-assign]
    return lambda: setattr(house.journal, "append", real)


@pytest.mark.parametrize("back", [False, True])
def test_a_session_whose_commit_failed_is_lost_unless_its_trainer_is_back(
    house: House, back: bool
) -> None:
    """Its stream may be cut at the same time, and its end be noticed long after that."""

    async def story() -> None:
        run, old = await house.open(), house.link
        in_order = fail(house, Decided)
        with pytest.raises(JournalUnavailable):
            await house.feed(run, START)
        in_order()
        if back:
            await house.open()
        await house.runs.close(run, old)
        assert house.runs.is_live(KEY) == back

    asyncio.run(story())
    assert isinstance(house.inputs()[-1], SessionLost) != back
    assert len(house.programs()) == back, "what the failed commit held is decided when loaded"


def test_a_session_that_was_not_taken_over_after_all_writes_nothing_beside_the_next(
    house: House,
) -> None:
    """It is told so: the run was loaded afresh, and only one may be fed."""

    async def story() -> None:
        run, old = await house.open(), house.link
        await house.feed(run, START)
        in_order = fail(house, SearchEnded)
        with pytest.raises(JournalUnavailable):
            await house.open(replace(SEARCHING, mode=Mode.OBSERVE))
        in_order()
        assert len(old.ended) == 1
        await house.open()
        with pytest.raises(JournalUnavailable):
            await house.runs.take(run, old, LOSSES)
        await house.runs.close(run, old)

    asyncio.run(story())
    assert isinstance(house.inputs()[-1], SessionOpened)


def test_a_goodbye_whose_acknowledgement_was_lost_is_said_once_and_the_run_is_over(
    house: House,
) -> None:
    """The trainer comes back to ask whether it was heard, and that is not a new beginning."""
    goodbye = SaidGoodbye("t1", 2, "finished", 0)

    async def story() -> None:
        run = await house.open(IDLE)
        await house.feed(run, START, goodbye)
        await house.runs.close(run, house.link)
        again = await house.open(IDLE)
        assert again.next_report == 3, "the welcome acknowledges it"
        await house.runs.close(again, house.link)

    play(story)
    assert house.inputs()[-1] == goodbye
    assert house.names().count("SessionOpened") == 1
