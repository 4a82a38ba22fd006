"""A run that this daemon serves: its engine, and the books of what went to and from its trainer."""

import asyncio
from dataclasses import replace
from typing import Protocol

from lrpilot_controller.core.engine import Engine
from lrpilot_controller.core.events import (
    Configured,
    Decided,
    Event,
    Input,
    Output,
    PriorAnswered,
    ReceiptArrived,
    Report,
    SaidGoodbye,
    SessionOpened,
)
from lrpilot_controller.core.model import Attempt, Decision, DecisionStatus, RunState, Signal
from lrpilot_controller.core.settings import CoreSettings
from lrpilot_controller.core.state import Stateful
from lrpilot_controller.core.telemetry import Samples, Thinned
from lrpilot_controller.errors import LRPilotError, RunBusy, Superseded
from lrpilot_controller.journal.base import RunKey

MAX_UNANSWERED = 100
"""Of these one is in flight, the newest; the others are notes, and what a trainer let go of."""


class Link(Protocol):
    """A session's way back to its trainer; nothing here waits."""

    def decide(self, decision: Decision) -> None:
        """Send a decision."""

    def prove(self, snapshot: int) -> None:
        """Say that a snapshot is proven."""

    def see(self, signal: Signal) -> None:
        """Say what a detector saw."""

    def end(self, error: LRPilotError) -> None:
        """End the session with this error."""


EVENT = 5
"""What it takes to read any record again, in samples that are replayed."""


class LiveRun(Stateful):
    """One run's engine, and what has been delivered to and from its trainer.

    Attributes:
        settings: what the engine was told last; None where the journal holds none.
        recorded: the number of its newest record.
        unsaved: what it would take to replay the records since its newest checkpoint, in samples.
    """

    settings: CoreSettings | None
    attempt: Attempt | None
    older: set[str]
    next_seq: int
    next_report: int
    unanswered: dict[int, Decision]
    ended: bool
    prior_asked: bool

    def __init__(self, key: RunKey, engine: Engine) -> None:
        self.key = key
        self.engine = engine
        self.settings = None
        self.lock = asyncio.Lock()
        self.attempt = None
        self.older = set()
        self.next_seq = 1
        self.next_report = 1
        self.unanswered = {}
        self.link: Link | None = None
        self.ended = False
        self.prior_asked = False
        self.recorded = 0
        self.unsaved = 0

    @property
    def doing(self) -> str:
        """In a word of its state, what a run with a trainer does."""
        view = self.engine.view
        if view is not None and view.searching:
            return RunState.SEARCHING
        return RunState.FROZEN if view is not None and view.frozen else RunState.TRACKING

    @property
    def wants_prior(self) -> bool:
        """Whether the attempt is to be told what earlier runs found, before it does anything.

        Only an attempt that may search from its first step on, and only once.
        """
        attempt = self.attempt
        return (
            attempt is not None
            and attempt.search
            and attempt.resumes is None
            and attempt.mode.acts
            and not self.prior_asked
            and self.next_seq == self.next_report == 1
        )

    def over(self, attempt: Attempt) -> bool:
        """Whether it said goodbye: a session of it then only asks whether that was heard."""
        return self.ended and self._mine(attempt.id)

    def take(self, event: Input) -> list[Output]:
        """Feed an input that the journal holds, and keep the books of what was delivered."""
        self._book(event)
        return self.engine.feed(event)

    def recall(self, event: Event) -> None:
        """Follow a record of a run of which not all telemetry is left."""
        self._book(event)
        if isinstance(event, Output):
            self.made(event)
        self.engine.recall(event)

    def _book(self, event: Event) -> None:
        self.unsaved += EVENT
        match event:
            case Configured(settings):
                self.settings = settings
            case SessionOpened(attempt):
                self._begin(attempt)
            case Samples() if self._mine(event.attempt):
                self.unsaved += len(event.step)
                self.next_seq = max(self.next_seq, event.next_seq)
            case PriorAnswered() if self._mine(event.attempt):
                self.prior_asked = True
            case Thinned() if self._mine(event.attempt):
                self.next_seq = max(self.next_seq, event.next_seq)
            case _ if isinstance(event, Report) and self._mine(event.attempt):
                self._report(event)

    def made(self, output: Output) -> None:
        """Keep the books of an output that the journal holds."""
        if isinstance(output, Decided) and output.decision.status is DecisionStatus.SENT:
            self.unanswered[output.decision.id] = output.decision
            if len(self.unanswered) > MAX_UNANSWERED:
                self.unanswered.pop(next(iter(self.unanswered)))

    def _mine(self, attempt: str) -> bool:
        return self.attempt is not None and self.attempt.id == attempt

    def _begin(self, attempt: Attempt) -> None:
        if not self._mine(attempt.id):
            if self.attempt is not None:
                self.older.add(self.attempt.id)
            self.next_seq = self.next_report = 1
            self.prior_asked = False
            self.unanswered.clear()
        self.attempt, self.ended = attempt, False

    def _report(self, event: Report) -> None:
        self.next_report = max(self.next_report, event.report_seq + 1)
        if isinstance(event, ReceiptArrived):
            self.unanswered.pop(event.receipt.decision_id, None)
        self.ended = isinstance(event, SaidGoodbye)


def admit(run: LiveRun, attempt: Attempt) -> None:
    """Say no to an attempt that may not have the run.

    Raises:
        RunBusy: another attempt has a live session, and this one does not resume it.
        Superseded: a newer attempt has taken over.
    """
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


def newer(samples: Samples, next_seq: int) -> Samples | None:
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
