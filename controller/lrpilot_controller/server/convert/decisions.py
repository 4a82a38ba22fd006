"""Decisions and programs on their way to the trainer."""

from lrpilot_controller.core.model import Decision, Signal
from lrpilot_controller.core.plans import Program, StopRule
from lrpilot_controller.server.convert.plans import plan_to, segment_to
from lrpilot_controller.server.convert.words import status_to
from lrpilot_proto.v1 import model_pb2


def signal_to(signal: Signal) -> model_pb2.Signal:
    """A signal as a message."""
    return model_pb2.Signal(
        kind=signal.kind,
        step=signal.step,
        since=signal.since,
        severity=signal.severity,
        evidence=dict(signal.evidence),
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
        program=program_to(decision.program) if decision.program else None,
        stop=decision.stop,
        release=decision.release,
        status=status_to(decision.status),
        save_snapshot=decision.save_snapshot,
    )


def program_to(program: Program) -> model_pb2.Program:
    """A program as a message."""
    return model_pb2.Program(
        id=program.id,
        restore_snapshot=program.restore_snapshot,
        segments=[segment_to(segment) for segment in program.segments],
        length=program.length,
        stop=_stop_to(program.stop),
        restore_at_end=program.restore_at_end,
        batches=f"BATCHES_{program.batches.upper()}",
        fallback=plan_to(program.fallback),
        fallback_snapshot=program.fallback_snapshot,
        phase=program.phase,
        lr=program.lr,
        share=program.share,
    )


def _stop_to(rule: StopRule) -> model_pb2.StopRule:
    return model_pb2.StopRule(
        non_finite=rule.non_finite,
        loss_cap=rule.loss_cap,
        ema_cap=rule.ema_cap,
        ema_decay=rule.ema_decay,
        ema_rise=rule.ema_rise,
    )
