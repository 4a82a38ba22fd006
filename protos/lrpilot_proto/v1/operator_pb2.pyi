from lrpilot_proto.v1 import model_pb2 as _model_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ListRunsRequest(_message.Message):
    __slots__ = ("project",)
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    project: str
    def __init__(self, project: _Optional[str] = ...) -> None: ...

class ListRunsResponse(_message.Message):
    __slots__ = ("runs",)
    RUNS_FIELD_NUMBER: _ClassVar[int]
    runs: _containers.RepeatedCompositeFieldContainer[RunSummary]
    def __init__(self, runs: _Optional[_Iterable[_Union[RunSummary, _Mapping]]] = ...) -> None: ...

class ShowRunRequest(_message.Message):
    __slots__ = ("run",)
    RUN_FIELD_NUMBER: _ClassVar[int]
    run: str
    def __init__(self, run: _Optional[str] = ...) -> None: ...

class WatchRunRequest(_message.Message):
    __slots__ = ("run",)
    RUN_FIELD_NUMBER: _ClassVar[int]
    run: str
    def __init__(self, run: _Optional[str] = ...) -> None: ...

class StatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DaemonStatus(_message.Message):
    __slots__ = ("version", "generation", "uptime_seconds", "sessions", "journal_bytes")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    UPTIME_SECONDS_FIELD_NUMBER: _ClassVar[int]
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    JOURNAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    version: str
    generation: int
    uptime_seconds: float
    sessions: int
    journal_bytes: int
    def __init__(self, version: _Optional[str] = ..., generation: _Optional[int] = ..., uptime_seconds: _Optional[float] = ..., sessions: _Optional[int] = ..., journal_bytes: _Optional[int] = ...) -> None: ...

class RunSummary(_message.Message):
    __slots__ = ("run", "state", "mode", "attempts", "step", "lrs", "loss", "curve")
    RUN_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    LRS_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    CURVE_FIELD_NUMBER: _ClassVar[int]
    run: _model_pb2.RunName
    state: _model_pb2.RunState
    mode: _model_pb2.Mode
    attempts: int
    step: int
    lrs: _containers.RepeatedScalarFieldContainer[float]
    loss: float
    curve: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, run: _Optional[_Union[_model_pb2.RunName, _Mapping]] = ..., state: _Optional[_Union[_model_pb2.RunState, str]] = ..., mode: _Optional[_Union[_model_pb2.Mode, str]] = ..., attempts: _Optional[int] = ..., step: _Optional[int] = ..., lrs: _Optional[_Iterable[float]] = ..., loss: _Optional[float] = ..., curve: _Optional[_Iterable[float]] = ...) -> None: ...

class TelemetryCount(_message.Message):
    __slots__ = ("received", "dropped", "thinned")
    RECEIVED_FIELD_NUMBER: _ClassVar[int]
    DROPPED_FIELD_NUMBER: _ClassVar[int]
    THINNED_FIELD_NUMBER: _ClassVar[int]
    received: int
    dropped: int
    thinned: int
    def __init__(self, received: _Optional[int] = ..., dropped: _Optional[int] = ..., thinned: _Optional[int] = ...) -> None: ...

class DecisionStory(_message.Message):
    __slots__ = ("decision", "receipt", "outcome", "who", "verdict")
    DECISION_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    WHO_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    decision: _model_pb2.Decision
    receipt: _model_pb2.Receipt
    outcome: _model_pb2.Outcome
    who: str
    verdict: str
    def __init__(self, decision: _Optional[_Union[_model_pb2.Decision, _Mapping]] = ..., receipt: _Optional[_Union[_model_pb2.Receipt, _Mapping]] = ..., outcome: _Optional[_Union[_model_pb2.Outcome, _Mapping]] = ..., who: _Optional[str] = ..., verdict: _Optional[str] = ...) -> None: ...

class RunStory(_message.Message):
    __slots__ = ("summary", "telemetry", "signals", "decisions", "cost", "points", "notices", "search", "searching", "commands", "refusals")
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    TELEMETRY_FIELD_NUMBER: _ClassVar[int]
    SIGNALS_FIELD_NUMBER: _ClassVar[int]
    DECISIONS_FIELD_NUMBER: _ClassVar[int]
    COST_FIELD_NUMBER: _ClassVar[int]
    POINTS_FIELD_NUMBER: _ClassVar[int]
    NOTICES_FIELD_NUMBER: _ClassVar[int]
    SEARCH_FIELD_NUMBER: _ClassVar[int]
    SEARCHING_FIELD_NUMBER: _ClassVar[int]
    COMMANDS_FIELD_NUMBER: _ClassVar[int]
    REFUSALS_FIELD_NUMBER: _ClassVar[int]
    summary: RunSummary
    telemetry: TelemetryCount
    signals: _containers.RepeatedCompositeFieldContainer[_model_pb2.Signal]
    decisions: _containers.RepeatedCompositeFieldContainer[DecisionStory]
    cost: _model_pb2.Cost
    points: _containers.RepeatedCompositeFieldContainer[Point]
    notices: _containers.RepeatedScalarFieldContainer[str]
    search: SearchStory
    searching: SearchProgress
    commands: _containers.RepeatedCompositeFieldContainer[CommandStory]
    refusals: _containers.RepeatedCompositeFieldContainer[RefusalStory]
    def __init__(self, summary: _Optional[_Union[RunSummary, _Mapping]] = ..., telemetry: _Optional[_Union[TelemetryCount, _Mapping]] = ..., signals: _Optional[_Iterable[_Union[_model_pb2.Signal, _Mapping]]] = ..., decisions: _Optional[_Iterable[_Union[DecisionStory, _Mapping]]] = ..., cost: _Optional[_Union[_model_pb2.Cost, _Mapping]] = ..., points: _Optional[_Iterable[_Union[Point, _Mapping]]] = ..., notices: _Optional[_Iterable[str]] = ..., search: _Optional[_Union[SearchStory, _Mapping]] = ..., searching: _Optional[_Union[SearchProgress, _Mapping]] = ..., commands: _Optional[_Iterable[_Union[CommandStory, _Mapping]]] = ..., refusals: _Optional[_Iterable[_Union[RefusalStory, _Mapping]]] = ...) -> None: ...

class RefusalStory(_message.Message):
    __slots__ = ("step", "signal", "reason")
    STEP_FIELD_NUMBER: _ClassVar[int]
    SIGNAL_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    step: int
    signal: str
    reason: str
    def __init__(self, step: _Optional[int] = ..., signal: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class CommandStory(_message.Message):
    __slots__ = ("step", "kind", "who", "why")
    STEP_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    WHO_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    step: int
    kind: str
    who: str
    why: str
    def __init__(self, step: _Optional[int] = ..., kind: _Optional[str] = ..., who: _Optional[str] = ..., why: _Optional[str] = ...) -> None: ...

class SearchProgress(_message.Message):
    __slots__ = ("phase", "lr", "share")
    PHASE_FIELD_NUMBER: _ClassVar[int]
    LR_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    phase: str
    lr: float
    share: float
    def __init__(self, phase: _Optional[str] = ..., lr: _Optional[float] = ..., share: _Optional[float] = ...) -> None: ...

class SearchStory(_message.Message):
    __slots__ = ("end", "lr", "steps", "reason", "reference", "candidates", "sweep")
    END_FIELD_NUMBER: _ClassVar[int]
    LR_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    REFERENCE_FIELD_NUMBER: _ClassVar[int]
    CANDIDATES_FIELD_NUMBER: _ClassVar[int]
    SWEEP_FIELD_NUMBER: _ClassVar[int]
    end: str
    lr: float
    steps: int
    reason: str
    reference: float
    candidates: _containers.RepeatedCompositeFieldContainer[SearchCandidate]
    sweep: SearchSweep
    def __init__(self, end: _Optional[str] = ..., lr: _Optional[float] = ..., steps: _Optional[int] = ..., reason: _Optional[str] = ..., reference: _Optional[float] = ..., candidates: _Optional[_Iterable[_Union[SearchCandidate, _Mapping]]] = ..., sweep: _Optional[_Union[SearchSweep, _Mapping]] = ...) -> None: ...

class SearchCandidate(_message.Message):
    __slots__ = ("lr", "score", "steps")
    LR_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    lr: float
    score: float
    steps: int
    def __init__(self, lr: _Optional[float] = ..., score: _Optional[float] = ..., steps: _Optional[int] = ...) -> None: ...

class SearchSweep(_message.Message):
    __slots__ = ("lrs", "losses")
    LRS_FIELD_NUMBER: _ClassVar[int]
    LOSSES_FIELD_NUMBER: _ClassVar[int]
    lrs: _containers.RepeatedScalarFieldContainer[float]
    losses: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, lrs: _Optional[_Iterable[float]] = ..., losses: _Optional[_Iterable[float]] = ...) -> None: ...

class Point(_message.Message):
    __slots__ = ("step", "loss", "lr", "left")
    STEP_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    LR_FIELD_NUMBER: _ClassVar[int]
    LEFT_FIELD_NUMBER: _ClassVar[int]
    step: int
    loss: float
    lr: float
    left: bool
    def __init__(self, step: _Optional[int] = ..., loss: _Optional[float] = ..., lr: _Optional[float] = ..., left: bool = ...) -> None: ...

class OperatorCommand(_message.Message):
    __slots__ = ("run", "who", "why")
    RUN_FIELD_NUMBER: _ClassVar[int]
    WHO_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    run: str
    who: str
    why: str
    def __init__(self, run: _Optional[str] = ..., who: _Optional[str] = ..., why: _Optional[str] = ...) -> None: ...

class SetLrRequest(_message.Message):
    __slots__ = ("command", "lr")
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    LR_FIELD_NUMBER: _ClassVar[int]
    command: OperatorCommand
    lr: float
    def __init__(self, command: _Optional[_Union[OperatorCommand, _Mapping]] = ..., lr: _Optional[float] = ...) -> None: ...

class ApproveRequest(_message.Message):
    __slots__ = ("command", "decision_id")
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    DECISION_ID_FIELD_NUMBER: _ClassVar[int]
    command: OperatorCommand
    decision_id: int
    def __init__(self, command: _Optional[_Union[OperatorCommand, _Mapping]] = ..., decision_id: _Optional[int] = ...) -> None: ...

class JudgeRequest(_message.Message):
    __slots__ = ("command", "decision_id", "good")
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    DECISION_ID_FIELD_NUMBER: _ClassVar[int]
    GOOD_FIELD_NUMBER: _ClassVar[int]
    command: OperatorCommand
    decision_id: int
    good: bool
    def __init__(self, command: _Optional[_Union[OperatorCommand, _Mapping]] = ..., decision_id: _Optional[int] = ..., good: bool = ...) -> None: ...

class CommandResult(_message.Message):
    __slots__ = ("message",)
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    message: str
    def __init__(self, message: _Optional[str] = ...) -> None: ...
