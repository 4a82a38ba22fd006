"""The runs that this daemon serves: each an engine that is fed only what the journal holds.

A run is loaded by replaying its journal, so a restarted daemon stands where the old one stood,
with the same decisions. Whatever the replay decides beyond the journal (the old daemon died
between a sample and its decision) is recorded then.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from lrpilot_controller.config import Config
from lrpilot_controller.core.engine import Engine
from lrpilot_controller.core.events import (
    Commanded,
    Configured,
    Decided,
    Event,
    Input,
    Output,
    Report,
    SaidGoodbye,
    Samples,
    SessionLost,
    SessionOpened,
    SnapshotProven,
)
from lrpilot_controller.core.model import Attempt, DecisionStatus
from lrpilot_controller.core.replay import Replay
from lrpilot_controller.errors import JournalError, Superseded
from lrpilot_controller.journal.base import Journal, Record, RunKey
from lrpilot_controller.journal.codec import identical
from lrpilot_controller.journal.writer import JournalWriter
from lrpilot_controller.plugins import make_detectors
from lrpilot_controller.server.commands import check, no_session, told
from lrpilot_controller.server.intake import Intake
from lrpilot_controller.server.live import Link, LiveRun, admit, newer
from lrpilot_controller.server.priors import Priors, answer_of

log = logging.getLogger(__name__)

T = TypeVar("T")
Listener = Callable[[RunKey, Sequence[Record]], None]


class Runs:
    """Loads runs, opens and closes their sessions, and records before it speaks."""

    def __init__(
        self,
        journal: Journal,
        writer: JournalWriter,
        config: Config,
        priors: Priors,
        intake: Intake | None = None,
    ) -> None:
        self._intake = intake or Intake(journal, config.server)
        self._journal = journal
        self._writer = writer
        self._config = config
        self._priors = priors
        self._live: dict[RunKey, LiveRun] = {}
        self._loading = asyncio.Lock()
        self.listeners: list[Listener] = []

    @property
    def generation(self) -> int:
        """Counts daemon starts on this journal."""
        return self._journal.generation

    async def open(self, key: RunKey, attempt: Attempt, link: Link) -> LiveRun:
        """Give `link` the run, or say why not.

        Raises:
            RunBusy: another attempt has a live session, and this one does not resume it.
            Superseded: a newer attempt has taken over.
            LimitReached: the journal takes no more runs, attempts, or bytes.
            JournalError: the run cannot be loaded or recorded now.
        """
        await self._intake.run(key)
        run = await self._load(key)
        try:
            await _to_its_end(self._open(run, attempt, link))
        except BaseException:
            await self.close(run, link)
            raise
        return run

    async def _open(self, run: LiveRun, attempt: Attempt, link: Link) -> None:
        async with run.lock:
            admit(run, attempt)
            if run.attempt is not None and run.attempt.id != attempt.id:
                self._intake.attempt(run.key, len(run.older) + 1)
            # What follows from it is for the new session, which is told after its welcome.
            older, run.link = run.link, None
            attempt = replace(attempt, mode=self._config.mode_of(run.key, attempt.mode))
            settings = self._config.settings_of(run.key)
            try:
                if run.settings != settings:
                    await self._record(run, Configured(settings))
                await self._record(run, SessionOpened(attempt))
            except BaseException:
                run.link = older
                raise
            if older is not None:
                text = f"a newer session of run {run.key} took over from this one"
                older.end(Superseded(text))
            if run.wants_prior:
                await self._record(run, await answer_of(self._priors, run.key, attempt))
            run.link = link

    async def close(self, run: LiveRun, link: Link) -> None:
        """The session ended; the run is lost unless its trainer said goodbye."""
        await _to_its_end(self._close(run, link))

    async def _close(self, run: LiveRun, link: Link) -> None:
        async with run.lock:
            if run.link is not link:
                return
            run.link = None
            if run.attempt is not None and not run.ended:
                await self._record(run, SessionLost(run.attempt.id))

    async def take(self, run: LiveRun, link: Link, event: Samples | Report) -> None:
        """Record and judge what a trainer sent; what the journal holds already is dropped.

        Raises:
            Superseded: the session lost the run to a newer one.
            LimitReached: there is no room in the journal, and it must not be acknowledged.
            JournalError: it could not be recorded, and must not be acknowledged.
        """
        await _to_its_end(self._take(run, link, event))

    async def _take(self, run: LiveRun, link: Link, event: Samples | Report) -> None:
        async with run.lock:
            if run.link is not link:
                raise Superseded(f"a newer session of run {run.key} took over from this one")
            self._intake.more()
            if isinstance(event, Samples):
                if fresh := newer(event, run.next_seq):
                    await self._record(run, fresh)
            elif event.report_seq >= run.next_report:
                await self._record(run, event)

    async def command(self, key: RunKey, command: Commanded) -> str:
        """Record what a person asks of a run that has a live session, and do it.

        Returns:
            What follows from it, in a sentence.

        Raises:
            NotNow: it has none, its trainer cannot do it, or the engine will not do it now.
            JournalError: it could not be recorded; nothing was done.
        """
        run = self._live.get(key)
        if run is None:
            raise no_session(key)
        return await _to_its_end(self._command(run, command))

    async def _command(self, run: LiveRun, command: Commanded) -> str:
        async with run.lock:
            check(run, command)
            return told(run, command, await self._record(run, command))

    def is_live(self, key: RunKey) -> bool:
        """Whether a run has a session now."""
        run = self._live.get(key)
        return run is not None and run.link is not None

    async def forget(self, key: RunKey) -> bool:
        """Drop a run with everything of it from the journal, unless it has a session now.

        Raises:
            JournalError: the journal cannot be written now.
        """
        async with self._loading:
            if self.is_live(key):
                return False
            self._live.pop(key, None)
            await asyncio.wrap_future(self._writer.call(partial(self._journal.forget, key)))
            return True

    async def mark_lost(self) -> None:
        """Record as lost the sessions that an earlier daemon did not live to see the end of.

        A trainer that is still there opens its session anew within seconds.
        """
        for key, attempt in await asyncio.to_thread(self._left_open):
            entry = (key, time.time(), SessionLost(attempt))
            await self._writer.append([entry])

    def _left_open(self) -> list[tuple[RunKey, str]]:
        found = []
        for key in self._journal.runs():
            last: Event | None = None
            for record in self._journal.records(
                key, kinds=(SessionOpened, SessionLost, SaidGoodbye)
            ):
                last = record.event
            if isinstance(last, SessionOpened):
                found.append((key, last.attempt.id))
        return found

    async def _load(self, key: RunKey) -> LiveRun:
        async with self._loading:
            if key not in self._live:
                run, rest = await asyncio.to_thread(self._replay, key)
                await self._make(run, rest)
                self._live[key] = run
            return self._live[key]

    def _replay(self, key: RunKey) -> tuple[LiveRun, list[Output]]:
        """The run as its journal tells it, and the outputs that the journal does not hold yet."""
        run = LiveRun(key, Engine(make_detectors=make_detectors))
        replay = Replay(run.take)
        for record in self._journal.records(key):
            replay.take(record.n, record.event)
            if isinstance(record.event, Output):
                run.made(record.event)
        if (difference := replay.difference(identical)) is not None:
            # Another version of the core wrote it: the record stands.
            log.warning(
                "run %s: replay differs from the journal, first at record %d (`lrpilot replay` "
                "shows it); the journal stands",
                key,
                difference.recorded.record,
            )
            recorded = (made.output for made in replay.recorded)
            run.engine.skip_decisions(
                max((o.decision.id for o in recorded if isinstance(o, Decided)), default=0)
            )
            return run, []
        return run, [made.output for made in replay.missing()]

    async def _record(self, run: LiveRun, event: Input) -> list[Output]:
        """Journal an input, feed it, journal what follows, then speak; what followed."""
        await self._append(run, [event])
        try:
            outputs = run.take(event)
            await self._make(run, outputs)
        except JournalError:
            # The engine knows more than the journal does: load it afresh next time.
            self._live.pop(run.key, None)
            raise
        return outputs

    async def _make(self, run: LiveRun, outputs: list[Output]) -> None:
        if not outputs:
            return
        await self._append(run, outputs)
        for output in outputs:
            run.made(output)
            if run.link is None:
                continue
            if isinstance(output, Decided) and output.decision.status is DecisionStatus.SENT:
                run.link.decide(output.decision)
            elif isinstance(output, SnapshotProven):
                run.link.prove(output.snapshot)

    async def _append(self, run: LiveRun, events: Sequence[Event]) -> None:
        at = time.time()
        numbers = await self._writer.append([(run.key, at, event) for event in events])
        records = [Record(n, at, event) for n, event in zip(numbers, events, strict=True)]
        for listener in self.listeners:
            listener(run.key, records)


async def _to_its_end(work: Coroutine[Any, Any, T]) -> T:
    """Do all of `work` even if the session that wants it is cut off meanwhile.

    What the journal holds and what the engine was fed must never part: the trainer would send
    again what it has no acknowledgement for, and the journal would hold it twice.
    """
    task = asyncio.create_task(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        task.add_done_callback(_look_at)
        raise


def _look_at(task: "asyncio.Task[Any]") -> None:
    """The session that wanted the work is gone: there is nobody else to hear of its failure."""
    error = None if task.cancelled() else task.exception()
    if error is not None:
        log.info("the work of a session that was cut off failed: %s", error)
