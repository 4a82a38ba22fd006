"""The runs that are in memory: loaded when somebody comes, let go of a while after he left."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from lrpilot_controller.journal.base import RunKey
from lrpilot_controller.server.live import LiveRun

log = logging.getLogger(__name__)

# A trainer that lost its stream is back within seconds, and one that starts anew within minutes.
IDLE_S = 300.0
MOST_IDLE = 64
"""Runs without a session that are kept; with more, the longest idle one is let go of at once."""


class Residents:
    """Holds each run once, whoever asks for it and however many at a time.

    Whoever got one takes its lock, and then asks again whether it is still `held`: meanwhile it
    may have been let go of. One that has a session, or whose lock is taken, never is.

    Args:
        load: brings a run into memory.
        idle_s: how long one without a session is kept.
        most_idle: how many of those.
    """

    def __init__(
        self,
        load: Callable[[RunKey], Awaitable[LiveRun]],
        idle_s: float = IDLE_S,
        most_idle: int = MOST_IDLE,
    ) -> None:
        self._load = load
        self._idle_s = idle_s
        self._most_idle = most_idle
        self._runs: dict[RunKey, LiveRun] = {}
        self._busy: dict[RunKey, asyncio.Task[None]] = {}  # being loaded, or not to be just now
        self._idle: dict[RunKey, asyncio.TimerHandle] = {}  # the longest idle one first

    def __len__(self) -> int:
        return len(self._runs)

    def all(self) -> list[LiveRun]:
        """Those that are in memory now. May be called by any thread."""
        return list(self._runs.values())

    def find(self, key: RunKey) -> LiveRun | None:
        """A run, if it is in memory."""
        return self._runs.get(key)

    def held(self, run: LiveRun) -> bool:
        """Whether this is the run of its name; what was let go of is of no use any more."""
        return self._runs.get(run.key) is run

    async def get(self, key: RunKey) -> LiveRun:
        """A run, loaded unless it is in memory.

        Raises:
            JournalError: it cannot be loaded.
        """
        while (run := self._runs.get(key)) is None:
            if key not in self._busy:
                self._keep_busy(key, self._bring(key))
            await asyncio.shield(self._busy[key])
        return run

    async def without(self, key: RunKey, work: Callable[[], Awaitable[object]]) -> bool:
        """Do something while a run is not in memory; False, undone, where somebody is at it.

        Raises:
            Exception: that of the work.
        """
        while key in self._busy:
            await asyncio.wait([self._busy[key]])
        if (run := self._runs.get(key)) is not None and not self.let_go(run):
            return False

        async def done() -> None:
            await work()

        await asyncio.shield(self._keep_busy(key, done()))
        return True

    async def _bring(self, key: RunKey) -> None:
        run = self._runs[key] = await self._load(key)
        self._let_go_later(run)  # all who waited for it may have given up

    def _keep_busy(self, key: RunKey, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """Whoever wants the run meanwhile waits for this."""

        async def whole() -> None:
            try:
                await work
            finally:
                del self._busy[key]

        task = self._busy[key] = asyncio.create_task(whole())
        task.add_done_callback(_look_at)
        return task

    def rest(self, run: LiveRun) -> None:
        """It has no session now: it may be let go of after a while."""
        if not self.held(run):
            return
        self.wake(run)
        self._let_go_later(run)
        while len(self._idle) > self._most_idle:
            self.let_go(self._runs[next(iter(self._idle))])

    def _let_go_later(self, run: LiveRun) -> None:
        loop = asyncio.get_running_loop()
        self._idle[run.key] = loop.call_later(self._idle_s, self.let_go, run)

    def wake(self, run: LiveRun) -> None:
        """It has a session again."""
        if (timer := self._idle.pop(run.key, None)) is not None:
            timer.cancel()

    def let_go(self, run: LiveRun) -> bool:
        """Forget a run, unless it is in use; whether it is not in memory now."""
        if not self.held(run):
            return True
        self.wake(run)
        if run.link is not None or run.lock.locked():
            return False  # whoever is at it lets it rest again
        del self._runs[run.key]
        return True

    def drop(self, run: LiveRun) -> None:
        """Forget a run whose engine knows what its journal does not: it is loaded afresh."""
        if self.held(run):
            self.wake(run)
            del self._runs[run.key]


def _look_at(task: "asyncio.Task[None]") -> None:
    """Everybody who waited for it may be gone: then nobody else hears of its failure."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.info("a run could not be loaded, or dropped: %s", error)
