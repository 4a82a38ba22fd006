from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Mode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MODE_UNSPECIFIED: _ClassVar[Mode]
    MODE_OFF: _ClassVar[Mode]
    MODE_OBSERVE: _ClassVar[Mode]
    MODE_ADVISE: _ClassVar[Mode]
    MODE_AUTO: _ClassVar[Mode]

class RunState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RUN_STATE_UNSPECIFIED: _ClassVar[RunState]
    RUN_STATE_SEARCHING: _ClassVar[RunState]
    RUN_STATE_TRACKING: _ClassVar[RunState]
    RUN_STATE_PROBATION: _ClassVar[RunState]
    RUN_STATE_FROZEN: _ClassVar[RunState]
    RUN_STATE_STOPPED: _ClassVar[RunState]
    RUN_STATE_LOST: _ClassVar[RunState]
    RUN_STATE_FINISHED: _ClassVar[RunState]

class PlanKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PLAN_KIND_UNSPECIFIED: _ClassVar[PlanKind]
    PLAN_KIND_SCALE: _ClassVar[PlanKind]
    PLAN_KIND_REPLACE: _ClassVar[PlanKind]

class Shape(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SHAPE_UNSPECIFIED: _ClassVar[Shape]
    SHAPE_CONSTANT: _ClassVar[Shape]
    SHAPE_LINEAR: _ClassVar[Shape]
    SHAPE_COSINE: _ClassVar[Shape]
    SHAPE_ONE_MINUS_SQRT: _ClassVar[Shape]
    SHAPE_EXPONENTIAL: _ClassVar[Shape]
    SHAPE_STEP: _ClassVar[Shape]
    SHAPE_CYCLICAL: _ClassVar[Shape]

class Batches(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    BATCHES_UNSPECIFIED: _ClassVar[Batches]
    BATCHES_FRESH: _ClassVar[Batches]
    BATCHES_REPLAYED: _ClassVar[Batches]

class Action(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ACTION_UNSPECIFIED: _ClassVar[Action]
    ACTION_NOTE: _ClassVar[Action]
    ACTION_CUT: _ClassVar[Action]
    ACTION_ROLLBACK: _ClassVar[Action]
    ACTION_PLAN: _ClassVar[Action]
    ACTION_PROGRAM: _ClassVar[Action]
    ACTION_RELEASE: _ClassVar[Action]
    ACTION_STOP: _ClassVar[Action]

class DecisionStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DECISION_STATUS_UNSPECIFIED: _ClassVar[DecisionStatus]
    DECISION_STATUS_PROPOSED: _ClassVar[DecisionStatus]
    DECISION_STATUS_APPROVED: _ClassVar[DecisionStatus]
    DECISION_STATUS_SENT: _ClassVar[DecisionStatus]
    DECISION_STATUS_APPLIED: _ClassVar[DecisionStatus]
    DECISION_STATUS_EXPIRED: _ClassVar[DecisionStatus]
    DECISION_STATUS_REJECTED: _ClassVar[DecisionStatus]
    DECISION_STATUS_SUPERSEDED: _ClassVar[DecisionStatus]
    DECISION_STATUS_STALE: _ClassVar[DecisionStatus]
    DECISION_STATUS_SHADOW: _ClassVar[DecisionStatus]
MODE_UNSPECIFIED: Mode
MODE_OFF: Mode
MODE_OBSERVE: Mode
MODE_ADVISE: Mode
MODE_AUTO: Mode
RUN_STATE_UNSPECIFIED: RunState
RUN_STATE_SEARCHING: RunState
RUN_STATE_TRACKING: RunState
RUN_STATE_PROBATION: RunState
RUN_STATE_FROZEN: RunState
RUN_STATE_STOPPED: RunState
RUN_STATE_LOST: RunState
RUN_STATE_FINISHED: RunState
PLAN_KIND_UNSPECIFIED: PlanKind
PLAN_KIND_SCALE: PlanKind
PLAN_KIND_REPLACE: PlanKind
SHAPE_UNSPECIFIED: Shape
SHAPE_CONSTANT: Shape
SHAPE_LINEAR: Shape
SHAPE_COSINE: Shape
SHAPE_ONE_MINUS_SQRT: Shape
SHAPE_EXPONENTIAL: Shape
SHAPE_STEP: Shape
SHAPE_CYCLICAL: Shape
BATCHES_UNSPECIFIED: Batches
BATCHES_FRESH: Batches
BATCHES_REPLAYED: Batches
ACTION_UNSPECIFIED: Action
ACTION_NOTE: Action
ACTION_CUT: Action
ACTION_ROLLBACK: Action
ACTION_PLAN: Action
ACTION_PROGRAM: Action
ACTION_RELEASE: Action
ACTION_STOP: Action
DECISION_STATUS_UNSPECIFIED: DecisionStatus
DECISION_STATUS_PROPOSED: DecisionStatus
DECISION_STATUS_APPROVED: DecisionStatus
DECISION_STATUS_SENT: DecisionStatus
DECISION_STATUS_APPLIED: DecisionStatus
DECISION_STATUS_EXPIRED: DecisionStatus
DECISION_STATUS_REJECTED: DecisionStatus
DECISION_STATUS_SUPERSEDED: DecisionStatus
DECISION_STATUS_STALE: DecisionStatus
DECISION_STATUS_SHADOW: DecisionStatus

class RunName(_message.Message):
    __slots__ = ("project", "name")
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    project: str
    name: str
    def __init__(self, project: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...

class Signal(_message.Message):
    __slots__ = ("kind", "step", "since", "severity", "evidence")
    class EvidenceEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    KIND_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    SEVERITY_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    kind: str
    step: int
    since: int
    severity: float
    evidence: _containers.ScalarMap[str, float]
    def __init__(self, kind: _Optional[str] = ..., step: _Optional[int] = ..., since: _Optional[int] = ..., severity: _Optional[float] = ..., evidence: _Optional[_Mapping[str, float]] = ...) -> None: ...

class Segment(_message.Message):
    __slots__ = ("shape", "start", "end", "start_value", "end_value", "count")
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    START_VALUE_FIELD_NUMBER: _ClassVar[int]
    END_VALUE_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    shape: Shape
    start: int
    end: int
    start_value: float
    end_value: float
    count: int
    def __init__(self, shape: _Optional[_Union[Shape, str]] = ..., start: _Optional[int] = ..., end: _Optional[int] = ..., start_value: _Optional[float] = ..., end_value: _Optional[float] = ..., count: _Optional[int] = ...) -> None: ...

class Plan(_message.Message):
    __slots__ = ("kind", "segments")
    KIND_FIELD_NUMBER: _ClassVar[int]
    SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    kind: PlanKind
    segments: _containers.RepeatedCompositeFieldContainer[Segment]
    def __init__(self, kind: _Optional[_Union[PlanKind, str]] = ..., segments: _Optional[_Iterable[_Union[Segment, _Mapping]]] = ...) -> None: ...

class StopRule(_message.Message):
    __slots__ = ("non_finite", "loss_cap", "ema_cap", "ema_decay", "ema_rise")
    NON_FINITE_FIELD_NUMBER: _ClassVar[int]
    LOSS_CAP_FIELD_NUMBER: _ClassVar[int]
    EMA_CAP_FIELD_NUMBER: _ClassVar[int]
    EMA_DECAY_FIELD_NUMBER: _ClassVar[int]
    EMA_RISE_FIELD_NUMBER: _ClassVar[int]
    non_finite: bool
    loss_cap: float
    ema_cap: float
    ema_decay: float
    ema_rise: float
    def __init__(self, non_finite: bool = ..., loss_cap: _Optional[float] = ..., ema_cap: _Optional[float] = ..., ema_decay: _Optional[float] = ..., ema_rise: _Optional[float] = ...) -> None: ...

class Program(_message.Message):
    __slots__ = ("id", "restore_snapshot", "segments", "length", "stop", "restore_at_end", "batches", "fallback", "fallback_snapshot", "phase", "lr", "share")
    ID_FIELD_NUMBER: _ClassVar[int]
    RESTORE_SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    RESTORE_AT_END_FIELD_NUMBER: _ClassVar[int]
    BATCHES_FIELD_NUMBER: _ClassVar[int]
    FALLBACK_FIELD_NUMBER: _ClassVar[int]
    FALLBACK_SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    LR_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    id: int
    restore_snapshot: int
    segments: _containers.RepeatedCompositeFieldContainer[Segment]
    length: int
    stop: StopRule
    restore_at_end: bool
    batches: Batches
    fallback: Plan
    fallback_snapshot: int
    phase: str
    lr: float
    share: float
    def __init__(self, id: _Optional[int] = ..., restore_snapshot: _Optional[int] = ..., segments: _Optional[_Iterable[_Union[Segment, _Mapping]]] = ..., length: _Optional[int] = ..., stop: _Optional[_Union[StopRule, _Mapping]] = ..., restore_at_end: bool = ..., batches: _Optional[_Union[Batches, str]] = ..., fallback: _Optional[_Union[Plan, _Mapping]] = ..., fallback_snapshot: _Optional[int] = ..., phase: _Optional[str] = ..., lr: _Optional[float] = ..., share: _Optional[float] = ...) -> None: ...

class Decision(_message.Message):
    __slots__ = ("id", "action", "reason", "signal", "step", "branch", "not_before_step", "expires_at_step", "restore_snapshot", "restore_rng", "plan", "ramp_steps", "program", "stop", "release", "status", "save_snapshot")
    ID_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    SIGNAL_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    BRANCH_FIELD_NUMBER: _ClassVar[int]
    NOT_BEFORE_STEP_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_STEP_FIELD_NUMBER: _ClassVar[int]
    RESTORE_SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    RESTORE_RNG_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    RAMP_STEPS_FIELD_NUMBER: _ClassVar[int]
    PROGRAM_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    SAVE_SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    id: int
    action: Action
    reason: str
    signal: Signal
    step: int
    branch: int
    not_before_step: int
    expires_at_step: int
    restore_snapshot: int
    restore_rng: bool
    plan: Plan
    ramp_steps: int
    program: Program
    stop: bool
    release: bool
    status: DecisionStatus
    save_snapshot: bool
    def __init__(self, id: _Optional[int] = ..., action: _Optional[_Union[Action, str]] = ..., reason: _Optional[str] = ..., signal: _Optional[_Union[Signal, _Mapping]] = ..., step: _Optional[int] = ..., branch: _Optional[int] = ..., not_before_step: _Optional[int] = ..., expires_at_step: _Optional[int] = ..., restore_snapshot: _Optional[int] = ..., restore_rng: bool = ..., plan: _Optional[_Union[Plan, _Mapping]] = ..., ramp_steps: _Optional[int] = ..., program: _Optional[_Union[Program, _Mapping]] = ..., stop: bool = ..., release: bool = ..., status: _Optional[_Union[DecisionStatus, str]] = ..., save_snapshot: bool = ...) -> None: ...

class Receipt(_message.Message):
    __slots__ = ("decision_id", "status", "applied_step", "branch_before", "branch_after", "lrs_before", "lrs_after", "wait_seconds", "detail")
    DECISION_ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    APPLIED_STEP_FIELD_NUMBER: _ClassVar[int]
    BRANCH_BEFORE_FIELD_NUMBER: _ClassVar[int]
    BRANCH_AFTER_FIELD_NUMBER: _ClassVar[int]
    LRS_BEFORE_FIELD_NUMBER: _ClassVar[int]
    LRS_AFTER_FIELD_NUMBER: _ClassVar[int]
    WAIT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    decision_id: int
    status: DecisionStatus
    applied_step: int
    branch_before: int
    branch_after: int
    lrs_before: _containers.RepeatedScalarFieldContainer[float]
    lrs_after: _containers.RepeatedScalarFieldContainer[float]
    wait_seconds: float
    detail: str
    def __init__(self, decision_id: _Optional[int] = ..., status: _Optional[_Union[DecisionStatus, str]] = ..., applied_step: _Optional[int] = ..., branch_before: _Optional[int] = ..., branch_after: _Optional[int] = ..., lrs_before: _Optional[_Iterable[float]] = ..., lrs_after: _Optional[_Iterable[float]] = ..., wait_seconds: _Optional[float] = ..., detail: _Optional[str] = ...) -> None: ...

class Outcome(_message.Message):
    __slots__ = ("decision_id", "verdict", "gain", "steps", "loss_before", "loss_after")
    DECISION_ID_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    GAIN_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    LOSS_BEFORE_FIELD_NUMBER: _ClassVar[int]
    LOSS_AFTER_FIELD_NUMBER: _ClassVar[int]
    decision_id: int
    verdict: str
    gain: float
    steps: int
    loss_before: float
    loss_after: float
    def __init__(self, decision_id: _Optional[int] = ..., verdict: _Optional[str] = ..., gain: _Optional[float] = ..., steps: _Optional[int] = ..., loss_before: _Optional[float] = ..., loss_after: _Optional[float] = ...) -> None: ...

class Cost(_message.Message):
    __slots__ = ("probe_steps", "rolled_back_steps", "wait_seconds")
    PROBE_STEPS_FIELD_NUMBER: _ClassVar[int]
    ROLLED_BACK_STEPS_FIELD_NUMBER: _ClassVar[int]
    WAIT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    probe_steps: int
    rolled_back_steps: int
    wait_seconds: float
    def __init__(self, probe_steps: _Optional[int] = ..., rolled_back_steps: _Optional[int] = ..., wait_seconds: _Optional[float] = ...) -> None: ...
