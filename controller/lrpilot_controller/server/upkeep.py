"""The daemon's upkeep of its journal: every few seconds what is too much is thinned or dropped."""

import asyncio
import logging

from lrpilot_controller.errors import JournalError
from lrpilot_controller.journal.base import JournalSuperseded
from lrpilot_controller.journal.retention import Retention
from lrpilot_controller.server.runs import Runs

log = logging.getLogger(__name__)

LOOK_S = 5.0


async def keep_up(retention: Retention, runs: Runs) -> None:
    """Look after the journal until cancelled; what fails is told once and tried again.

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
        except JournalError as error:
            if not told:
                log.warning("the journal is not thinned now: %s", error)
            told = True
