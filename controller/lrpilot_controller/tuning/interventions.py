"""What a decision about a signal was, and did, as a trial."""

import math
from functools import partial
from typing import Any

from lrpilot_controller.core.settings import GuardSettings
from lrpilot_controller.journal.base import Journal
from lrpilot_controller.tuning.cases import Case, probation_curve
from lrpilot_controller.tuning.entries import Entry, Home, Param, State, plain
from lrpilot_controller.tuning.notes import study_note, trial_note, worth_a_note

KIND = "interventions"


def entry_of(journal: Journal, case: Case) -> Entry:
    """A decision as a trial."""
    factor = case.decision.factor
    known = math.isfinite(factor) and factor > 0
    state = State.RUNNING
    if not case.pending:
        state = State.FAIL if case.gain is None else State.COMPLETE
    return Entry(
        home=_home(case),
        identity=(KIND, *case.identity),
        state=state,
        value=case.gain,
        params={"factor": _factor(factor)} if known else {},
        attributes=attributes(case),
        curve=partial(probation_curve, journal, case),
        started=case.decided_at,
        ended=None if case.pending else case.ended_at or case.decided_at,
        note=lambda number: trial_note(case) if worth_a_note(case, number) else "",
    )


def _home(case: Case) -> Home:
    project = case.run.project
    signal = case.decision.signal.kind.value if case.decision.signal else "none"
    family = optimizer_family(case.attempt.optimizer if case.attempt else "")
    return Home(
        kind=KIND,
        name=f"{project}/{KIND}/{signal}/{family}",
        metric="gain",
        maximize=True,
        about={"project": project, "signal": signal, "optimizer": family},
        note=study_note(project, signal, family),
    )


def optimizer_family(optimizer: str) -> str:
    """The optimizers whose learning rates behave alike: `sgd`, `adam` or `other`."""
    name = optimizer.lower()
    return next((family for family in ("adam", "sgd") if family in name), "other")


def _factor(factor: float) -> Param:
    """Factors around the guard's rule; wider where the guardrails left a factor beyond it."""
    rule = GuardSettings().factor
    return Param(factor, min(rule / 3, factor), max(rule * 3, factor))


def attributes(case: Case) -> dict[str, Any]:
    """Everything that a reviewer may want to sort or filter by; what is not known is left out."""
    decision, receipt, outcome = case.decision, case.receipt, case.outcome
    run, attempt, number = case.identity
    found: dict[str, Any] = {
        "run": run,
        "attempt": attempt,
        "decision_id": number,
        "action": decision.action.value,
        "status": case.status.value,
        "outcome": str(case.end),
        "reason": decision.reason,
        "step": decision.step,
        "branch": decision.branch,
        "optimizer": case.attempt.optimizer if case.attempt else None,
    }
    if signal := decision.signal:
        found |= {
            "signal": signal.kind.value,
            "signal_step": signal.step,
            "signal_since": signal.since,
            "severity": signal.severity,
        }
        found |= {f"evidence.{name}": value for name, value in signal.evidence.items()}
    if receipt is not None:
        found |= {
            "lrs_before": list(receipt.lrs_before),
            "lrs_after": list(receipt.lrs_after),
            "wait_seconds": receipt.wait_seconds,
            "detail": receipt.detail or None,
        }
        if case.status.value == "applied":
            found |= {
                "applied_step": receipt.applied_step,
                "rolled_back_steps": case.undone_steps,
            }
    if outcome is not None:
        found |= {
            "steps": outcome.steps,
            "loss_before": outcome.loss_before,
            "loss_after": outcome.loss_after,
        }
    return {key: plain(value) for key, value in found.items() if value is not None}
