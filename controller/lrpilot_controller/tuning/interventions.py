"""What a decision about a signal was, and did, as a trial."""

import math
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from lrpilot_controller.core.settings import GuardSettings
from lrpilot_controller.journal.base import Journal
from lrpilot_controller.story.model import GOOD, word_of
from lrpilot_controller.tuning.cases import Case, probation_curve
from lrpilot_controller.tuning.entries import VERDICT, Entry, Home, Param, State, plain
from lrpilot_controller.tuning.notes import study_note, trial_note
from lrpilot_controller.tuning.searches import probes_home

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

KIND = "interventions"
_WIDE = 80  # characters

JUDGED = 0.5
"""What a person's verdict is worth at least: a clear success, or a clear failure."""


def counted_gain(gain: float | None, good: bool | None) -> float | None:
    """The gain that a decision counts with once a person has judged it.

    A good one counts as JUDGED at least, a bad one as -JUDGED at most, also where nothing was
    measured. The trial's own value stays what was measured, so that a person may think again.

    Args:
        gain: What was measured, within [-1, 1]; None where nothing was.
        good: A person's verdict; None: nobody has said.
    """
    if good is None:
        return gain
    if good:
        return JUDGED if gain is None else max(gain, JUDGED)
    return -JUDGED if gain is None else min(gain, -JUDGED)


def gain_of(trial: "FrozenTrial", study: Mapping[str, Any]) -> float | None:
    """The gain that a finished trial counts with; None where nothing can be learnt from it.

    This is what a policy must learn from, not `trial.value`: it knows what people said.

    Args:
        trial: Of a study of interventions.
        study: The user attributes of its study.
    """
    word = study.get(f"{VERDICT}{trial.number}")
    good = None if word is None else str(word).startswith(GOOD)
    applied = trial.user_attrs.get("status") == "applied"
    return counted_gain(trial.value, good if applied else None)


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
        params={"factor": _factor(factor, case.decision.rule)} if known else {},
        attributes=attributes(case),
        curve=partial(probation_curve, journal, case),
        started=case.decided_at,
        ended=None if case.pending else case.ended_at or case.decided_at,
        note=partial(trial_note, case),
        page=probes_home(case.run),
        verdict=_verdict(case),
    )


def _verdict(case: Case) -> str:
    """What a person said, in a short line; empty where nobody did."""
    if case.judged is None:
        return ""
    said = f"{word_of(bool(case.good))}, {case.judged.who or 'somebody'}"
    return _cut(f"{said}: {case.judged.why}" if case.judged.why else said)


def _home(case: Case) -> Home:
    project = case.run.project
    signal = case.decision.signal.kind.value if case.decision.signal else "none"
    optimizer = case.attempt.optimizer if case.attempt else ""
    family = optimizer_family(optimizer)
    return Home(
        kind=KIND,
        name=interventions_study(project, signal, optimizer),
        metric="gain",
        maximize=True,
        about={"project": project, "signal": signal, "optimizer": family},
        note=study_note(project, signal, family),
    )


def interventions_study(project: str, signal: str, optimizer: str) -> str:
    """The name of the study of what was done about a signal under an optimizer."""
    return f"{project}/{KIND}/{signal}/{optimizer_family(optimizer)}"


def optimizer_family(optimizer: str) -> str:
    """The optimizers whose learning rates behave alike: `sgd`, `adam` or `other`."""
    name = optimizer.lower()
    return next((family for family in ("adam", "sgd") if family in name), "other")


def _factor(factor: float, rule: float | None) -> Param:
    """Factors around the guard's rule; wider where the guardrails left a factor beyond it."""
    rule = rule or GuardSettings().factor
    return Param(factor, min(rule / 3, factor), max(rule * 3, factor))


def _cut(text: str) -> str:
    """The note has all of it; the dashboard's page grows as wide as the longest attribute."""
    return text if len(text) <= _WIDE else text[: _WIDE - 1] + "…"


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
        "reason": _cut(decision.reason),
        "step": decision.step,
        "branch": decision.branch,
        "optimizer": case.attempt.optimizer if case.attempt else None,
        "rule": decision.rule,
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
            "detail": _cut(receipt.detail) or None,
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
