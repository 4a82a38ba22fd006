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
from typing import Any, Protocol

from lrpilot_controller.core.engine import Engine
from lrpilot_controller.core.events import (
    Decided,
    Event,
    Input,
    Noticed,
    Output,
    ReceiptArrived,
    Report,
    SaidGoodbye,
    Samples,
    SessionLost,
    SessionOpened,
    SnapshotProven,
    SnapshotTaken,
)
from lrpilot_controller.core.model import Attempt, Decision, DecisionStatus
from lrpilot_controller.core.settings import CoreSettings
from lrpilot_controller.errors import JournalError, LRPilotError, RunBusy, Superseded
from lrpilot_controller.journal.base import Journal, Record, RunKey
from lrpilot_controller.journal.writer import JournalWriter

log = logging.getLogger(__name__)

Listener = Callable[[RunKey, Sequence[Record]], None]


class Link(Protocol):
    """A session's way back to its trainer; nothing here waits."""

    def decide(self, decision: Decision) -> None:
        """Send a decision."""

    def prove(self, snapshot: int) -> None:
        """Say that a snapshot is proven."""

    def end(self, error: LRPilotError) -> None:
        """End the session with this error."""


class LiveRun:
    """One run's engine, and what has been delivered to and from its trainer."""

    def __init__(self, key: RunKey, engine: Engine) -> None:
        self.key = key
        self.engine = engine
        self.lock = asyncio.Lock()
        self.attempt: Attempt | None = None
        self.older: set[str] = set()
        self.next_seq = 1
        self.next_report = 1
        self.unanswered: dict[int, Decision] = {}
        self.link: Link | None = None
        self.ended = False

    def take(self, event: Input) -> list[Output]:
        """Feed an input that the journal holds, and keep the books of what was delivered."""
        match event:
            case SessionOpened(attempt):
                self._begin(attempt)
            case SessionLost():
                pass
            case Samples() if self._mine(event.attempt):
                self.next_seq = max(self.next_seq, event.next_seq)
            case ReceiptArrived() | SnapshotTaken() | Noticed() | SaidGoodbye() if self._mine(
                event.attempt
            ):
                self._report(event)
        return self.engine.feed(event)

    def made(self, output: Output) -> None:
        """Keep the books of an output that the journal holds."""
        if isinstance(output, Decided) and output.decision.status is DecisionStatus.SENT:
            self.unanswered[output.decision.id] = output.decision

    def _mine(self, attempt: str) -> bool:
        return self.attempt is not None and self.attempt.id == attempt

    def _begin(self, attempt: Attempt) -> None:
        if not self._mine(attempt.id):
            if self.attempt is not None:
                self.older.add(self.attempt.id)
            self.next_seq = self.next_report = 1
            self.unanswered.clear()
        self.attempt, self.ended = attempt, False

    def _report(self, event: Report) -> None:
        self.next_report = max(self.next_report, event.report_seq + 1)
        if isinstance(event, ReceiptArrived):
            self.unanswered.pop(event.receipt.decision_id, None)
        self.ended = isinstance(event, SaidGoodbye)


class Runs:
    """Loads runs, opens and closes their sessions, and records before it speaks."""

    def __init__(self, journal: Journal, writer: JournalWriter, settings: CoreSettings) -> None:
        self._journal = journal
        self._writer = writer
        self._settings = settings
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
            JournalError: the run cannot be loaded or recorded now.
        """
        run = await self._load(key)
        try:
            await _to_its_end(self._open(run, attempt, link))
        except BaseException:
            await self.close(run, link)
            raise
        return run

    async def _open(self, run: LiveRun, attempt: Attempt, link: Link) -> None:
        async with run.lock:
            _admit(run, attempt)
            await self._record(run, SessionOpened(attempt))
            if run.link is not None:
                text = f"a newer session of run {run.key} took over from this one"
                run.link.end(Superseded(text))
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
            JournalError: it could not be recorded, and must not be acknowledged.
        """
        await _to_its_end(self._take(run, link, event))

    async def _take(self, run: LiveRun, link: Link, event: Samples | Report) -> None:
        async with run.lock:
            if run.link is not link:
                raise Superseded(f"a newer session of run {run.key} took over from this one")
            if isinstance(event, Samples):
                if fresh := _newer(event, run.next_seq):
                    await self._record(run, fresh)
            elif event.report_seq >= run.next_report:
                await self._record(run, event)

    async def mark_lost(self) -> None:
        """Record as lost the sessions that an earlier daemon did not live to see the end of.

        A trainer that is still there opens its session anew within seconds.
        """
        for key, attempt in await asyncio.to_thread(self._left_open):
            entry = (key, time.time(), SessionLost(attempt))
            await asyncio.wrap_future(self._writer.submit([entry]))

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
        run = LiveRun(key, Engine(self._settings))
        produced: list[Output] = []
        recorded: list[Output] = []
        for record in self._journal.records(key):
            if isinstance(record.event, Input):
                produced += run.take(record.event)
            else:
                recorded.append(record.event)
                run.made(record.event)
        if produced[: len(recorded)] != recorded:
            # Another version of the core, or other settings, wrote it: the record stands.
            log.warning("run %s: replay differs from the journal; the journal stands", key)
            run.engine.skip_decisions(
                max((o.decision.id for o in recorded if isinstance(o, Decided)), default=0)
            )
            return run, []
        return run, produced[len(recorded) :]

    async def _record(self, run: LiveRun, event: Input) -> None:
        """Journal an input, feed it, journal what follows, then speak."""
        await self._append(run, [event])
        try:
            await self._make(run, run.take(event))
        except JournalError:
            # The engine knows more than the journal does: load it afresh next time.
            self._live.pop(run.key, None)
            raise

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
        numbers = await asyncio.wrap_future(
            self._writer.submit([(run.key, at, event) for event in events])
        )
        records = [Record(n, at, event) for n, event in zip(numbers, events, strict=True)]
        for listener in self.listeners:
            listener(run.key, records)


async def _to_its_end(work: Coroutine[Any, Any, None]) -> None:
    """Do all of `work` even if the session that wants it is cut off meanwhile.

    What the journal holds and what the engine was fed must never part: the trainer would send
    again what it has no acknowledgement for, and the journal would hold it twice.
    """
    task = asyncio.create_task(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        task.add_done_callback(_look_at)
        raise


def _look_at(task: "asyncio.Task[None]") -> None:
    """The session that wanted the work is gone: there is nobody else to hear of its failure."""
    error = None if task.cancelled() else task.exception()
    if error is not None:
        log.info("the work of a session that was cut off failed: %s", error)


def _admit(run: LiveRun, attempt: Attempt) -> None:
    current = run.attempt
    if current is None or current.id == attempt.id:
        return
    if attempt.id in run.older:
        raise Superseded(
            f"attempt {attempt.id} of run {run.key} was superseded by attempt {current.id}"
        )
    if run.link is not None and attempt.resumes not in {current.id, *run.older}:
        raise RunBusy(
            f"run {run.key} has a live session of another attempt ({current.id}): choose another "
            "run name, or load that run's state to take over from it"
        )


def _newer(samples: Samples, next_seq: int) -> Samples | None:
    """The part of `samples` from `next_seq` on, if any."""
    skip = next_seq - samples.first_seq
    if skip <= 0:
        return samples
    if skip >= len(samples.step):
        return None
    return replace(
        samples,
        first_seq=next_seq,
        validation=samples.validation[skip:],
        step=samples.step[skip:],
        branch=samples.branch[skip:],
        program=samples.program[skip:],
        loss=samples.loss[skip:],
        lrs=samples.lrs if len(samples.lrs) == 1 else samples.lrs[skip:],
    )
