"""What people watch: told now and after each change, once for all, and never queued."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TypeVar

import pytest

from lrpilot_controller.core.events import Event, SessionOpened
from lrpilot_controller.errors import JournalUnavailable, LimitReached, NotFound, Stopping
from lrpilot_controller.journal import MemoryJournal, Record, RunKey
from lrpilot_controller.server import watching
from lrpilot_controller.server.watching import Watching
from lrpilot_proto.v1 import operator_pb2
from support.streams import ATTEMPT, Trainer, descent

ONE, TWO, OTHER = RunKey("demo", "exp-1"), RunKey("demo", "exp-2"), RunKey("other", "exp-1")
T = TypeVar("T")


class House:
    """A journal, and those who hear what is written."""

    def __init__(self) -> None:
        self.journal = MemoryJournal()
        self.watching = Watching(self.journal)
        self._trainers: dict[RunKey, Trainer] = {}

    def train(self, run: RunKey, steps: int) -> None:
        """A run makes steps, each recorded by itself."""
        if run not in self._trainers:
            self._trainers[run] = Trainer()
            self._record(run, [SessionOpened(ATTEMPT)])
        trainer = self._trainers[run]
        for loss in descent(steps):
            known = len(trainer.inputs)
            trainer.train([loss])
            self._record(run, trainer.inputs[known:])

    def forget(self, run: RunKey) -> None:
        """It is dropped."""
        self.journal.forget(run)
        del self._trainers[run]
        self.watching.forgotten(run)

    def _record(self, run: RunKey, events: Sequence[Event]) -> None:
        numbers = self.journal.append([(run, 0.0, event) for event in events])
        records = [Record(n, 0.0, event) for n, event in zip(numbers, events, strict=True)]
        self.watching.record(run, records)


@pytest.fixture
def house(monkeypatch: pytest.MonkeyPatch) -> House:
    monkeypatch.setattr(watching, "PERIOD_S", 0.02)
    monkeypatch.setattr(watching, "ALL_PERIOD_S", 0.02)
    return House()


def play(story: Callable[[], Awaitable[None]]) -> None:
    async def whole() -> None:
        await asyncio.wait_for(story(), 30)

    asyncio.run(whole())


async def news(watcher: AsyncIterator[T]) -> T:
    return await anext(watcher)


async def nothing(watcher: AsyncIterator[T]) -> bool:
    """Whether nothing comes for several periods."""
    waiting = asyncio.ensure_future(anext(watcher))
    done, _ = await asyncio.wait([waiting], timeout=0.2)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    return not done


async def until_step(watcher: AsyncIterator[operator_pb2.RunStory], step: int) -> int:
    """Waits for news of that step; how many messages it took."""
    count = 0
    async for story in watcher:
        count += 1
        if story.summary.step >= step:
            return count
    raise AssertionError("it ended")


def test_a_story_is_told_now_and_after_each_change(house: House) -> None:
    async def story() -> None:
        house.train(ONE, 5)
        watcher = house.watching.run(ONE)
        assert (await news(watcher)).summary.step == 5
        house.train(ONE, 1)
        assert (await news(watcher)).summary.step == 6
        house.train(TWO, 1)
        assert await nothing(watcher)

    play(story)


def test_a_run_that_is_dropped_is_told_no_more_and_a_later_one_of_its_name_is(house: House) -> None:
    async def story() -> None:
        house.train(ONE, 5)
        house.train(TWO, 1)
        one, every = house.watching.run(ONE), house.watching.all(lambda _: True)
        await news(one)
        await news(every)
        house.forget(ONE)
        with pytest.raises(NotFound, match="dropped"):
            await news(one)
        house.train(ONE, 2)
        told = await news(every)
        while not told.runs or told.runs[0].step != 2:
            told = await news(every)
        assert (await news(house.watching.run(ONE))).summary.step == 2

    play(story)


def test_many_changes_make_few_messages(house: House) -> None:
    async def story() -> None:
        house.train(ONE, 1)
        watcher = house.watching.run(ONE)
        await news(watcher)
        for _ in range(300):
            house.train(ONE, 1)
            await asyncio.sleep(0)
        assert await until_step(watcher, 301) < 100

    play(story)


def test_who_reads_slowly_misses_all_but_the_newest(house: House) -> None:
    async def story() -> None:
        house.train(ONE, 1)
        slow, quick = house.watching.run(ONE), house.watching.run(ONE)
        await news(slow)
        for step in range(2, 8):
            house.train(ONE, 1)
            await until_step(quick, step)
        assert (await news(slow)).summary.step == 7

    play(story)


def test_watchers_of_one_run_share_its_story_and_the_last_one_drops_it(house: House) -> None:
    reads: list[int] = []
    records = house.journal.records

    def counted(run: RunKey, *, after: int = 0, kinds: object = None) -> object:
        reads.append(after)
        return records(run, after=after)

    house.journal.records = counted  # type: ignore[assignment, method-assign]

    async def story() -> None:
        house.train(ONE, 3)
        first, second = house.watching.run(ONE), house.watching.run(ONE)
        await news(first)
        assert (await news(second)).summary.step == 3
        await first.aclose()
        house.train(ONE, 1)
        assert (await news(second)).summary.step == 4
        assert reads == [0]
        await second.aclose()
        house.train(ONE, 1)
        third = house.watching.run(ONE)
        assert (await news(third)).summary.step == 5
        assert reads == [0, 0]

    play(story)


def test_all_runs_are_told_and_then_those_that_changed(house: House) -> None:
    async def story() -> None:
        for run in (ONE, TWO, OTHER):
            house.train(run, 50)
        every = house.watching.all(lambda run: True)
        some = house.watching.all(lambda run: run.project == "demo")
        first = await news(every)
        assert [run.run.name for run in first.runs] == ["exp-1", "exp-2", "exp-1"]
        assert 20 <= len(first.runs[0].curve) <= 40
        assert [run.run.project for run in (await news(some)).runs] == ["demo", "demo"]
        house.train(TWO, 1)
        for watcher in (every, some):
            (changed,) = (await news(watcher)).runs
            assert (changed.run.name, changed.step) == ("exp-2", 51)
        house.train(OTHER, 1)
        assert [run.run.project for run in (await news(every)).runs] == ["other"]
        assert await nothing(some)

    play(story)


def test_a_run_that_begins_while_all_are_watched_is_told(house: House) -> None:
    async def story() -> None:
        watcher = house.watching.all(lambda run: True)
        assert list((await news(watcher)).runs) == []
        house.train(ONE, 2)
        (begun,) = (await news(watcher)).runs
        assert (begun.run.name, begun.step) == ("exp-1", 2)

    play(story)


def test_more_runs_than_fit_into_one_message_come_in_several(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "PAGE", 2)

    async def story() -> None:
        for n in range(5):
            house.train(RunKey("demo", f"exp-{n}"), 1)
        watcher = house.watching.all(lambda run: True)
        assert [len((await news(watcher)).runs) for _ in range(3)] == [2, 2, 1]

    play(story)


def test_a_story_that_is_told_again_and_again_holds_the_newest(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "NEWEST", 1)

    async def story() -> None:
        house.train(ONE, 60)
        trainer = house._trainers[ONE]
        for outputs in (trainer.train([float("nan")]), trainer.train([float("nan")] * 2)):
            house._record(ONE, outputs)
        told = await news(house.watching.run(ONE))
        assert len(told.signals) == len(told.decisions) == 1
        assert told.decisions[0].decision.id > 1

    play(story)


def test_all_watchers_are_told_that_the_daemon_ends(house: House) -> None:
    async def story() -> None:
        house.train(ONE, 1)
        one, every = house.watching.run(ONE), house.watching.all(lambda run: True)
        await news(one)
        await news(every)
        house.watching.end(Stopping("the daemon is stopping"))
        for watcher in (one, every, house.watching.run(ONE)):
            with pytest.raises(Stopping, match="the daemon is stopping"):
                await anext(watcher)

    play(story)


def test_a_journal_that_cannot_be_read_ends_the_watch_and_not_the_next_one(house: House) -> None:
    records = house.journal.records

    def broken(*args: object, **more: object) -> object:
        raise JournalUnavailable("the disk failed")

    async def story() -> None:
        house.train(ONE, 1)
        house.journal.records = broken  # type: ignore[assignment, method-assign]
        with pytest.raises(JournalUnavailable, match="the disk failed"):
            await anext(house.watching.run(ONE))
        house.journal.records = records  # type: ignore[method-assign]
        assert (await news(house.watching.run(ONE))).summary.step == 1

    play(story)


def test_so_many_may_watch_and_no_more(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "MAX_WATCHERS", 2)

    async def story() -> None:
        house.train(ONE, 1)
        first, second = house.watching.run(ONE), house.watching.all(lambda run: True)
        await news(first)
        await news(second)
        with pytest.raises(LimitReached, match=r"2 people watch already.*lrpilot show"):
            await anext(house.watching.run(TWO))
        await first.aclose()
        await news(house.watching.run(ONE))

    play(story)
