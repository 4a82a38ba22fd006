"""Work on a run that is done to its end, even where the session that wants it is cut off."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

log = logging.getLogger(__name__)

T = TypeVar("T")


class Shielded:
    """Keeps such work under way.

    What the journal holds and what the engine was fed must never part: the trainer would send again
    what it has no acknowledgement for, and the journal would hold it twice.
    """

    def __init__(self) -> None:
        self._working: set[asyncio.Task[Any]] = set()

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do all of `work`, whatever becomes of the caller.

        Raises:
            Exception: that of the work.
        """
        task = asyncio.create_task(work)
        self._working.add(task)
        task.add_done_callback(self._working.discard)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(_look_at)
            raise

    async def settle(self, timeout_s: float) -> None:
        """Wait for what callers that were cut off have left under way."""
        if self._working:
            await asyncio.wait(self._working, timeout=timeout_s)


def _look_at(task: "asyncio.Task[Any]") -> None:
    """The caller is gone: there is nobody else to hear of its failure."""
    error = None if task.cancelled() else task.exception()
    if error is not None:
        log.info("the work of a session that was cut off failed: %s", error)
