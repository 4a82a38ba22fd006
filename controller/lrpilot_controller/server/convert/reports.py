"""What a trainer tells besides numbers: receipts, results of programs, notices."""

import math

from lrpilot_controller.core.events import (
    FellBack,
    Noticed,
    ProgramEnded,
    ReceiptArrived,
    Report,
    Requested,
    SaidGoodbye,
    SnapshotTaken,
)
from lrpilot_controller.core.model import Attempt, DecisionStatus, Receipt
from lrpilot_controller.errors import InvalidTelemetry
from lrpilot_controller.server.convert.sizes import MAX_GROUPS, MAX_NAME, check_count, cut
from lrpilot_controller.server.convert.words import MAX_STEP, check_steps, name_of
from lrpilot_proto.v1 import model_pb2, session_pb2

# A program is a small part of a run; with a loss per step it must also fit into a message.
MAX_LOSSES = 100_000

_STATUSES = frozenset(DecisionStatus)
_REQUESTS = frozenset({"search", "finish"})


def report_from(message: session_pb2.Report, attempt: Attempt) -> Report:
    """The report as an event; a kind that only a newer trainer knows becomes a notice.

    Raises:
        InvalidTelemetry: a step or an LR that cannot be, or more losses than a program has.
    """
    base = (attempt.id, message.report_seq)
    match message.WhichOneof("body"):
        case "receipt":
            return ReceiptArrived(*base, _receipt_from(message.receipt))
        case "snapshot":
            taken = message.snapshot
            check_steps(f"snapshot {taken.id}", step=taken.step)
            return SnapshotTaken(*base, taken.id, taken.step, taken.branch, taken.proven)
        case "program":
            return _ended_from(message.program, *base)
        case "fallback":
            return _fell_back_from(message.fallback, *base)
        case "request":
            return _request_from(message.request, *base)
        case "notice":
            notice = message.notice
            check_steps("notice", step=notice.step)
            return Noticed(*base, cut(notice.kind, MAX_NAME), notice.step, cut(notice.text))
        case "goodbye":
            check_steps("goodbye", step=message.goodbye.step)
            return SaidGoodbye(*base, cut(message.goodbye.reason, MAX_NAME), message.goodbye.step)
    text = "the trainer reported something that this daemon does not know"
    return Noticed(*base, "unknown_report", 0, text)


def _ended_from(result: session_pb2.ProgramResult, attempt: str, number: int) -> ProgramEnded:
    check_steps(f"result of program {result.id}", first_step=result.first_step)
    check_count(f"result of program {result.id}, losses", len(result.losses), MAX_LOSSES)
    return ProgramEnded(
        attempt,
        number,
        program=result.id,
        first_step=result.first_step,
        losses=tuple(result.losses),
        stop_reason=cut(result.stop_reason, MAX_NAME),
        branch=result.branch,
        wait_seconds=_wait(result.wait_seconds),
    )


def _fell_back_from(taken: session_pb2.FallbackTaken, attempt: str, number: int) -> FellBack:
    check_steps(f"fallback of program {taken.program}", step=taken.step)
    return FellBack(
        attempt,
        number,
        program=taken.program,
        step=taken.step,
        branch=taken.branch,
        reason=cut(taken.reason),
        wait_seconds=_wait(taken.wait_seconds),
    )


def _request_from(request: session_pb2.Request, attempt: str, number: int) -> Requested | Noticed:
    kind = cut(request.kind, MAX_NAME)
    check_steps(f"request {kind!r}", step=request.step, steps=request.steps)
    if request.kind not in _REQUESTS:
        text = f"the trainer asks for {kind!r}, which this daemon does not know"
        return Noticed(attempt, number, "unknown_request", request.step, text)
    return Requested(attempt, number, request.kind, request.step, request.steps)


def _wait(seconds: float) -> float:
    """A clock that jumps must not make what control has cost a number that means nothing."""
    return seconds if math.isfinite(seconds) and seconds >= 0 else 0.0


def _receipt_from(message: model_pb2.Receipt) -> Receipt:
    """The trainer's answer to a decision.

    Raises:
        InvalidTelemetry: a step or an LR that cannot be.
    """
    lrs = (*message.lrs_before, *message.lrs_after)
    check_count(f"receipt of decision {message.decision_id}, LRs", len(lrs), 2 * MAX_GROUPS)
    if message.applied_step > MAX_STEP or not all(map(math.isfinite, lrs)):
        raise InvalidTelemetry(
            f"receipt of decision {message.decision_id}: applied_step {message.applied_step} and "
            f"LRs {list(lrs)} must be finite, the step at most {MAX_STEP}"
        )
    status = name_of("DECISION_STATUS_", model_pb2.DecisionStatus, message.status)
    return Receipt(
        decision_id=message.decision_id,
        status=DecisionStatus(status) if status in _STATUSES else DecisionStatus.REJECTED,
        applied_step=message.applied_step,
        branch_before=message.branch_before,
        branch_after=message.branch_after,
        lrs_before=tuple(message.lrs_before),
        lrs_after=tuple(message.lrs_after),
        wait_seconds=_wait(message.wait_seconds),
        detail=cut(message.detail),
    )
