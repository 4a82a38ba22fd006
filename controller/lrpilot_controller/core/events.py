"""What goes into a run's engine and what comes out, as the journal keeps it.

Inputs are numbered in one order; feeding them again gives the same outputs. Outputs are kept
beside them so that a person can read a run's story without replaying it.
"""

from dataclasses import dataclass

from lrpilot_controller.core.model import Attempt, Decision, Outcome, Receipt, Signal


@dataclass(frozen=True, slots=True)
class SessionOpened:
    """An attempt's first stream, or its first one with this state."""

    attempt: Attempt


@dataclass(frozen=True, slots=True)
class SessionLost:
    """The stream of an attempt ended without a goodbye."""

    attempt: str


@dataclass(frozen=True, slots=True)
class Samples:
    """Consecutive telemetry items as columns of one length.

    `validation` marks the rows that hold a validation loss. `lrs` holds one row of LRs per item,
    or a single row that holds for all of them. `dropped` is the attempt's total so far.
    """

    attempt: str
    first_seq: int
    validation: tuple[bool, ...]
    step: tuple[int, ...]
    branch: tuple[int, ...]
    program: tuple[int, ...]
    loss: tuple[float, ...]
    lrs: tuple[tuple[float, ...], ...]
    dropped: int = 0

    @property
    def next_seq(self) -> int:
        """The number of the item after the last one."""
        return self.first_seq + len(self.step)


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
    """Something in the training process that a person should read of."""

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


Input = (
    SessionOpened | SessionLost | Samples | ReceiptArrived | SnapshotTaken | Noticed | SaidGoodbye
)
Report = ReceiptArrived | SnapshotTaken | Noticed | SaidGoodbye


@dataclass(frozen=True, slots=True)
class SignalSeen:
    """A detector's finding."""

    signal: Signal


@dataclass(frozen=True, slots=True)
class Decided:
    """The guardrails let a proposal through."""

    decision: Decision


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


Output = SignalSeen | Decided | Refused | SnapshotProven | OutcomeMeasured
Event = Input | Output
