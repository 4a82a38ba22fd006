"""What goes into a run's engine and what comes out, as the journal keeps it.

Inputs are numbered in one order; feeding them again gives the same outputs. Outputs are kept
beside them so that a person can read a run's story without replaying it.
"""

from dataclasses import dataclass

from lrpilot_controller.core.findings import Known, Reach, SearchResult
from lrpilot_controller.core.model import (
    Attempt,
    Decision,
    DecisionStatus,
    Outcome,
    Question,
    Receipt,
    Signal,
)
from lrpilot_controller.core.settings import CoreSettings
from lrpilot_controller.core.telemetry import Samples, Thinned


@dataclass(frozen=True, slots=True)
class Configured:
    """What a person set for this run; in force from here on.

    Recorded before a session where it differs from what held before.
    """

    settings: CoreSettings


@dataclass(frozen=True, slots=True)
class SessionOpened:
    """An attempt's first stream, or its first one with this state."""

    attempt: Attempt


@dataclass(frozen=True, slots=True)
class SessionLost:
    """The stream of an attempt ended without a goodbye."""

    attempt: str


@dataclass(frozen=True, slots=True)
class ReceiptArrived:
    """The trainer answered a decision."""

    attempt: str
    report_seq: int
    receipt: Receipt


@dataclass(frozen=True, slots=True)
class SnapshotTaken:
    """The trainer holds the state before `step` ran; `proven` only for the start state."""

    attempt: str
    report_seq: int
    snapshot: int
    step: int
    branch: int
    proven: bool


@dataclass(frozen=True, slots=True)
class Noticed:
    """Something in the training process that a person should read of.

    One of the kind `OLDER_JOURNAL` says that another journal, or a newer state of this one, held
    what the trainer has told: the snapshot that it holds is told again after it.
    """

    attempt: str
    report_seq: int
    kind: str
    step: int
    text: str


@dataclass(frozen=True, slots=True)
class SaidGoodbye:
    """The trainer ended on purpose; `reason` is finished, stopped or error."""

    attempt: str
    report_seq: int
    reason: str
    step: int


@dataclass(frozen=True, slots=True)
class ProgramEnded:
    """The trainer carried out a program: the loss of each step, and why it ended.

    `stop_reason` is length, non_finite, loss_cap, ema_cap, ema_rise or interrupted; `branch` is
    the one that training is on now, `wait_seconds` what the boundary before the program cost.
    """

    attempt: str
    report_seq: int
    program: int
    first_step: int
    losses: tuple[float, ...]
    stop_reason: str
    branch: int
    wait_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class FellBack:
    """No word came at a program's boundary: the trainer follows its fallback from `step` on."""

    attempt: str
    report_seq: int
    program: int
    step: int
    branch: int
    reason: str
    wait_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Requested:
    """The training code asks for a search, or says that it decays over the `steps` to come.

    `kind` is search or finish; a finish leads from the plan in force to 0, in a straight line.
    """

    attempt: str
    report_seq: int
    kind: str
    step: int
    steps: int = 0


@dataclass(frozen=True, slots=True)
class Commanded:
    """A person asks for something, or says what they think of a decision.

    `kind` is search, freeze, release, set_lr, stop, approve or verdict. `lr` is what set_lr sets
    the first param group to, `decision_id` what approve approves and a verdict is of; `good` says
    which it is. No engine does anything about a verdict: the tuning learns from it.
    """

    kind: str
    who: str
    why: str
    lr: float | None = None
    decision_id: int | None = None
    good: bool | None = None


@dataclass(frozen=True, slots=True)
class PriorAnswered:
    """What earlier runs of the same job found, asked for when the session opened.

    `lr` is None where there is no such run, or no answer came in time (`reason` says which).
    `progress` is how far the programs of those runs came, see `Known`.
    """

    attempt: str
    lr: float | None
    reason: str
    progress: tuple[Reach, ...] = ()

    @property
    def known(self) -> Known | None:
        """What is to be made use of; None where there is nothing."""
        return None if self.lr is None else Known(self.lr, self.progress)


@dataclass(frozen=True, slots=True)
class Answered:
    """What earlier interventions say to a question of the attempt.

    `factor` is None where they say nothing, or not in time; then the rule decides. `reason` says on
    what it rests, or why there is none. An answer to a question that is settled is ignored.
    """

    attempt: str
    question: int
    factor: float | None
    reason: str


OLDER_JOURNAL = "older_journal"

Input = (
    Configured
    | SessionOpened
    | SessionLost
    | Samples
    | ReceiptArrived
    | SnapshotTaken
    | ProgramEnded
    | FellBack
    | Requested
    | Noticed
    | SaidGoodbye
    | Commanded
    | PriorAnswered
    | Answered
)
Report = (
    ReceiptArrived | SnapshotTaken | ProgramEnded | FellBack | Requested | Noticed | SaidGoodbye
)


@dataclass(frozen=True, slots=True)
class SignalSeen:
    """A detector's finding."""

    signal: Signal


@dataclass(frozen=True, slots=True)
class Asked:
    """The engine would know what earlier interventions say, for when it has to decide."""

    attempt: str
    question: Question


@dataclass(frozen=True, slots=True)
class Decided:
    """The guardrails let a proposal through."""

    decision: Decision


@dataclass(frozen=True, slots=True)
class Resolved:
    """What became of a decision that waited for a person: approved, superseded or expired.

    One that is approved is decided again right after this, by what is then, and sent. `who` is
    the person where one did it.
    """

    decision_id: int
    status: DecisionStatus
    who: str | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """The guardrails turned a proposal down."""

    signal: Signal
    reason: str


@dataclass(frozen=True, slots=True)
class SnapshotProven:
    """Training stayed healthy after this snapshot was taken."""

    attempt: str
    snapshot: int


@dataclass(frozen=True, slots=True)
class OutcomeMeasured:
    """A decision's probation is over."""

    outcome: Outcome


@dataclass(frozen=True, slots=True)
class SearchEnded:
    """A search is over."""

    attempt: str
    result: SearchResult


Output = (
    SignalSeen
    | Asked
    | Decided
    | Resolved
    | Refused
    | SnapshotProven
    | OutcomeMeasured
    | SearchEnded
)
Event = Input | Output | Thinned
