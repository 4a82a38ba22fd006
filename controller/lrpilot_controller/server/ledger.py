"""Records before it speaks: an input, what the engine makes of it, and only then the trainer."""

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import TypeGuard

from lrpilot_controller.core.events import (
    Decided,
    Event,
    Input,
    Noticed,
    Output,
    SignalSeen,
    SnapshotProven,
)
from lrpilot_controller.core.model import DecisionStatus
from lrpilot_controller.errors import JournalError, JournalUnavailable, LRPilotError, RunFailed
from lrpilot_controller.journal.base import JournalEntryError, Record, RunKey
from lrpilot_controller.journal.writer import JournalWriter
from lrpilot_controller.server.aside import Aside
from lrpilot_controller.server.live import LiveRun
from lrpilot_controller.server.loading import DUE, text_of
from lrpilot_controller.server.residents import Residents

log = logging.getLogger(__name__)

Listener = Callable[[RunKey, Sequence[Record]], None]


class Ledger:
    """Keeps runs and their journal in step; its caller holds the run's lock.

    Attributes:
        aside: the runs on which LRPilot failed.
        listeners: are told what was journaled.
    """

    def __init__(self, writer: JournalWriter, residents: Residents) -> None:
        self._writer = writer
        self._residents = residents
        self.aside = Aside()
        self.listeners: list[Listener] = []

    def gone(self, run: LiveRun) -> LRPilotError | None:
        """Why a run that somebody has is of no use any more; None where it is."""
        if self._residents.held(run):
            return None
        try:
            self.aside.check(run.key)
        except RunFailed as failed:
            return failed
        return JournalUnavailable(f"run {run.key} is loaded anew: open the session again")

    def failure(self, key: RunKey, error: Exception) -> LRPilotError:
        """What a run fails with: the journal may be back soon, all else is a fault of ours."""
        if isinstance(error, JournalError) and not isinstance(error, JournalEntryError):
            return error
        return self.aside.put(key, error)

    def save(self, run: LiveRun, least: int) -> None:
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

    async def record(self, run: LiveRun, event: Input) -> list[Output]:
        """Journal an input, feed it, journal what follows, then speak; what followed.

        Raises:
            RunFailed: LRPilot failed on it.
            JournalError: it could not be recorded.
        """
        await self.append(run, [event])
        try:
            outputs = run.take(event)
            await self.make(run, outputs)
        except Exception as error:
            # The engine knows more than the journal does: it is of no use any more.
            self._residents.drop(run)
            failure = self.failure(run.key, error)
            if isinstance(failure, RunFailed):
                await self._tell(run, str(failure))
            if run.link is not None:
                run.link.end(failure)
            raise failure from error
        self.save(run, DUE)
        return outputs

    async def _tell(self, run: LiveRun, text: str) -> None:
        """Put into the run's story what no report of its trainer says."""
        view, attempt = run.engine.view, run.attempt
        if attempt is not None:
            notice = Noticed(attempt.id, 0, "failed", view.step if view else 0, text)
            with suppress(JournalError):
                await self.append(run, [notice])

    async def make(self, run: LiveRun, outputs: list[Output]) -> None:
        """Journal what followed from an input, then speak."""
        if not outputs:
            return
        await self.append(run, outputs)
        told = [output.decision.signal for output in outputs if _is_sent(output)]
        for output in outputs:
            run.made(output)
            if run.link is None:
                continue
            if _is_sent(output):
                run.link.decide(output.decision)
            elif isinstance(output, SignalSeen) and output.signal not in told:
                run.link.see(output.signal)
            elif isinstance(output, SnapshotProven):
                run.link.prove(output.snapshot)

    async def append(self, run: LiveRun, events: Sequence[Event]) -> None:
        """Journal what the engine is fed elsewhere, or never."""
        at = time.time()
        numbers = await self._writer.append([(run.key, at, event) for event in events])
        run.recorded = numbers[-1]
        records = [Record(n, at, event) for n, event in zip(numbers, events, strict=True)]
        for listener in self.listeners:
            try:
                listener(run.key, records)
            except Exception:  # what only looks on must not part an engine from its journal
                log.exception("run %s: somebody who looks on failed", run.key)


def _is_sent(output: Output) -> TypeGuard[Decided]:
    return isinstance(output, Decided) and output.decision.status is DecisionStatus.SENT


def _saved(key: RunKey, saving: "Future[None]") -> None:
    if (error := saving.exception()) is not None:
        log.warning("the state of run %s is not kept: %s", key, error)
