"""The words of the core as values: what a trainer reports, what a detector saw, what was decided.

Steps count executed optimizer steps from 0. Learning rates are absolute; where there is one per
param group it is a tuple in the optimizer's order.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum


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
    """How far LRPilot may go for a run."""

    OFF = "off"
    OBSERVE = "observe"
    ADVISE = "advise"
    AUTO = "auto"


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


class PlanKind(StrEnum):
    """How a plan's values are meant: a factor on the native LR, or the LR of the first group."""

    SCALE = "scale"
    REPLACE = "replace"


class Shape(StrEnum):
    """The curve of a segment between its start and end value."""

    CONSTANT = "constant"
    LINEAR = "linear"
    COSINE = "cosine"
    ONE_MINUS_SQRT = "one_minus_sqrt"
    EXPONENTIAL = "exponential"
    STEP = "step"
    CYCLICAL = "cyclical"


class Batches(StrEnum):
    """What a program trains on: new batches, or those that every program of a search replays."""

    FRESH = "fresh"
    REPLAYED = "replayed"


@dataclass(frozen=True, slots=True)
class Segment:
    """One closed-form piece of a plan over the steps [start, end).

    `count` is the number of stairs or cycles, for the shapes that have them.
    """

    shape: Shape
    start: int
    end: int
    start_value: float
    end_value: float
    count: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """Segments in order; the last one holds its end value for ever."""

    kind: PlanKind
    segments: tuple[Segment, ...]

    @classmethod
    def scale(cls, factor: float, start: int) -> "Plan":
        """A constant factor on the native LR from `start` on."""
        segment = Segment(Shape.CONSTANT, start, start + 1, factor, factor)
        return cls(PlanKind.SCALE, (segment,))

    def times(self, factor: float) -> "Plan":
        """The same curve, every value multiplied."""
        return replace(
            self,
            segments=tuple(
                replace(s, start_value=s.start_value * factor, end_value=s.end_value * factor)
                for s in self.segments
            ),
        )

    @property
    def end_value(self) -> float:
        """The value that the plan comes to rest at."""
        return self.segments[-1].end_value


@dataclass(frozen=True, slots=True)
class StopRule:
    """When a program ends before its length is run: a non-finite loss is above every cap.

    `loss_cap` bounds each loss, `ema_cap` the moving average with weight `ema_decay` of the past,
    `ema_rise` how far that average may be above its own lowest value.
    """

    non_finite: bool = True
    loss_cap: float | None = None
    ema_cap: float | None = None
    ema_decay: float = 0.0
    ema_rise: float | None = None


@dataclass(frozen=True, slots=True)
class Program:
    """A probe that the trainer carries out by itself.

    `id` is the id of the decision that brings it. The segments count from its first step and hold
    LRs of the first param group. `phase`, `lr` (the candidate) and `share` (of the search's budget
    that is spent so far, 0..1) are for people.
    """

    id: int
    segments: tuple[Segment, ...]
    length: int
    fallback: Plan
    stop: StopRule = StopRule()
    restore_snapshot: int | None = None
    restore_at_end: bool = False
    batches: Batches = Batches.FRESH
    fallback_snapshot: int | None = None
    phase: str = ""
    lr: float = 0.0
    share: float = 0.0


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
    before that the state as it is saved where `save` says so.
    """

    action: Action
    reason: str
    signal: Signal | None = None
    factor: float = 1.0
    snapshot: int | None = None
    plan: Plan | None = None
    program: Program | None = None
    save: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """What the guardrails let through: numbered, explained, journaled, sent, applied once."""

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
    user's own scheduler moves the native LRs.
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


class SearchEnd(StrEnum):
    """How a search ended."""

    FOUND = "found"
    REUSED = "reused"  # what an earlier run of the same job had found
    DECLINED = "declined"  # nothing could be told apart from noise: the native LR stands
    FELL_BACK = "fell_back"  # the trainer heard no word in time and follows a fallback
    ABANDONED = "abandoned"  # the attempt ended, or a person froze the run


@dataclass(frozen=True, slots=True)
class Candidate:
    """One LR that a search tried: its program's score, a mean loss; infinite if it diverged."""

    lr: float
    score: float
    steps: int


@dataclass(frozen=True, slots=True)
class Sweep:
    """A range test: loss at each LR, as an LR finder draws it."""

    lrs: tuple[float, ...]
    losses: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class SearchResult:
    """What a search found and what it cost.

    `lr` is the LR that the run goes on at (the native one where nothing was found); `steps` is
    what all its programs ran; `reference` the loss before any training.
    """

    end: SearchEnd
    lr: float
    steps: int
    reason: str
    reference: float | None = None
    candidates: tuple[Candidate, ...] = ()
    sweep: Sweep | None = None
