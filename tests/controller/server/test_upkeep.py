"""The daemon's upkeep of its journal goes on whatever happens in it."""

import asyncio
import logging
from contextlib import closing

import pytest

from lrpilot_controller.config import Config
from lrpilot_controller.core.events import SessionOpened
from lrpilot_controller.journal import JournalWriter, MemoryJournal, RunKey
from lrpilot_controller.journal.retention import DAY_S, Keep, Retention
from lrpilot_controller.server import upkeep
from lrpilot_controller.server.runs import Runs
from support.journaled import NoPriors
from support.streams import ATTEMPT


def test_a_fault_of_our_own_is_told_once_and_ends_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(upkeep, "LOOK_S", 0.001)
    journal, faults = MemoryJournal(), [ValueError("a clock that fails")] * 2
    journal.append([(RunKey("demo", "old"), 1.0, SessionOpened(ATTEMPT))])

    def clock() -> float:
        if faults:
            raise faults.pop()
        return 9 * DAY_S

    async def story() -> None:
        with closing(JournalWriter(journal)) as writer:
            runs = Runs(journal, writer, Config(), NoPriors())
            retention = Retention(journal, writer, Keep(days=1), 1e9, clock)
            keeping = asyncio.create_task(upkeep.keep_up(retention, runs))
            while journal.runs() and not keeping.done():
                await asyncio.sleep(0.001)
            keeping.cancel()

    asyncio.run(story())
    assert journal.runs() == []
    (told,) = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert "the journal is not thinned now: a clock that fails" in told.getMessage()
    assert told.exc_info is not None
