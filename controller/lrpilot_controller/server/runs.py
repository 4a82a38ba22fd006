"""The runs that this daemon serves: each an engine that is fed only what the journal holds.

A run is loaded from its newest checkpoint and the records after it, so a restarted daemon stands
where the old one stood, with the same decisions. Whatever the replay decides beyond the journal
(the old daemon died between a sample and its decision) is recorded then.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from lrpilot_controller.config import Config
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
from lrpilot_controller.errors import JournalError, Superseded
from lrpilot_controller.journal.base import Journal, Record, RunKey
from lrpilot_controller.journal.writer import JournalWriter
from lrpilot_controller.server.commands import check, no_session, told
from lrpilot_controller.server.intake import Intake
from lrpilot_controller.server.live import Link, LiveRun, admit, newer
from lrpilot_controller.server.loading import DUE, WORTH, load, text_of
from lrpilot_controller.server.priors import Priors, answer_of
from lrpilot_controller.server.residents import Residents
from lrpilot_controller.server.tally import Tally

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
        self._residents = Residents(self._load)
        self.tally = Tally()
        self.listeners: list[Listener] = [self.tally.record]

    def states(self) -> Counter[str]:
        """How many runs have a trainer now, by what they do. May be called by any thread."""
        return Counter(run.doing for run in self._residents.all() if run.link is not None)

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
        while True:
            run = await self._residents.get(key)
            try:
                if await _to_its_end(self._open(run, attempt, link)):
                    return run
            except BaseException:
                await self.close(run, link)
                raise

    async def _open(self, run: LiveRun, attempt: Attempt, link: Link) -> bool:
        """Give it the run; False where the run was let go of before its turn came."""
        async with run.lock:
            if not self._residents.held(run):
                return False
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
            self._residents.wake(run)
            return True

    async def close(self, run: LiveRun, link: Link) -> None:
        """The session ended; the run is lost unless its trainer said goodbye."""
        await _to_its_end(self._close(run, link))

    async def _close(self, run: LiveRun, link: Link) -> None:
        try:
            async with run.lock:
                if run.link is not link:
                    return
                run.link = None
                if run.attempt is not None and not run.ended:
                    await self._record(run, SessionLost(run.attempt.id))
                self._save(run, WORTH)
        finally:
            if run.link is None:
                self._residents.rest(run)

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
        run = self._residents.find(key)
        if run is None:
            raise no_session(key)
        return await _to_its_end(self._command(run, command))

    async def _command(self, run: LiveRun, command: Commanded) -> str:
        async with run.lock:
            check(run, command)
            return told(run, command, await self._record(run, command))

    async def mark_lost(self) -> None:
        """Record as lost the sessions that an earlier daemon did not live to see the end of.

        A trainer that is still there opens its session anew within seconds.
        """
        kinds = (SessionOpened, SessionLost, SaidGoodbye)
        newest = await asyncio.to_thread(self._journal.newest, kinds)
        now = time.time()
        lost = [
            (key, now, SessionLost(record.event.attempt.id))
            for key, record in newest
            if isinstance(record.event, SessionOpened)
        ]
        if lost:
            await self._writer.append(lost)

    def is_live(self, key: RunKey) -> bool:
        """Whether a run has a session now."""
        run = self._residents.find(key)
        return run is not None and run.link is not None

    async def forget(self, key: RunKey) -> bool:
        """Drop a run with everything of it from the journal, unless it has a session now.

        Raises:
            JournalError: the journal cannot be written now.
        """
        drop = partial(self._journal.forget, key)
        return await self._residents.without(
            key, lambda: asyncio.wrap_future(self._writer.call(drop))
        )

    async def _load(self, key: RunKey) -> LiveRun:
        run, rest = await asyncio.to_thread(load, self._journal, key)
        await self._make(run, rest)
        return run

    def _save(self, run: LiveRun, least: int) -> None:
        """Keep the state after the newest record, where that spares a restart so many samples.

        Whatever comes in the way costs time at the next start, and nothing else.
        """
        if run.unsaved < least or not self._residents.held(run):
            return
        try:
            if (text := text_of(run)) is None:
                return
            saving = self._writer.save_checkpoint(run.key, run.recorded, text)
        except Exception as error:  # a plugin's detector, for one, may have any state
            log.warning("the state of run %s is not kept: %r", run.key, error)
        else:
            saving.add_done_callback(partial(_saved, run.key))
        run.unsaved = 0

    async def _record(self, run: LiveRun, event: Input) -> list[Output]:
        """Journal an input, feed it, journal what follows, then speak; what followed."""
        await self._append(run, [event])
        try:
            outputs = run.take(event)
            await self._make(run, outputs)
        except JournalError:
            # The engine knows more than the journal does: load it afresh next time.
            self._residents.drop(run)
            raise
        self._save(run, DUE)
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
        run.recorded = numbers[-1]
        records = [Record(n, at, event) for n, event in zip(numbers, events, strict=True)]
        for listener in self.listeners:
            listener(run.key, records)


def _saved(key: RunKey, saving: "Future[None]") -> None:
    if (error := saving.exception()) is not None:
        log.warning("the state of run %s is not kept: %s", key, error)


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
