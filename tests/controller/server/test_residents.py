"""Which runs are in memory: those with a session, and for a while those without."""

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import replace

import pytest

from lrpilot_controller.config import Config
from lrpilot_controller.core.events import SaidGoodbye, SessionLost, SessionOpened
from lrpilot_controller.errors import JournalUnavailable
from lrpilot_controller.journal import JournalWriter, MemoryJournal, RunKey
from lrpilot_controller.server import residents
from lrpilot_controller.server.live import LiveRun
from lrpilot_controller.server.runs import Runs
from lrpilot_controller.server.upkeep import mark_lost
from support.journaled import NoLink, NoPriors
from support.streams import ATTEMPT, Trainer, descent

KEY = RunKey("demo", "run")


@asynccontextmanager
async def runs_on(journal: MemoryJournal) -> AsyncIterator[Runs]:
    writer = JournalWriter(journal)
    try:
        yield Runs(journal, writer, Config(), NoPriors())
    finally:
        writer.close()


def samples(count: int):  # type: ignore[no-untyped-def]
    run = Trainer()
    run.train(descent(count))
    return run.inputs[-1]


def alive() -> int:
    gc.collect()
    return sum(type(thing) is LiveRun for thing in gc.get_objects())


def let_go(runs: Runs) -> bool:
    run = runs._residents.find(KEY)
    return run is None or runs._residents.let_go(run)


async def live_through(runs: Runs, key: RunKey, steps: int = 3) -> None:
    """A whole short run."""
    link = NoLink()
    run = await runs.open(key, ATTEMPT, link)
    await runs.take(run, link, samples(steps))
    await runs.take(run, link, SaidGoodbye("t1", 1, "finished", steps))
    await runs.close(run, link)


def test_finished_runs_leave_memory() -> None:
    async def story() -> None:
        async with runs_on(MemoryJournal()) as runs:
            for n in range(residents.MOST_IDLE + 60):
                await live_through(runs, RunKey("demo", f"run-{n}"))
            assert alive() <= residents.MOST_IDLE

    asyncio.run(story())
    assert alive() == 0


def test_a_run_that_nobody_comes_back_to_leaves_after_a_while() -> None:
    async def story() -> None:
        async with runs_on(MemoryJournal()) as runs:
            runs._residents._idle_s = 0.05
            await live_through(runs, KEY)
            assert alive() == 1
            await asyncio.sleep(0.2)
            assert alive() == 0

    asyncio.run(story())


def test_one_that_was_loaded_for_somebody_who_gave_up_leaves_after_a_while() -> None:
    async def story() -> None:
        async with runs_on(MemoryJournal()) as runs:
            runs._residents._idle_s = 0.2
            opening = asyncio.create_task(runs.open(KEY, ATTEMPT, NoLink()))
            while KEY not in runs._residents._busy:
                await asyncio.sleep(0)
            opening.cancel()
            while KEY in runs._residents._busy:
                await asyncio.sleep(0)
            assert runs._residents.find(KEY) is not None  # who comes back soon finds it loaded
            await asyncio.sleep(0.5)
            assert runs._residents.find(KEY) is None

    asyncio.run(story())


def test_one_with_a_session_stays() -> None:
    async def story() -> None:
        async with runs_on(MemoryJournal()) as runs:
            runs._residents._idle_s, runs._residents._most_idle = 0.01, 0
            link = NoLink()
            run = await runs.open(KEY, ATTEMPT, link)
            await asyncio.sleep(0.05)
            assert not let_go(runs)
            assert alive() == 1
            await runs.close(run, link)
            assert let_go(runs)

    asyncio.run(story())


def test_it_comes_back_as_it_was() -> None:
    async def story() -> None:
        async with runs_on(MemoryJournal()) as runs:
            link = NoLink()
            run = await runs.open(KEY, ATTEMPT, link)
            await runs.take(run, link, samples(2000))
            view = run.engine.view
            await runs.close(run, link)
            assert let_go(runs)
            again = await runs.open(KEY, ATTEMPT, link)
            assert again is not run
            assert again.engine.view == view
            assert again.next_seq == 2001

    asyncio.run(story())


def test_the_end_of_a_session_leaves_a_state_where_that_spares_a_replay() -> None:
    async def story() -> None:
        journal = MemoryJournal()
        short = RunKey("demo", "short")
        async with runs_on(journal) as runs:
            await live_through(runs, KEY, steps=2000)
            await live_through(runs, short, steps=20)
        kept = journal.checkpoint(KEY)
        assert kept is not None
        assert kept.n == max(record.n for record in journal.records(KEY))
        assert journal.checkpoint(short) is None

    asyncio.run(story())


@pytest.mark.parametrize("turns", range(12))
def test_a_session_that_opens_while_its_run_is_let_go_of_gets_the_only_one(turns: int) -> None:
    async def story() -> None:
        journal = MemoryJournal()
        async with runs_on(journal) as runs:
            await live_through(runs, KEY)
            link = NoLink()
            opening = asyncio.create_task(runs.open(KEY, replace(ATTEMPT, id="t2"), link))
            for _ in range(turns):
                await asyncio.sleep(0)
            let_go(runs)
            run = await opening
            assert runs._residents.find(KEY) is run
            assert run.link is link
            await runs.take(run, link, replace(samples(5), attempt="t2"))
            assert run.engine.view is not None
            assert run.engine.view.step == 4
        opened = [e for e in journal.records(KEY, kinds=[SessionOpened])]
        assert len(opened) == 2

    asyncio.run(story())


def test_many_who_come_at_once_get_the_same_one() -> None:
    async def story() -> None:
        async with runs_on(MemoryJournal()) as runs:
            await live_through(runs, KEY)
            let_go(runs)
            links = [NoLink() for _ in range(20)]
            found = await asyncio.gather(*(runs.open(KEY, ATTEMPT, link) for link in links))
            assert len({id(run) for run in found}) == 1
            assert found[0].link in links

    asyncio.run(story())


def test_one_that_cannot_be_loaded_is_tried_again() -> None:
    class Sick(MemoryJournal):
        sick = True

        def checkpoint(self, run, *, before=None):  # type: ignore[no-untyped-def]
            if self.sick:
                raise JournalUnavailable("the disk is away")
            return super().checkpoint(run, before=before)

    async def story() -> None:
        journal = Sick()
        async with runs_on(journal) as runs:
            for _ in range(2):
                with pytest.raises(JournalUnavailable):
                    await runs.open(KEY, ATTEMPT, NoLink())
            journal.sick = False
            assert await runs.open(KEY, ATTEMPT, NoLink())

    asyncio.run(story())


# -- what is dropped from the journal


def test_a_run_is_dropped_only_while_it_has_no_session() -> None:
    async def story() -> None:
        journal = MemoryJournal()
        async with runs_on(journal) as runs:
            link = NoLink()
            run = await runs.open(KEY, ATTEMPT, link)
            assert runs.is_live(KEY)
            assert not await runs.forget(KEY)
            await runs.close(run, link)
            forgetting = asyncio.create_task(runs.forget(KEY))
            await asyncio.sleep(0)
            opening = asyncio.create_task(runs.open(KEY, ATTEMPT, link))
            assert await forgetting
            run = await opening  # it begins anew
            assert run.recorded == len(list(journal.records(KEY))) == 2

    asyncio.run(story())


# -- what a daemon finds at its start


def test_the_sessions_that_nobody_saw_the_end_of_are_lost() -> None:
    async def story() -> None:
        journal = MemoryJournal()
        for n in range(4):
            key = RunKey("demo", f"run-{n}")
            journal.append([(key, 0.0, SessionOpened(replace(ATTEMPT, id=f"a{n}")))])
            ends = (SaidGoodbye(f"a{n}", 1, "finished", 3), SessionLost(f"a{n}"))
            journal.append([(key, 0.0, event) for event in ends[: n % 3]])
        with closing(JournalWriter(journal)) as writer:
            await mark_lost(journal, writer)
        lost = {str(k): r.event.attempt for k, r in journal.newest([SessionLost])}  # type: ignore[union-attr]
        assert lost == {"demo/run-0": "a0", "demo/run-2": "a2", "demo/run-3": "a3"}

    asyncio.run(story())
