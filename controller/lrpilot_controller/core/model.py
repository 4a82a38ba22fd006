"""The words of the core as values: what a trainer reports, what a detector saw, what was decided.

Steps count executed optimizer steps from 0. Learning rates are absolute; where there is one per
param group it is a tuple in the optimizer's order.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from lrpilot_controller.core.plans import Plan, Program


class SignalKind(StrEnum):
    """What a detector can see."""

    NONFINITE = "nonfinite"
    DIVERGENCE = "divergence"
    SPIKE = "spike"
    OSCILLATION = "oscillation"
    PLATEAU = "plateau"
    TOO_LOW = "too_low"
    TOO_HIGH = "too_high"
    OVERFIT = "overfit"


class Mode(StrEnum):
    """How far LRPilot may go for a run, from the least on."""

    OFF = "off"
    OBSERVE = "observe"
    ADVISE = "advise"
    AUTO = "auto"

    def at_most(self, limit: "Mode") -> "Mode":
        """This mode, or the limit where that allows less."""
        return min(self, limit, key=list(Mode).index)

    @property
    def acts(self) -> bool:
        """Whether a decision may reach the trainer, at once or when a person approves it."""
        return self in (Mode.ADVISE, Mode.AUTO)


class RunState(StrEnum):
    """What a run is doing."""

    SEARCHING = "searching"
    TRACKING = "tracking"
    PROBATION = "probation"
    FROZEN = "frozen"
    STOPPED = "stopped"
    LOST = "lost"
    FINISHED = "finished"


class Action(StrEnum):
    """What a decision does, in one word."""

    NOTE = "note"
    CUT = "cut"
    ROLLBACK = "rollback"
    PLAN = "plan"
    PROGRAM = "program"
    RELEASE = "release"
    STOP = "stop"


class DecisionStatus(StrEnum):
    """What became of a decision."""

    PROPOSED = "proposed"
    APPROVED = "approved"
    SENT = "sent"
    APPLIED = "applied"
    EXPIRED = "expired"
    REJECTED = "rejected"
    SUPERSEDED = "superseded"
    STALE = "stale"
    SHADOW = "shadow"


@dataclass(frozen=True, slots=True)
class Signal:
    """What a detector saw: the step that completed the evidence, and the evidence in numbers.

    `since` is the step at which the condition began, as far as can be told; `severity` is 0..1.
    """

    kind: SignalKind
    step: int
    since: int
    severity: float
    evidence: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Proposal:
    """What a policy would do, about a signal or by itself.

    `factor` multiplies the LR in force, for a cut or a rollback; `plan` replaces the plan in
    force; `program` is carried out, its id still to be given; `snapshot` is restored first, and
    before that the state as it is saved where `save` says so. `who` is the person who asks for it,
    None for what LRPilot proposes by itself; `approved`: a person lets it pass in mode advise.
    `rule` is the rule's factor, where it may be tuned and is: `factor` is what was learnt, or it.
    """

    action: Action
    reason: str
    signal: Signal | None = None
    factor: float = 1.0
    snapshot: int | None = None
    plan: Plan | None = None
    program: Program | None = None
    save: bool = False
    who: str | None = None
    approved: bool = False
    rule: float | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """Which factor earlier interventions would set, asked before there is a signal to answer.

    Attributes:
        id: grows within the attempt.
        kind: the signal that is yet to come.
        rule: the factor that the rule sets, and the default where no answer comes in time.
        low: the smallest factor that may be the answer.
        high: the largest.
    """

    id: int
    kind: SignalKind
    rule: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Experiment:
    """What a policy would find out by programs before anything is changed.

    `factors` on the LR in force are tried; without any the LR is searched for, from `snapshot`.
    """

    reason: str
    signal: Signal
    factors: tuple[float, ...] = ()
    snapshot: int | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """What the guardrails let through: numbered, explained, journaled, sent, applied once.

    `who` is the person who asked for it; None where LRPilot decided. `rule` is the factor that the
    rule would have set, where factors are tuned.
    """

    id: int
    action: Action
    reason: str
    step: int
    branch: int
    signal: Signal | None = None
    not_before_step: int | None = None
    expires_at_step: int | None = None
    restore_snapshot: int | None = None
    restore_rng: bool = False
    plan: Plan | None = None
    ramp_steps: int = 0
    stop: bool = False
    release: bool = False
    factor: float = 1.0
    status: DecisionStatus = DecisionStatus.SENT
    program: Program | None = None
    save_snapshot: bool = False
    who: str | None = None
    rule: float | None = None


@dataclass(frozen=True, slots=True)
class Receipt:
    """The trainer's one answer to a decision, with the LRs that it read back."""

    decision_id: int
    status: DecisionStatus
    applied_step: int
    branch_before: int
    branch_after: int
    lrs_before: tuple[float, ...]
    lrs_after: tuple[float, ...]
    wait_seconds: float = 0.0
    detail: str = ""


class Verdict(StrEnum):
    """What a decision did to the loss."""

    IMPROVED = "improved"
    UNCHANGED = "unchanged"
    WORSE = "worse"
    ROLLED_BACK = "rolled_back"
    UNFINISHED = "unfinished"


@dataclass(frozen=True, slots=True)
class Outcome:
    """A decision measured over its probation; `gain` is relative and clipped to [-1, 1]."""

    decision_id: int
    verdict: Verdict
    gain: float
    steps: int
    loss_before: float | None = None
    loss_after: float | None = None


@dataclass(frozen=True, slots=True)
class ParamGroup:
    """A param group of the run's optimizer, as it was at attach."""

    name: str
    base_lr: float


@dataclass(frozen=True, slots=True)
class Attempt:
    """One start of the training process, and what its trainer said of itself.

    `min_lr` and `max_lr` bound the first param group's LR; `scale` is the factor on the native LR
    in force when the attempt began, and `plan` the plan (1 and None unless state was loaded). A
    plan that replaces the LR has no factor: the scale is 1 under it. `scheduled` says that the
    user's own scheduler moves the native LRs. `mode` is the one in force, which the daemon's
    configuration may have lowered; `signals` the reactions that the training code asks for.
    `last_decision` is the highest number of a decision that it has received.
    """

    id: str
    groups: tuple[ParamGroup, ...]
    min_lr: float
    max_lr: float
    optimizer: str = ""
    mode: Mode = Mode.AUTO
    search: bool = False
    start_step: int = 0
    branch: int = 0
    total_steps: int | None = None
    steps_per_epoch: int | None = None
    resumes: str | None = None
    can_snapshot: bool = False
    can_stop: bool = False
    can_program: bool = False
    can_replay: bool = False
    world_size: int = 1
    scale: float = 1.0
    job: str = ""
    client_version: str = ""
    plan: Plan | None = None
    scheduled: bool = False
    signals: Mapping[str, str] = field(default_factory=dict)
    last_decision: int = 0
