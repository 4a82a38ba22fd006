"""A decision in one line: what was seen, what was done, what came of it."""

from lrpilot_controller.core.model import Action, DecisionStatus, Outcome, Verdict
from lrpilot_controller.story.model import DecisionTold

_DEED = {
    Action.ROLLBACK: "rolled back",
    Action.CUT: "cut",
    Action.STOP: "stopped the run",
    Action.PLAN: "set the plan",
    Action.RELEASE: "released",
}
_CAME = {
    Verdict.IMPROVED: "better",
    Verdict.UNCHANGED: "no change",
    Verdict.WORSE: "worse",
    Verdict.ROLLED_BACK: "blew up again",
    Verdict.UNFINISHED: "nothing measured",
}


def line_of(told: DecisionTold) -> str:
    """What a reader must know of a decision, in a line."""
    decision = told.decision
    why = decision.signal.kind.value if decision.signal else decision.who or "search"
    deed = _DEED.get(decision.action, decision.action.value)
    if told.status is not DecisionStatus.APPLIED:
        return f"step {decision.step}: {why}: {deed} ({told.status}, not done)"
    return f"step {told.applied_step}: {why}: {deed}{_lrs(told)}{_came(told.outcome)}" + (
        f"; judged {told.verdict}" if told.verdict else ""
    )


def _lrs(told: DecisionTold) -> str:
    receipt = told.receipt
    if receipt is None or not receipt.lrs_before or not receipt.lrs_after:
        return ""
    before, after = receipt.lrs_before[0], receipt.lrs_after[0]
    return f", LR {before:.3g} to {after:.3g}" if before != after else ""


def _came(outcome: Outcome | None) -> str:
    if outcome is None:
        return ""
    gain = "" if outcome.verdict is Verdict.UNFINISHED else f", gain {outcome.gain:+.2f}"
    return f"; {_CAME[outcome.verdict]}{gain}"
