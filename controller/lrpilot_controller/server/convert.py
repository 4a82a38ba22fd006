"""Messages of the wire <-> values of the core: the only module that knows both.

`*_from` functions check what a peer may have got wrong and raise `InvalidTelemetry`.
"""

import math

from lrpilot_controller.core.events import (
    Noticed,
    ReceiptArrived,
    Report,
    SaidGoodbye,
    Samples,
    SnapshotTaken,
)
from lrpilot_controller.core.model import (
    Attempt,
    Decision,
    DecisionStatus,
    Mode,
    ParamGroup,
    Plan,
    Receipt,
    Segment,
    Signal,
)
from lrpilot_controller.errors import InvalidTelemetry
from lrpilot_proto.v1 import model_pb2, session_pb2

MAX_ITEMS = 4096
# Steps are counted, not made up: no run gets there, and sums of them stay within 64 bits.
MAX_STEP = 2**53


_STATUSES = frozenset(DecisionStatus)


def _name(prefix: str, enum: object, number: int) -> str:
    """`MODE_AUTO` -> `auto`; empty for a value that only a newer peer knows."""
    try:
        return str(enum.Name(number)).removeprefix(prefix).lower()  # type: ignore[attr-defined]
    except ValueError:
        return ""


def mode_from(number: int, default: Mode = Mode.AUTO) -> Mode:
    """The mode; `default` where it is unset or unknown."""
    name = _name("MODE_", model_pb2.Mode, number)
    return Mode(name) if name in set(Mode) else default


def mode_to(mode: Mode) -> str:
    """The mode as the name of its wire value."""
    return f"MODE_{mode.upper()}"


def status_to(status: DecisionStatus) -> str:
    """A decision's status as the name of its wire value."""
    return f"DECISION_STATUS_{status.upper()}"


def attempt_from(hello: session_pb2.Hello) -> Attempt:
    """The attempt that a Hello describes.

    Raises:
        InvalidTelemetry: a name is missing, or a group or bound is not a usable number.
    """
    for field, value in (
        ("run.project", hello.run.project),
        ("run.name", hello.run.name),
        ("attempt", hello.attempt),
    ):
        if not value or "/" in value or len(value) > 200:
            raise InvalidTelemetry(
                f"hello.{field} is {value!r}: 1 to 200 characters without '/' are needed"
            )
    if not hello.groups:
        raise InvalidTelemetry("hello.groups is empty: an optimizer has at least one param group")
    for group in hello.groups:
        if not (math.isfinite(group.base_lr) and group.base_lr >= 0):
            raise InvalidTelemetry(
                f"hello.groups: base_lr of {group.name!r} is {group.base_lr}: a finite LR >= 0 "
                "is needed"
            )
    if not 0 <= hello.min_lr <= hello.max_lr < math.inf:
        raise InvalidTelemetry(
            f"hello bounds are min_lr {hello.min_lr}, max_lr {hello.max_lr}: "
            "0 <= min_lr <= max_lr is needed"
        )
    scale = hello.plan.segments[-1].end_value if hello.plan.segments else 1.0
    return Attempt(
        id=hello.attempt,
        groups=tuple(ParamGroup(group.name, group.base_lr) for group in hello.groups),
        min_lr=hello.min_lr,
        max_lr=hello.max_lr,
        optimizer=hello.optimizer,
        mode=mode_from(hello.mode),
        search=hello.search,
        start_step=hello.start_step,
        branch=hello.branch,
        total_steps=hello.total_steps if hello.HasField("total_steps") else None,
        steps_per_epoch=hello.steps_per_epoch if hello.HasField("steps_per_epoch") else None,
        resumes=hello.resumes if hello.HasField("resumes") else None,
        can_snapshot=hello.capabilities.snapshot,
        can_stop=hello.capabilities.stop,
        world_size=hello.world_size,
        scale=scale if math.isfinite(scale) and scale > 0 else 1.0,
        job=hello.job,
        client_version=hello.client_version,
    )


def samples_from(message: session_pb2.Telemetry, attempt: Attempt) -> Samples:
    """The columns of a Telemetry message.

    Raises:
        InvalidTelemetry: columns of different length, too many rows, or LR rows that fit neither
            one row nor one per item.
    """
    rows, groups = len(message.step), len(attempt.groups)
    lengths = {name: len(getattr(message, name)) for name in ("kind", "branch", "program", "loss")}
    if any(length != rows for length in lengths.values()):
        raise InvalidTelemetry(f"telemetry columns differ in length: step {rows}, {lengths}")
    if not 1 <= rows <= MAX_ITEMS:
        raise InvalidTelemetry(f"telemetry has {rows} rows: 1 to {MAX_ITEMS} are allowed")
    if message.first_seq < 1:
        raise InvalidTelemetry("telemetry.first_seq is 0: items are numbered from 1")
    if max(message.step) > MAX_STEP:
        raise InvalidTelemetry(f"telemetry.step is {max(message.step)}: at most {MAX_STEP}")
    if len(message.lrs) not in (groups, rows * groups):
        raise InvalidTelemetry(
            f"telemetry.lrs has {len(message.lrs)} values: {groups} (one row for all) or "
            f"{rows * groups} (one row per item) are needed"
        )
    if not all(math.isfinite(lr) for lr in message.lrs):
        raise InvalidTelemetry("telemetry.lrs holds a non-finite learning rate")
    return Samples(
        attempt=attempt.id,
        first_seq=message.first_seq,
        validation=tuple(kind == session_pb2.ITEM_KIND_VALIDATION for kind in message.kind),
        step=tuple(message.step),
        branch=tuple(message.branch),
        program=tuple(message.program),
        loss=tuple(message.loss),
        lrs=tuple(zip(*[iter(message.lrs)] * groups, strict=True)),
        dropped=message.dropped_total,
    )


def report_from(message: session_pb2.Report, attempt: Attempt) -> Report:
    """The report as an event; a kind that only a newer trainer knows becomes a notice."""
    base = (attempt.id, message.report_seq)
    match message.WhichOneof("body"):
        case "receipt":
            return ReceiptArrived(*base, receipt_from(message.receipt))
        case "snapshot":
            taken = message.snapshot
            return SnapshotTaken(*base, taken.id, taken.step, taken.branch, taken.proven)
        case "notice":
            return Noticed(*base, message.notice.kind, message.notice.step, message.notice.text)
        case "goodbye":
            return SaidGoodbye(*base, message.goodbye.reason, message.goodbye.step)
    text = "the trainer reported something that this daemon does not know"
    return Noticed(*base, "unknown_report", 0, text)


def receipt_from(message: model_pb2.Receipt) -> Receipt:
    """The trainer's answer to a decision.

    Raises:
        InvalidTelemetry: a step or an LR that cannot be.
    """
    lrs = (*message.lrs_before, *message.lrs_after)
    if message.applied_step > MAX_STEP or not all(map(math.isfinite, lrs)):
        raise InvalidTelemetry(
            f"receipt of decision {message.decision_id}: applied_step {message.applied_step} and "
            f"LRs {list(lrs)} must be finite, the step at most {MAX_STEP}"
        )
    status = _name("DECISION_STATUS_", model_pb2.DecisionStatus, message.status)
    return Receipt(
        decision_id=message.decision_id,
        status=DecisionStatus(status) if status in _STATUSES else DecisionStatus.REJECTED,
        applied_step=message.applied_step,
        branch_before=message.branch_before,
        branch_after=message.branch_after,
        lrs_before=tuple(message.lrs_before),
        lrs_after=tuple(message.lrs_after),
        wait_seconds=message.wait_seconds,
        detail=message.detail,
    )


def signal_to(signal: Signal) -> model_pb2.Signal:
    """A signal as a message."""
    return model_pb2.Signal(
        kind=signal.kind,
        step=signal.step,
        since=signal.since,
        severity=signal.severity,
        evidence=dict(signal.evidence),
    )


def plan_to(plan: Plan) -> model_pb2.Plan:
    """A plan as a message."""
    return model_pb2.Plan(
        kind=f"PLAN_KIND_{plan.kind.upper()}",
        segments=[_segment_to(segment) for segment in plan.segments],
    )


def _segment_to(segment: Segment) -> model_pb2.Segment:
    return model_pb2.Segment(
        shape=f"SHAPE_{segment.shape.upper()}",
        start=segment.start,
        end=segment.end,
        start_value=segment.start_value,
        end_value=segment.end_value,
    )


def decision_to(decision: Decision) -> model_pb2.Decision:
    """A decision as a message."""
    return model_pb2.Decision(
        id=decision.id,
        action=f"ACTION_{decision.action.upper()}",
        reason=decision.reason,
        signal=signal_to(decision.signal) if decision.signal else None,
        step=decision.step,
        branch=decision.branch,
        not_before_step=decision.not_before_step,
        expires_at_step=decision.expires_at_step,
        restore_snapshot=decision.restore_snapshot,
        restore_rng=decision.restore_rng,
        plan=plan_to(decision.plan) if decision.plan else None,
        ramp_steps=decision.ramp_steps,
        stop=decision.stop,
        release=decision.release,
        status=status_to(decision.status),
    )
