"""The runs that this daemon serves: each an engine that is fed only what the journal holds.

A run is loaded from its newest checkpoint and the records after it, so a restarted daemon stands
where the old one stood, with the same decisions. Whatever the replay decides beyond the journal
(the old daemon died between a sample and its decision) is recorded then.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from lrpilot_controller.config import Config
from lrpilot_controller.core.events import (
    Answered,
    Commanded,
    Configured,
    Report,
    SessionLost,
    SessionOpened,
)
from lrpilot_controller.core.model import Attempt, Question
from lrpilot_controller.core.telemetry import Samples
from lrpilot_controller.errors import InvalidTelemetry, Superseded
from lrpilot_controller.journal.base import Journal, RunKey
from lrpilot_controller.journal.writer import JournalWriter
from lrpilot_controller.server.commands import check, no_session, told
from lrpilot_controller.server.intake import Intake
from lrpilot_controller.server.ledger import Ledger
from lrpilot_controller.server.live import Link, LiveRun, admit, newer
from lrpilot_controller.server.loading import WORTH, load
from lrpilot_controller.server.priors import Priors, answer_of
from lrpilot_controller.server.residents import Residents
from lrpilot_controller.server.shielded import Shielded
from lrpilot_controller.server.tally import Tally

log = logging.getLogger(__name__)

# Above it a Hello is made up: a daemon that starts once a second takes thirty years to get there.
MAX_GENERATION = 10**9


class Runs:
    """Loads runs, and opens and closes their sessions.

    `listeners` are told what was journaled, `forgetters` which run was dropped; `shielded` is what
    is under way.
    """

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
        self.shielded = Shielded()
        self.tally = Tally()
        self._ledger = Ledger(writer, self._residents)
        self.listeners = self._ledger.listeners
        self.listeners.append(self.tally.record)
        self.forgetters: list[Callable[[RunKey], None]] = [
            self._intake.forgotten,
            self._ledger.aside.forget,
        ]

    def states(self) -> Counter[str]:
        """How many runs have a trainer now, by what they do. May be called by any thread."""
        return Counter(run.doing for run in self._residents.all() if run.link is not None)

    @property
    def generation(self) -> int:
        """Counts daemon starts on this journal."""
        return self._journal.generation

    async def outgrow(self, key: RunKey, generation: int) -> None:
        """Be of no older generation than a trainer has seen: it believes no older daemon.

        Raises:
            InvalidTelemetry: no journal was ever opened so often.
            JournalError: the journal cannot be written now.
        """
        if generation <= (own := self.generation):
            return
        if generation > MAX_GENERATION:
            raise InvalidTelemetry(
                f"hello.generation is {generation}: at most {MAX_GENERATION} is believed, and the "
                f"journal's is {own}"
            )
        await asyncio.wrap_future(self._writer.call(partial(self._journal.outgrow, generation)))
        log.warning(
            "the trainer of run %s has seen generation %d and the journal's was %d: it was put "
            "back or moved away; it is %d now",
            key,
            generation,
            own,
            self.generation,
        )

    async def open(self, key: RunKey, attempt: Attempt, link: Link) -> LiveRun:
        """Give `link` the run, or say why not.

        Raises:
            RunBusy: another attempt has a live session, and this one does not resume it.
            Superseded: a newer attempt has taken over.
            LimitReached: the journal takes no more runs, attempts, or bytes.
            RunFailed: LRPilot failed on it, now or before.
            JournalError: the run cannot be loaded or recorded now.
        """
        self._ledger.aside.check(key)
        await self._intake.run(key)
        while True:
            run = await self._residents.get(key)
            try:
                if await self.shielded.run(self._open(run, attempt, link)):
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
            try:
                if not run.over(attempt):
                    await self._begin(run, attempt)
            except BaseException:
                run.link = older
                if older is not None and (gone := self._ledger.gone(run)) is not None:
                    older.end(gone)
                raise
            if older is not None:
                text = f"a newer session of run {run.key} took over from this one"
                older.end(Superseded(text))
            if run.wants_prior:
                await self._ledger.record(run, await answer_of(self._priors, run.key, attempt))
            run.link = link
            self._residents.wake(run)
            return True

    async def _begin(self, run: LiveRun, attempt: Attempt) -> None:
        settings = self._config.settings_of(run.key)
        if run.settings != settings:
            await self._ledger.record(run, Configured(settings))
        await self._ledger.record(run, SessionOpened(attempt))

    async def close(self, run: LiveRun, link: Link) -> None:
        """The session ended; the run is lost unless its trainer said goodbye."""
        await self.shielded.run(self._close(run, link))

    async def _close(self, run: LiveRun, link: Link) -> None:
        try:
            async with run.lock:
                if run.link is not link:
                    return
                run.link = None
                if run.attempt is not None and not run.ended:
                    lost = SessionLost(run.attempt.id)
                    if self._residents.held(run):
                        await self._ledger.record(run, lost)
                    elif self._residents.find(run.key) is None:  # no newer session of it
                        await self._ledger.append(run, [lost])
                self._ledger.save(run, WORTH)
        finally:
            if run.link is None:
                self._residents.rest(run)

    async def take(self, run: LiveRun, link: Link, event: Samples | Report) -> None:
        """Record and judge what a trainer sent; what the journal holds already is dropped.

        Raises:
            Superseded: the session lost the run to a newer one.
            LimitReached: there is no room in the journal, and it must not be acknowledged.
            RunFailed: LRPilot failed on it.
            JournalError: it could not be recorded, and must not be acknowledged.
        """
        await self.shielded.run(self._take(run, link, event))

    async def _take(self, run: LiveRun, link: Link, event: Samples | Report) -> None:
        async with run.lock:
            if run.link is not link:
                raise Superseded(f"a newer session of run {run.key} took over from this one")
            if (gone := self._ledger.gone(run)) is not None:
                raise gone
            self._intake.more()
            if isinstance(event, Samples):
                if fresh := newer(event, run.next_seq):
                    await self._ledger.record(run, fresh)
            elif event.report_seq >= run.next_report:
                await self._ledger.record(run, event)

    async def command(self, key: RunKey, command: Commanded) -> str:
        """Record what a person asks of a run that has a live session, and do it.

        Returns:
            What follows from it, in a sentence.

        Raises:
            NotNow: it has none, its trainer cannot do it, or the engine will not do it now.
            RunFailed: LRPilot failed on it.
            JournalError: it could not be recorded; nothing was done.
        """
        run = self._residents.find(key)
        if run is None:
            raise no_session(key)
        return await self.shielded.run(self._command(run, command))

    async def _command(self, run: LiveRun, command: Commanded) -> str:
        async with run.lock:
            if (gone := self._ledger.gone(run)) is not None:
                raise gone
            check(run, command)
            return told(run, command, await self._ledger.record(run, command))

    async def judge(self, key: RunKey, command: Commanded) -> None:
        """Record a person's verdict on a decision, of a run that trains or is long over.

        Raises:
            RunFailed: LRPilot failed on the run.
            JournalError: it could not be loaded or recorded.
        """
        self._ledger.aside.check(key)
        while not await self.shielded.run(self._judge(await self._residents.get(key), command)):
            pass

    async def _judge(self, run: LiveRun, command: Commanded) -> bool:
        """Record it; False where the run was let go of before its turn came."""
        async with run.lock:
            if not self._residents.held(run):
                return False
            await self._ledger.record(run, command)
        if run.link is None:
            self._residents.rest(run)
        return True

    def questions(self, key: RunKey) -> tuple[Attempt | None, Sequence[Question]]:
        """What the attempt that has a session would know of earlier interventions."""
        run = self._residents.find(key)
        return (run.attempt, run.engine.questions) if run is not None else (None, ())

    async def answer(self, key: RunKey, answer: Answered) -> None:
        """Record an answer, unless its attempt has no session any more; a late one is ignored.

        Raises:
            RunFailed: LRPilot failed on it.
            JournalError: it could not be recorded.
        """
        await self.shielded.run(self._answer(key, answer))

    async def _answer(self, key: RunKey, answer: Answered) -> None:
        if (run := self._residents.find(key)) is None:
            return
        async with run.lock:
            mine = run.attempt is not None and run.attempt.id == answer.attempt
            if mine and run.link is not None and self._residents.held(run):
                await self._ledger.record(run, answer)

    def is_live(self, key: RunKey) -> bool:
        """Whether a run has a session now."""
        run = self._residents.find(key)
        return run is not None and run.link is not None

    async def forget(self, key: RunKey) -> bool:
        """Drop a run with everything of it from the journal, unless it has a session now.

        Raises:
            JournalError: the journal cannot be written now.
        """

        async def drop() -> None:
            await asyncio.wrap_future(self._writer.call(partial(self._journal.forget, key)))
            for forgotten in self.forgetters:  # before a new run of its name can begin
                forgotten(key)

        return await self._residents.without(key, drop)

    async def _load(self, key: RunKey) -> LiveRun:
        try:
            run, rest = await asyncio.to_thread(load, self._journal, key)
            await self._ledger.make(run, rest)
        except Exception as error:
            raise self._ledger.failure(key, error) from error
        return run
