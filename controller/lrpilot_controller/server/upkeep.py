"""The daemon's upkeep of its journal: what an earlier one left open, and what becomes too much."""

import asyncio
import logging
import time

from lrpilot_controller.core.events import SaidGoodbye, SessionLost, SessionOpened
from lrpilot_controller.errors import JournalError
from lrpilot_controller.journal.base import Journal, JournalSuperseded
from lrpilot_controller.journal.retention import Retention
from lrpilot_controller.journal.writer import JournalWriter
from lrpilot_controller.server.runs import Runs

log = logging.getLogger(__name__)

LOOK_S = 5.0


async def mark_lost(journal: Journal, writer: JournalWriter) -> None:
    """Record as lost the sessions that an earlier daemon did not live to see the end of.

    A trainer that is still there opens its session anew within seconds.

    Raises:
        JournalError: the journal cannot be read or written now.
    """
    kinds = (SessionOpened, SessionLost, SaidGoodbye)
    newest = await asyncio.to_thread(journal.newest, kinds)
    now = time.time()
    lost = [
        (key, now, SessionLost(record.event.attempt.id))
        for key, record in newest
        if isinstance(record.event, SessionOpened)
    ]
    if lost:
        await writer.append(lost)


async def keep_up(retention: Retention, runs: Runs) -> None:
    """Thin and drop what is too much until cancelled; what fails is told once and tried again.

    That holds for a fault of our own as well: nobody would hear of it, and the journal would grow.
    Where nobody trains it is this that notices that another daemon has the journal.
    """
    told = False
    while True:
        await asyncio.sleep(LOOK_S)
        try:
            for key in await asyncio.to_thread(retention.expired):
                if await runs.forget(key):
                    log.info("run %s is dropped: nothing came from it for too long", key)
            await asyncio.to_thread(retention.look, runs.is_live)
            told = False
        except JournalSuperseded:  # the daemon ends, and says why
            return
        except Exception as error:
            if not told:
                fault = None if isinstance(error, JournalError) else error
                log.warning("the journal is not thinned now: %s", error, exc_info=fault)
            told = True
