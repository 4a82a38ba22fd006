"""A decision in one line: what was seen, what was done, what came of it."""

from collections.abc import Iterable, Iterator

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


def notable(decisions: Iterable[DecisionTold]) -> Iterator[DecisionTold]:
    """Those that change something by themselves: no notes, and none of a search's programs."""
    for told in decisions:
        decision = told.decision
        if decision.action is not Action.NOTE and decision.program is None:
            yield told


def step_of(told: DecisionTold) -> int:
    """The step at which a decision stands in a run: from where it was in force, if it ever was."""
    return told.decision.step if told.applied_step is None else told.applied_step


def count_of(number: int, thing: str) -> str:
    """So many of a thing, in words that agree."""
    return f"{number} {thing}{'' if number == 1 else 's'}"


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
