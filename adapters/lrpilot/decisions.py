"""Decisions as they reach the trainer: which are followed, and what is remembered of them."""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from lrpilot.plan import Plan, Ramp
from lrpilot.rates import Rates
from lrpilot_proto.v1 import model_pb2

# A run has few decisions; a daemon gone wild must not fill the trainer's memory.
HISTORY = 1000

Status = model_pb2.DecisionStatus


@dataclass(frozen=True)
class AppliedDecision:
    """One decision that reached this process.

    `status` is applied, expired, rejected or stale; `applied_step` the first step that ran under
    it; `lrs_before` and `lrs_after` were read back from the optimizer, one per param group.
    `signal` names what triggered it, with its severity from 0 to 1 and the step at which it was
    seen; empty where nothing did.
    """

    id: int
    action: str
    status: str
    reason: str
    applied_step: int
    lrs_before: tuple[float, ...]
    lrs_after: tuple[float, ...]
    detail: str = ""
    signal: str = ""
    severity: float = 0.0
    signal_step: int = 0


class Judge:
    """The trainer's own check of every decision, whatever the daemon says.

    Attributes:
        on_answer: called with each decision that reached this process; must not raise.
    """

    def __init__(self) -> None:
        self.history: list[AppliedDecision] = []
        self.last_id = 0
        self.on_answer: Callable[[AppliedDecision], None] = lambda _: None

    def refusal(
        self,
        decision: model_pb2.Decision,
        step: int,
        branch: int,
        *,
        controls: bool,
        programs: bool = False,
    ) -> tuple[Status, str] | None:
        """Why a decision is not followed at `step`, or None where it is.

        `controls` says whether this trainer follows any, `programs` whether it can restore.
        """
        if not controls and decision.action != model_pb2.ACTION_NOTE:
            return model_pb2.DECISION_STATUS_REJECTED, "this trainer only observes"
        if decision.branch != branch:
            return (
                model_pb2.DECISION_STATUS_STALE,
                f"it speaks of branch {decision.branch}, training is on branch {branch}",
            )
        if decision.HasField("expires_at_step") and step >= decision.expires_at_step:
            return (
                model_pb2.DECISION_STATUS_EXPIRED,
                f"it expired at step {decision.expires_at_step}, training is at {step}",
            )
        if decision.HasField("program") and not programs:
            return model_pb2.DECISION_STATUS_REJECTED, "this trainer cannot run programs"
        return None

    def plan(self, decision: model_pb2.Decision, rates: Rates) -> Plan | None:
        """The plan that a decision brings, entered from what is in force; None for none.

        Raises:
            PlanError: it cannot be followed.
        """
        if not decision.HasField("plan"):
            return None
        ramp = Ramp(rates.step, decision.ramp_steps, rates.in_force(decision.plan.kind))
        return Plan(decision.plan, rates.bounds, rates.base_lrs, ramp)

    def answered(self, decision: model_pb2.Decision, receipt: model_pb2.Receipt) -> None:
        """Remember a decision and its receipt."""
        self.last_id = max(self.last_id, decision.id)
        told = AppliedDecision(
            id=decision.id,
            action=_word("ACTION_", model_pb2.Action, decision.action),
            status=_word("DECISION_STATUS_", model_pb2.DecisionStatus, receipt.status),
            reason=decision.reason,
            applied_step=receipt.applied_step,
            lrs_before=tuple(receipt.lrs_before),
            lrs_after=tuple(receipt.lrs_after),
            detail=receipt.detail,
            signal=decision.signal.kind,
            severity=decision.signal.severity,
            signal_step=decision.signal.step,
        )
        self.history.append(told)
        del self.history[:-HISTORY]
        self.on_answer(told)

    def line(self, decision: model_pb2.Decision, receipt: model_pb2.Receipt) -> tuple[int, str]:
        """What the user is told: the logging level and the text."""
        last = self.history[-1]
        if decision.HasField("program") and receipt.status == model_pb2.DECISION_STATUS_APPLIED:
            return logging.DEBUG, f"LRPilot: step {last.applied_step}: {decision.reason}"
        if receipt.status != model_pb2.DECISION_STATUS_APPLIED:
            text = f"decision {last.id} was not followed ({last.status}): {last.detail}"
            return logging.WARNING, f"LRPilot: {text}"
        text = f"LRPilot: step {last.applied_step}: {decision.reason}"
        if last.lrs_before != last.lrs_after:
            text += f" -> LR {last.lrs_after[0]:.3g}"
        return logging.WARNING, text


def _word(prefix: str, enum: object, number: int) -> str:
    """`ACTION_ROLLBACK` -> `rollback`; the number where a newer daemon knows more words."""
    try:
        return str(enum.Name(number)).removeprefix(prefix).lower()  # type: ignore[attr-defined]
    except ValueError:
        return str(number)
