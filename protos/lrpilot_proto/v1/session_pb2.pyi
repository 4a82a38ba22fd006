from lrpilot_proto.v1 import model_pb2 as _model_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ItemKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ITEM_KIND_UNSPECIFIED: _ClassVar[ItemKind]
    ITEM_KIND_TRAIN: _ClassVar[ItemKind]
    ITEM_KIND_VALIDATION: _ClassVar[ItemKind]
ITEM_KIND_UNSPECIFIED: ItemKind
ITEM_KIND_TRAIN: ItemKind
ITEM_KIND_VALIDATION: ItemKind

class TrainerMessage(_message.Message):
    __slots__ = ("hello", "telemetry", "report")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    TELEMETRY_FIELD_NUMBER: _ClassVar[int]
    REPORT_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    telemetry: Telemetry
    report: Report
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., telemetry: _Optional[_Union[Telemetry, _Mapping]] = ..., report: _Optional[_Union[Report, _Mapping]] = ...) -> None: ...

class ControllerMessage(_message.Message):
    __slots__ = ("generation", "acked_seq", "acked_report", "after_decision", "flush_ms", "welcome", "decision", "proven", "signal")
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    ACKED_SEQ_FIELD_NUMBER: _ClassVar[int]
    ACKED_REPORT_FIELD_NUMBER: _ClassVar[int]
    AFTER_DECISION_FIELD_NUMBER: _ClassVar[int]
    FLUSH_MS_FIELD_NUMBER: _ClassVar[int]
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    DECISION_FIELD_NUMBER: _ClassVar[int]
    PROVEN_FIELD_NUMBER: _ClassVar[int]
    SIGNAL_FIELD_NUMBER: _ClassVar[int]
    generation: int
    acked_seq: int
    acked_report: int
    after_decision: int
    flush_ms: int
    welcome: Welcome
    decision: _model_pb2.Decision
    proven: SnapshotProven
    signal: _model_pb2.Signal
    def __init__(self, generation: _Optional[int] = ..., acked_seq: _Optional[int] = ..., acked_report: _Optional[int] = ..., after_decision: _Optional[int] = ..., flush_ms: _Optional[int] = ..., welcome: _Optional[_Union[Welcome, _Mapping]] = ..., decision: _Optional[_Union[_model_pb2.Decision, _Mapping]] = ..., proven: _Optional[_Union[SnapshotProven, _Mapping]] = ..., signal: _Optional[_Union[_model_pb2.Signal, _Mapping]] = ...) -> None: ...

class ParamGroup(_message.Message):
    __slots__ = ("name", "base_lr")
    NAME_FIELD_NUMBER: _ClassVar[int]
    BASE_LR_FIELD_NUMBER: _ClassVar[int]
    name: str
    base_lr: float
    def __init__(self, name: _Optional[str] = ..., base_lr: _Optional[float] = ...) -> None: ...

class Capabilities(_message.Message):
    __slots__ = ("snapshot", "program", "replay", "stop")
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    PROGRAM_FIELD_NUMBER: _ClassVar[int]
    REPLAY_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    snapshot: bool
    program: bool
    replay: bool
    stop: bool
    def __init__(self, snapshot: bool = ..., program: bool = ..., replay: bool = ..., stop: bool = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("run", "attempt", "resumes", "client_version", "start_step", "branch", "total_steps", "steps_per_epoch", "groups", "optimizer", "mode", "search", "min_lr", "max_lr", "capabilities", "world_size", "oldest_seq", "oldest_report", "last_decision_id", "generation", "plan", "scheduled", "signals", "job")
    class SignalsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    RUN_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    RESUMES_FIELD_NUMBER: _ClassVar[int]
    CLIENT_VERSION_FIELD_NUMBER: _ClassVar[int]
    START_STEP_FIELD_NUMBER: _ClassVar[int]
    BRANCH_FIELD_NUMBER: _ClassVar[int]
    TOTAL_STEPS_FIELD_NUMBER: _ClassVar[int]
    STEPS_PER_EPOCH_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    OPTIMIZER_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    SEARCH_FIELD_NUMBER: _ClassVar[int]
    MIN_LR_FIELD_NUMBER: _ClassVar[int]
    MAX_LR_FIELD_NUMBER: _ClassVar[int]
    CAPABILITIES_FIELD_NUMBER: _ClassVar[int]
    WORLD_SIZE_FIELD_NUMBER: _ClassVar[int]
    OLDEST_SEQ_FIELD_NUMBER: _ClassVar[int]
    OLDEST_REPORT_FIELD_NUMBER: _ClassVar[int]
    LAST_DECISION_ID_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    SCHEDULED_FIELD_NUMBER: _ClassVar[int]
    SIGNALS_FIELD_NUMBER: _ClassVar[int]
    JOB_FIELD_NUMBER: _ClassVar[int]
    run: _model_pb2.RunName
    attempt: str
    resumes: str
    client_version: str
    start_step: int
    branch: int
    total_steps: int
    steps_per_epoch: int
    groups: _containers.RepeatedCompositeFieldContainer[ParamGroup]
    optimizer: str
    mode: _model_pb2.Mode
    search: bool
    min_lr: float
    max_lr: float
    capabilities: Capabilities
    world_size: int
    oldest_seq: int
    oldest_report: int
    last_decision_id: int
    generation: int
    plan: _model_pb2.Plan
    scheduled: bool
    signals: _containers.ScalarMap[str, str]
    job: str
    def __init__(self, run: _Optional[_Union[_model_pb2.RunName, _Mapping]] = ..., attempt: _Optional[str] = ..., resumes: _Optional[str] = ..., client_version: _Optional[str] = ..., start_step: _Optional[int] = ..., branch: _Optional[int] = ..., total_steps: _Optional[int] = ..., steps_per_epoch: _Optional[int] = ..., groups: _Optional[_Iterable[_Union[ParamGroup, _Mapping]]] = ..., optimizer: _Optional[str] = ..., mode: _Optional[_Union[_model_pb2.Mode, str]] = ..., search: bool = ..., min_lr: _Optional[float] = ..., max_lr: _Optional[float] = ..., capabilities: _Optional[_Union[Capabilities, _Mapping]] = ..., world_size: _Optional[int] = ..., oldest_seq: _Optional[int] = ..., oldest_report: _Optional[int] = ..., last_decision_id: _Optional[int] = ..., generation: _Optional[int] = ..., plan: _Optional[_Union[_model_pb2.Plan, _Mapping]] = ..., scheduled: bool = ..., signals: _Optional[_Mapping[str, str]] = ..., job: _Optional[str] = ...) -> None: ...

class Telemetry(_message.Message):
    __slots__ = ("first_seq", "kind", "step", "branch", "program", "loss", "lrs", "dropped_total")
    FIRST_SEQ_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    BRANCH_FIELD_NUMBER: _ClassVar[int]
    PROGRAM_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    LRS_FIELD_NUMBER: _ClassVar[int]
    DROPPED_TOTAL_FIELD_NUMBER: _ClassVar[int]
    first_seq: int
    kind: _containers.RepeatedScalarFieldContainer[ItemKind]
    step: _containers.RepeatedScalarFieldContainer[int]
    branch: _containers.RepeatedScalarFieldContainer[int]
    program: _containers.RepeatedScalarFieldContainer[int]
    loss: _containers.RepeatedScalarFieldContainer[float]
    lrs: _containers.RepeatedScalarFieldContainer[float]
    dropped_total: int
    def __init__(self, first_seq: _Optional[int] = ..., kind: _Optional[_Iterable[_Union[ItemKind, str]]] = ..., step: _Optional[_Iterable[int]] = ..., branch: _Optional[_Iterable[int]] = ..., program: _Optional[_Iterable[int]] = ..., loss: _Optional[_Iterable[float]] = ..., lrs: _Optional[_Iterable[float]] = ..., dropped_total: _Optional[int] = ...) -> None: ...

class Report(_message.Message):
    __slots__ = ("report_seq", "before_seq", "receipt", "snapshot", "program", "notice", "goodbye", "fallback", "request")
    REPORT_SEQ_FIELD_NUMBER: _ClassVar[int]
    BEFORE_SEQ_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    PROGRAM_FIELD_NUMBER: _ClassVar[int]
    NOTICE_FIELD_NUMBER: _ClassVar[int]
    GOODBYE_FIELD_NUMBER: _ClassVar[int]
    FALLBACK_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    report_seq: int
    before_seq: int
    receipt: _model_pb2.Receipt
    snapshot: SnapshotTaken
    program: ProgramResult
    notice: Notice
    goodbye: Goodbye
    fallback: FallbackTaken
    request: Request
    def __init__(self, report_seq: _Optional[int] = ..., before_seq: _Optional[int] = ..., receipt: _Optional[_Union[_model_pb2.Receipt, _Mapping]] = ..., snapshot: _Optional[_Union[SnapshotTaken, _Mapping]] = ..., program: _Optional[_Union[ProgramResult, _Mapping]] = ..., notice: _Optional[_Union[Notice, _Mapping]] = ..., goodbye: _Optional[_Union[Goodbye, _Mapping]] = ..., fallback: _Optional[_Union[FallbackTaken, _Mapping]] = ..., request: _Optional[_Union[Request, _Mapping]] = ...) -> None: ...

class SnapshotTaken(_message.Message):
    __slots__ = ("id", "step", "branch", "proven")
    ID_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    BRANCH_FIELD_NUMBER: _ClassVar[int]
    PROVEN_FIELD_NUMBER: _ClassVar[int]
    id: int
    step: int
    branch: int
    proven: bool
    def __init__(self, id: _Optional[int] = ..., step: _Optional[int] = ..., branch: _Optional[int] = ..., proven: bool = ...) -> None: ...

class ProgramResult(_message.Message):
    __slots__ = ("id", "first_step", "losses", "stop_reason", "wait_seconds", "branch")
    ID_FIELD_NUMBER: _ClassVar[int]
    FIRST_STEP_FIELD_NUMBER: _ClassVar[int]
    LOSSES_FIELD_NUMBER: _ClassVar[int]
    STOP_REASON_FIELD_NUMBER: _ClassVar[int]
    WAIT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    BRANCH_FIELD_NUMBER: _ClassVar[int]
    id: int
    first_step: int
    losses: _containers.RepeatedScalarFieldContainer[float]
    stop_reason: str
    wait_seconds: float
    branch: int
    def __init__(self, id: _Optional[int] = ..., first_step: _Optional[int] = ..., losses: _Optional[_Iterable[float]] = ..., stop_reason: _Optional[str] = ..., wait_seconds: _Optional[float] = ..., branch: _Optional[int] = ...) -> None: ...

class FallbackTaken(_message.Message):
    __slots__ = ("program", "step", "branch", "reason", "wait_seconds")
    PROGRAM_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    BRANCH_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    WAIT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    program: int
    step: int
    branch: int
    reason: str
    wait_seconds: float
    def __init__(self, program: _Optional[int] = ..., step: _Optional[int] = ..., branch: _Optional[int] = ..., reason: _Optional[str] = ..., wait_seconds: _Optional[float] = ...) -> None: ...

class Request(_message.Message):
    __slots__ = ("kind", "step", "steps")
    KIND_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    kind: str
    step: int
    steps: int
    def __init__(self, kind: _Optional[str] = ..., step: _Optional[int] = ..., steps: _Optional[int] = ...) -> None: ...

class Notice(_message.Message):
    __slots__ = ("kind", "step", "text")
    KIND_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    kind: str
    step: int
    text: str
    def __init__(self, kind: _Optional[str] = ..., step: _Optional[int] = ..., text: _Optional[str] = ...) -> None: ...

class Goodbye(_message.Message):
    __slots__ = ("reason", "step")
    REASON_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    reason: str
    step: int
    def __init__(self, reason: _Optional[str] = ..., step: _Optional[int] = ...) -> None: ...

class Welcome(_message.Message):
    __slots__ = ("daemon_version", "mode", "steps_known", "searches")
    DAEMON_VERSION_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    STEPS_KNOWN_FIELD_NUMBER: _ClassVar[int]
    SEARCHES_FIELD_NUMBER: _ClassVar[int]
    daemon_version: str
    mode: _model_pb2.Mode
    steps_known: int
    searches: bool
    def __init__(self, daemon_version: _Optional[str] = ..., mode: _Optional[_Union[_model_pb2.Mode, str]] = ..., steps_known: _Optional[int] = ..., searches: bool = ...) -> None: ...

class SnapshotProven(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: int
    def __init__(self, id: _Optional[int] = ...) -> None: ...
