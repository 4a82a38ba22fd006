"""A run's decisions, each with all that the journal knows of it: what becomes a trial."""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from lrpilot_controller.core.events import (
    Commanded,
    Decided,
    OutcomeMeasured,
    ReceiptArrived,
    Resolved,
    SaidGoodbye,
    SearchEnded,
    SessionLost,
    SessionOpened,
    SnapshotTaken,
)
from lrpilot_controller.core.model import (
    Action,
    Attempt,
    Decision,
    DecisionStatus,
    Outcome,
    Receipt,
    Verdict,
)
from lrpilot_controller.core.probation import DECAY
from lrpilot_controller.core.telemetry import Samples
from lrpilot_controller.journal.base import Journal, Reader, Record, RunKey
from lrpilot_controller.tuning.entries import thinned

CHANGING = (Action.CUT, Action.ROLLBACK, Action.STOP)
"""A trial is a decision that changes something; a note is not one."""

CURVE_POINTS = 10
# A run whose session was lost that long ago does not come back to answer a decision.
ABANDONED_S = 24 * 3600.0

_KINDS = (
    SessionOpened,
    SessionLost,
    SaidGoodbye,
    SnapshotTaken,
    Decided,
    Resolved,
    ReceiptArrived,
    OutcomeMeasured,
    Commanded,
)
NEWS = (
    SessionOpened,
    SessionLost,
    Decided,
    Commanded,
    SaidGoodbye,
    Resolved,
    ReceiptArrived,
    OutcomeMeasured,
    SearchEnded,
)
BEFORE_ANY = 2
"""A new run's settings and first session: a thousand runs that begin at once are no news."""
_UNDONE = (
    DecisionStatus.EXPIRED,
    DecisionStatus.REJECTED,
    DecisionStatus.SUPERSEDED,
    DecisionStatus.STALE,
    DecisionStatus.SHADOW,
)


class End(StrEnum):
    """How a decision stands, as the trial's attribute `outcome` tells it."""

    PENDING = "pending"
    ON_PROBATION = "on_probation"
    UNANSWERED = "unanswered"
    UNFINISHED = "unfinished"
    STOPPED = "stopped"


@dataclass(slots=True)
class Case:
    """A decision with everything that followed from it.

    Attributes:
        attempt: The attempt that it was made for; None in a journal that never saw one open.
        over: Nobody will answer it any more, nor finish its probation.
        undone_steps: Steps that its rollback threw away.
        receipt_n: The number of the receipt's record; telemetry of the probation comes after it.
        judged: What a person said of it last; None where nobody did.
    """

    run: RunKey
    decision: Decision
    attempt: Attempt | None
    decided_at: float
    status: DecisionStatus
    receipt: Receipt | None = None
    receipt_n: int = 0
    outcome: Outcome | None = None
    outcome_n: int = 0
    ended_at: float | None = None
    over: bool = False
    undone_steps: int = 0
    judged: Commanded | None = None

    @property
    def identity(self) -> tuple[str, str, int]:
        """What makes it the same decision, also in a review copy that outlived its journal."""
        return str(self.run), self.attempt.id if self.attempt else "", self.decision.id

    @property
    def end(self) -> str:
        """How it stands: a verdict, a status, or one of `End`."""
        if self.status in _UNDONE:
            return self.status.value
        if self.outcome is not None:
            return self.outcome.verdict.value
        applied = self.status is DecisionStatus.APPLIED
        if applied and self.decision.stop:
            return End.STOPPED
        if self.over or (applied and self.decision.plan is None):
            return End.UNFINISHED if applied else End.UNANSWERED
        return End.ON_PROBATION if applied else End.PENDING

    @property
    def pending(self) -> bool:
        """Whether more may come."""
        return self.end in (End.PENDING, End.ON_PROBATION)

    @property
    def gain(self) -> float | None:
        """What it brought; None where nothing was learnt."""
        if self.outcome is None or self.status in _UNDONE:
            return None
        if self.outcome.verdict is Verdict.UNFINISHED or not math.isfinite(self.outcome.gain):
            return None
        return self.outcome.gain

    @property
    def good(self) -> bool | None:
        """Whether a person found it good; None where nobody has said."""
        return self.judged.good if self.judged else None


def is_news(record: Record) -> bool:
    """Whether a record can change what is told of a decision or a search."""
    event = record.event
    if isinstance(event, Decided):
        return event.decision.action in CHANGING
    if isinstance(event, Commanded):
        return event.kind == "verdict"
    if isinstance(event, SessionOpened) and record.n <= BEFORE_ANY:
        return False
    return isinstance(event, NEWS)


def read_cases(journal: Reader, run: RunKey, now: float | None = None) -> list[Case]:
    """Every decision of a run that changes something, in order.

    Args:
        journal: Where they are recorded; telemetry is not touched.
        run: Whose decisions.
        now: Wall clock in unix seconds, to tell an abandoned run; the real one unless given.

    Raises:
        JournalError: The journal cannot be read.
    """
    fold = _Fold(run)
    for record in journal.records(run, kinds=_KINDS):
        fold.feed(record)
    return fold.cases(time.time() if now is None else now)


def probation_curve(journal: Journal, case: Case) -> dict[int, float]:
    """The smoothed train loss over a finished probation, by steps since it began, downsampled.

    Raises:
        JournalError: The journal cannot be read.
    """
    if case.receipt is None or case.gain is None:
        return {}
    start = case.receipt.applied_step
    mean, smooth = math.nan, dict[int, float]()
    for step, loss in _losses(journal, case):
        mean = loss if math.isnan(mean) else DECAY * mean + (1 - DECAY) * loss
        smooth[step - start] = mean
    return thinned(smooth, CURVE_POINTS)


def _losses(journal: Journal, case: Case) -> Iterator[tuple[int, float]]:
    """The train losses that the probation saw."""
    receipt = case.receipt
    assert receipt is not None
    for record in journal.records(case.run, after=case.receipt_n, kinds=[Samples]):
        if record.n > case.outcome_n:
            return
        samples = record.event
        if not isinstance(samples, Samples) or (
            case.attempt is not None and samples.attempt != case.attempt.id
        ):
            continue
        for i, (step, loss) in enumerate(zip(samples.step, samples.loss, strict=True)):
            ours = samples.branch[i] == receipt.branch_after and step >= receipt.applied_step
            seen = not samples.program[i] and not samples.validation[i] and math.isfinite(loss)
            if ours and seen:
                yield step, loss


@dataclass(slots=True)
class _Fold:
    """A run's records so far."""

    run: RunKey
    attempt: Attempt | None = None
    ended: bool = False
    lost_at: float | None = None
    snapshots: dict[tuple[str, int], int] = field(default_factory=dict)
    undone_until: dict[str, int] = field(default_factory=dict)
    found: dict[int, Case] = field(default_factory=dict)

    def feed(self, record: Record) -> None:
        match record.event:
            case SessionOpened(attempt):
                self.attempt, self.ended, self.lost_at = attempt, False, None
            case SessionLost(attempt) if self._current(attempt):
                self.lost_at = record.at
            case SaidGoodbye(attempt) if self._current(attempt):
                self.ended = True
            case SnapshotTaken() as taken:
                self.snapshots[taken.attempt, taken.snapshot] = taken.step
            case Decided(decision) if decision.action in CHANGING:
                self._decided(decision, record.at)
            case Resolved() as resolved:
                self._resolved(resolved, record.at)
            case ReceiptArrived(attempt, _, receipt):
                self._answered(attempt, receipt, record)
            case OutcomeMeasured(outcome):
                self._measured(outcome, record)
            case Commanded(kind="verdict") as judged:
                if (case := self.found.get(judged.decision_id or 0)) is not None:
                    case.judged = judged
            case _:
                pass

    def cases(self, now: float) -> list[Case]:
        gone = self.ended or (self.lost_at is not None and now - self.lost_at > ABANDONED_S)
        for case in self.found.values():
            case.over = gone or not (case.attempt and self._current(case.attempt.id))
        return list(self.found.values())

    def _current(self, attempt: str) -> bool:
        return self.attempt is not None and self.attempt.id == attempt

    def _decided(self, decision: Decision, at: float) -> None:
        if (known := self.found.get(decision.id)) is not None:  # decided anew when approved
            known.decision, known.status = decision, decision.status
        else:
            case = Case(self.run, decision, self.attempt, at, decision.status)
            case.ended_at = at if decision.status in _UNDONE else None
            self.found[decision.id] = case

    def _resolved(self, resolved: Resolved, at: float) -> None:
        """A person approved it, or nobody did in time."""
        case = self.found.get(resolved.decision_id)
        if case is not None:
            case.status = resolved.status
            case.ended_at = at if resolved.status in _UNDONE else None

    def _answered(self, attempt: str, receipt: Receipt, record: Record) -> None:
        case = self.found.get(receipt.decision_id)
        if case is None or case.receipt is not None:
            return
        case.receipt, case.receipt_n, case.status = receipt, record.n, receipt.status
        case.ended_at = record.at
        restored = case.decision.restore_snapshot
        if receipt.status is DecisionStatus.APPLIED and restored is not None:
            # Of the steps since the snapshot, an earlier rollback has undone some already.
            since = self.snapshots.get((attempt, restored), receipt.applied_step)
            since = max(since, self.undone_until.get(attempt, 0))
            case.undone_steps = max(receipt.applied_step - since, 0)
            self.undone_until[attempt] = receipt.applied_step

    def _measured(self, outcome: Outcome, record: Record) -> None:
        case = self.found.get(outcome.decision_id)
        if case is not None and case.outcome is None:
            case.outcome, case.outcome_n, case.ended_at = outcome, record.n, record.at
