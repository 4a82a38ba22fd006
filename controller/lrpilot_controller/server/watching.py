"""What people watch: told now, and again after it changes, as long as somebody watches.

However many watch one thing, it is told once. Nothing is queued for a watcher: who reads slowly
misses all but the newest, and who never reads holds one message. Training pays for being watched
with a few set operations per record that was journaled.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from dataclasses import replace
from typing import Generic, TypeVar

from lrpilot_controller.errors import LimitReached, LRPilotError, NotFound
from lrpilot_controller.journal.base import Journal, Record, RunKey
from lrpilot_controller.server import tell_wire
from lrpilot_controller.story import Follower
from lrpilot_proto.v1 import operator_pb2

log = logging.getLogger(__name__)

# The eye needs no more. All runs cost more to tell than one.
PERIOD_S = 0.25
ALL_PERIOD_S = 1.0
# Of the daemon's calls most are for trainers.
MAX_WATCHERS = 64
NEWEST = 100  # signals and decisions of a story that is sent again and again
CURVE = 40  # points of the small picture of a run among all
PAGE = 500  # runs in one message, which is far from the limit of its size

T = TypeVar("T")


class _Channel(Generic[T]):
    """One thing that is watched.

    Args:
        tell: Says what it is now; called on another thread, one call at a time.
        period_s: The shortest time between two calls.
    """

    def __init__(self, tell: Callable[[], T], period_s: float) -> None:
        self._tell = tell
        self._period_s = period_s
        self._touched = asyncio.Event()
        self._told = asyncio.Event()
        self._newest: T
        self._version = 0
        self._error: LRPilotError | None = None
        self._pump = asyncio.create_task(self._keep_telling())
        self.watchers = 0

    def touch(self) -> None:
        """It may have changed."""
        self._touched.set()

    def end(self, error: LRPilotError) -> None:
        """Nothing more is told; every watcher gets this error."""
        self.close()
        self._error = error
        self._told.set()

    def close(self) -> None:
        """Nobody watches any more."""
        self._pump.cancel()

    async def values(self) -> AsyncIterator[T]:
        """What it is, now and after each change.

        Raises:
            LRPilotError: it can be told no longer.
        """
        seen = 0
        while True:
            while self._version == seen:
                if self._error is not None:
                    raise self._error
                await self._told.wait()
            seen = self._version
            yield self._newest

    async def _keep_telling(self) -> None:
        while True:
            self._touched.clear()
            try:
                self._newest = await asyncio.to_thread(self._tell)
            except LRPilotError as error:
                self.end(error)
                return
            except Exception:
                log.exception("what is watched cannot be told")
                self.end(LRPilotError("this cannot be told: the daemon's log says why"))
                return
            self._version += 1
            told, self._told = self._told, asyncio.Event()
            told.set()
            await asyncio.sleep(self._period_s)
            await self._touched.wait()


class _OneRun:
    """The story of a run."""

    def __init__(self, journal: Journal, run: RunKey) -> None:
        self._follower = Follower(journal, run)
        self._known = False
        self.channel = _Channel(self._tell, PERIOD_S)

    def heard(self, records: Sequence[Record]) -> None:
        self._follower.heard(records)
        self.channel.touch()

    def _tell(self) -> operator_pb2.RunStory:
        if not self._known:
            self._follower.read()
            self._known = True
        self._follower.catch_up()
        story = self._follower.story()
        newest = replace(
            story, signals=story.signals[-NEWEST:], decisions=story.decisions[-NEWEST:]
        )
        return tell_wire.story_to(newest)


_Glances = dict[RunKey, tuple[int, operator_pb2.RunSummary]]
"""Every run's summary, with the number of the look that found it changed."""


class _AllRuns:
    """The summaries of all runs."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._followers: dict[RunKey, Follower] = {}
        self._changed: set[RunKey] = set()
        self._gone: set[RunKey] = set()
        self._glances: _Glances = {}
        self._looks = 0
        self.channel = _Channel(self._tell, ALL_PERIOD_S)

    def heard(self, run: RunKey, records: Sequence[Record]) -> None:
        self._changed.add(run)
        if (follower := self._followers.get(run)) is not None:
            follower.heard(records)
        self.channel.touch()

    def forgotten(self, run: RunKey) -> None:
        self._changed.discard(run)
        self._gone.add(run)
        self.channel.touch()

    def _tell(self) -> _Glances:
        gone, self._gone = self._gone, set()
        changed, self._changed = self._changed, set()
        for run in gone:  # what comes of its name is another run
            self._followers.pop(run, None)
            self._glances.pop(run, None)
        self._looks += 1
        for run in changed if self._glances else [*self._journal.runs()]:
            follower = self._followers.get(run)
            if follower is None:
                # Known before it reads: what is journaled meanwhile is heard.
                follower = self._followers[run] = Follower(self._journal, run, points=CURVE)
                follower.read()
            follower.catch_up()
            self._glances[run] = (self._looks, tell_wire.glance_to(follower.story()))
        return dict(self._glances)


class Watching:
    """Keeps one story per run that is watched, and drops it when its last watcher goes."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._runs: dict[RunKey, _OneRun] = {}
        self._all: _AllRuns | None = None
        self._ended: LRPilotError | None = None

    @property
    def watchers(self) -> int:
        """How many watch now."""
        return sum(channel.watchers for channel in self._channels())

    def record(self, run: RunKey, records: Sequence[Record]) -> None:
        """Says that these records were journaled; returns at once."""
        if (one := self._runs.get(run)) is not None:
            one.heard(records)
        if self._all is not None:
            self._all.heard(run, records)

    def forgotten(self, run: RunKey) -> None:
        """Says that a run was dropped with everything of it."""
        if (one := self._runs.pop(run, None)) is not None:
            one.channel.end(NotFound(f"run {run} was dropped: nothing came from it for too long"))
        if self._all is not None:
            self._all.forgotten(run)

    async def run(self, key: RunKey) -> AsyncGenerator[operator_pb2.RunStory, None]:
        """The story of a run, now and after each change.

        Raises:
            LimitReached: so many watch already.
            LRPilotError: the journal cannot be read, or the daemon ends.
        """
        self._admit()
        one = self._runs.get(key)
        if one is None:
            one = self._runs[key] = _OneRun(self._journal, key)
        one.channel.watchers += 1
        try:
            async for story in one.channel.values():
                yield story
        finally:
            if self._leave(one.channel) and self._runs.get(key) is one:
                del self._runs[key]

    async def all(
        self, wanted: Callable[[RunKey], bool]
    ) -> AsyncGenerator[operator_pb2.ListRunsResponse, None]:
        """The summaries of all `wanted` runs, then of those that changed since.

        Raises:
            As `run`.
        """
        self._admit()
        every = self._all = self._all or _AllRuns(self._journal)
        every.channel.watchers += 1
        seen: dict[RunKey, int] = {}
        first = True
        try:
            async for glances in every.channel.values():
                news = {
                    run: look
                    for run, (look, _) in glances.items()
                    if look != seen.get(run) and wanted(run)
                }
                seen |= news
                told = [glances[run][1] for run in news]
                for start in range(0, max(len(told), first), PAGE):
                    yield operator_pb2.ListRunsResponse(runs=told[start : start + PAGE])
                first = False
        finally:
            if self._leave(every.channel) and self._all is every:
                self._all = None

    def end(self, error: LRPilotError) -> None:
        """End what everybody watches, and let nobody in."""
        self._ended = error
        for channel in self._channels():
            channel.end(error)

    def _channels(self) -> list[_Channel[operator_pb2.RunStory] | _Channel[_Glances]]:
        every = [self._all.channel] if self._all is not None else []
        return [*(one.channel for one in self._runs.values()), *every]

    def _admit(self) -> None:
        if self._ended is not None:
            raise self._ended
        if self.watchers >= MAX_WATCHERS:
            raise LimitReached(
                f"{MAX_WATCHERS} people watch already, which is the most for one daemon: end a "
                "`lrpilot watch`, or use `lrpilot show`"
            )

    @staticmethod
    def _leave(channel: _Channel[T]) -> bool:
        """One watcher fewer; whether it was the last."""
        channel.watchers -= 1
        if channel.watchers == 0:
            channel.close()
        return channel.watchers == 0
