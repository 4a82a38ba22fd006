"""What this daemon has done so far, as plain numbers; `server/metrics.py` makes metrics of them."""

import time
from collections import Counter
from collections.abc import Sequence

from lrpilot_controller.buckets import Buckets
from lrpilot_controller.core.events import (
    Decided,
    Input,
    OutcomeMeasured,
    ReceiptArrived,
    Refused,
    Report,
    SaidGoodbye,
    SessionLost,
    SignalSeen,
)
from lrpilot_controller.core.model import Action, DecisionStatus
from lrpilot_controller.core.telemetry import Samples
from lrpilot_controller.journal.base import Record, RunKey


class Tally:
    """Counts from the start of the daemon. Written on the event loop, read by any thread.

    Attributes:
        samples: train losses and validations that were journaled.
        batches: messages that they came in.
        reports: messages of the trainer other than telemetry.
        acks: seconds from a message's arrival until it may be acknowledged.
        decisions_made: seconds from the arrival of what led to a decision until it is journaled.
        signals: by kind.
        decided: by action, and what the mode made of it (sent, proposed, shadow).
        answered: trainers' receipts, by status.
        refused: proposals that the guardrails turned down, by signal.
        outcomes: by verdict.
        rollbacks: that trainers carried out.
        sessions_refused: by status code.
    """

    def __init__(self) -> None:
        self.samples = self.batches = self.reports = self.rollbacks = 0
        self.acks, self.decisions_made = Buckets(), Buckets()
        self.signals: Counter[str] = Counter()
        self.decided: Counter[tuple[str, str]] = Counter()
        self.answered: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.outcomes: Counter[str] = Counter()
        self.sessions_refused: Counter[str] = Counter()
        self._since: dict[RunKey, float] = {}
        self._rolling_back: dict[RunKey, int] = {}  # a run has one decision on its way

    def record(self, run: RunKey, records: Sequence[Record]) -> None:
        """Count what was journaled; returns at once."""
        for record in records:
            event = record.event
            if isinstance(event, Samples):
                self.samples += len(event.step)
                self.batches += 1
                self._since[run] = record.at
            elif isinstance(event, Input):
                self._since[run] = record.at
                self._input(run, event)
            else:
                self._output(run, event)

    def _input(self, run: RunKey, event: Input) -> None:
        if isinstance(event, Report):
            self.reports += 1
        if isinstance(event, ReceiptArrived):
            receipt = event.receipt
            self.answered[receipt.status] += 1
            mine = self._rolling_back.get(run) == receipt.decision_id
            if mine and receipt.status is DecisionStatus.APPLIED:
                self.rollbacks += 1
                del self._rolling_back[run]
        elif isinstance(event, SessionLost | SaidGoodbye):
            self._since.pop(run, None)
            self._rolling_back.pop(run, None)

    def _output(self, run: RunKey, event: object) -> None:
        match event:
            case SignalSeen(signal):
                self.signals[signal.kind] += 1
            case Decided(decision):
                self.decided[decision.action, decision.status] += 1
                if (since := self._since.get(run)) is not None:
                    self.decisions_made.add(max(0.0, time.time() - since))
                if decision.action is Action.ROLLBACK:
                    self._rolling_back[run] = decision.id
            case Refused(signal):
                self.refused[signal.kind] += 1
            case OutcomeMeasured(outcome):
                self.outcomes[outcome.verdict] += 1
