"""Trials and studies in words: what a reviewer reads in the dashboard, in Markdown."""

import math
from collections.abc import Sequence

from lrpilot_controller.core.events import Commanded
from lrpilot_controller.core.findings import SearchResult
from lrpilot_controller.core.model import Action, DecisionStatus, Outcome, Verdict
from lrpilot_controller.journal.base import RunKey
from lrpilot_controller.story.model import word_of
from lrpilot_controller.tuning.cases import Case, End

NOTES_PER_STUDY = 59
"""The newest trials of a study that have one, beside its own: what they cost is quadratic."""
SHADOWS_NOTED = 20
"""Of what was never done: it must not use up the notes of what was."""
MAX_NOTE = 12_000
"""Characters of one; sixty of them and a picture are within a megabyte."""

_DEED = {
    Action.ROLLBACK: ("rolled back and cut the LR", "roll back and cut the LR"),
    Action.CUT: ("cut the LR", "cut the LR"),
    Action.STOP: ("stopped the run", "stop the run"),
}
_NOT_DONE = {
    DecisionStatus.EXPIRED: "It came too late, or nobody approved it before it expired",
    DecisionStatus.REJECTED: "The trainer, or a person, refused it",
    DecisionStatus.SUPERSEDED: "A newer decision took its place",
    DecisionStatus.STALE: "The trainer had moved on to another branch or daemon",
    DecisionStatus.SHADOW: "The run's mode lets LRPilot only say what it would do",
}


def trial_note(case: Case) -> str:
    """A decision as an entry of an engineer's log, and what a reader can do about it."""
    run, number = code(str(case.run)), case.decision.id
    verdict = f"`lrpilot verdict {run} {number} good` (or `bad`)"
    return "\n\n".join(
        [
            log_entry(case),
            f"**Was it right?** {verdict} says so, and later runs learn from it.",
            f"**Look further.** `lrpilot show {run}` prints the run with all its decisions; this "
            f"is its decision {number}.",
        ]
    )


def log_entry(case: Case) -> str:
    """A decision as an entry of an engineer's log: seen, done, what came of it, the cost."""
    return "\n\n".join(
        [
            f"### {_title(case)}",
            f"**Seen.** {_seen(case)}",
            *_evidence(case),
            f"**Done.** {_done(case)}",
            f"**What came of it.** {_result(case)}",
            f"**Cost.** {_cost(case)}",
            *([f"**Verdict.** {_judged(case.judged)}"] if case.judged else []),
        ]
    )


def study_note(project: str, signal: str, family: str) -> str:
    """What a study of interventions holds, and how its numbers are to be read."""
    return f"""\
### What LRPilot did about `{code(signal)}` in runs of project `{code(project)}` ({family})

Each trial is one decision. `factor` is what it multiplied the learning rate by. The value `gain`
is the fall of the smoothed train loss over the decision's probation, relative to the range that
the run had covered, within [-1, 1]; -1 also means that the run blew up again.

- **Complete**: applied and measured.
- **Running**: sent, on probation, or waiting for a person's approval.
- **Fail**: nothing was learnt. The attribute `outcome` says why: `shadow` (only said, never done),
  `expired`, `rejected`, `superseded`, `stale`, `unanswered`, `unfinished` (the run ended, or
  another decision came), `stopped` (the run was asked to stop), `unknown` (not in the journal).

The newest {NOTES_PER_STUDY} trials have a note; everything in it is in the attributes of the older
ones too. What a person said of trial N is the attribute `verdict.N` of this study. This is a copy
for review: the journal is the record, and what is missing here is written again from it."""


def runs_note(project: str) -> str:
    """What the study of a project's runs holds."""
    return f"""\
### The runs of project `{code(project)}`

Each trial is one run. `lr` is the learning rate, of the first param group, that a search found for
it, or where `end` is neither `found` nor `reused` its own base rate; `prior` what earlier runs told
it, `plan` what the search led to. The value is the run's final loss: its last validation loss, or
else its smoothed train loss; `measure` says which. Compare trials of one `job` only.

- **Complete**: the run finished.
- **Running**: it trains, at what a search found.
- **Fail**: it has no final loss. The attribute `outcome` says why: `stopped`, `error`, `lost`,
  `non_finite`, `searched_again` (the next trial tells what with), `unknown` (not in the journal).

The next run of the same job asks here first. This is a copy: the journal is the record, and what
is missing here is written again from it."""


def run_note(run: RunKey, result: SearchResult) -> str:
    """What a search found, as an entry of an engineer's log."""
    return "\n\n".join(
        [
            f"### LR {result.lr:.4g}, {result.end.value}",
            search_entry(result),
            f"**Look further.** `lrpilot show {code(str(run))}` draws the loss against the LR.",
        ]
    )


def search_entry(result: SearchResult) -> str:
    """Why a search ended as it did, what it tried and what it cost."""
    rows = [
        f"| {c.lr:.4g} | {f'{c.score:.5g}' if math.isfinite(c.score) else 'diverged'} | {c.steps} |"
        for c in result.candidates
    ]
    table = ["\n".join(["| LR | score | steps |", "| ---: | ---: | ---: |", *rows])] * bool(rows)
    return "\n\n".join(
        [
            f"**Reason.** {sentence(result.reason)}.",
            *table,
            f"**Cost.** {result.steps} steps of the run.",
        ]
    )


def probes_note(run: RunKey) -> str:
    """What the study of a run's probes holds."""
    return f"""\
### What the searches of run `{code(str(run))}` tried

Each trial is one learning rate of a search's ladder: a few training steps at it, from the same
state and on the same batches as every other. The value is the mean loss at their end, lower is
better; the intermediate values are the loss of each step. Written when the search is over.

- **Complete**: scored.
- **Fail**: `diverged`, or `interrupted`, as the attribute `outcome` says."""


def _title(case: Case) -> str:
    kind = case.decision.signal.kind.value if case.decision.signal else "no signal"
    done, intent = _DEED.get(case.decision.action, (case.decision.action.value,) * 2)
    if case.status is DecisionStatus.SHADOW:
        deed = f"would {intent}"
    elif case.status is not DecisionStatus.APPLIED:
        deed = f"asked to {intent}"
    else:
        deed = done
    return f"Step {case.decision.step}: {kind}, {deed}"


def _seen(case: Case) -> str:
    signal = case.decision.signal
    if signal is None:
        return sentence(case.decision.reason)
    began = f", which began at step {signal.since}" if signal.since != signal.step else ""
    return (
        f"`{signal.kind.value}` at step {signal.step}{began}, severity {signal.severity:.2g} of 1."
    )


def _evidence(case: Case) -> list[str]:
    signal = case.decision.signal
    if signal is None or not signal.evidence:
        return []
    rows = [f"| {cell(name)} | {value:.6g} |" for name, value in signal.evidence.items()]
    return ["\n".join(["| evidence | value |", "| --- | ---: |", *rows])]


def _done(case: Case) -> str:
    decision, receipt = case.decision, case.receipt
    reason = f"Reason: {sentence(decision.reason)}"
    if case.status is not DecisionStatus.APPLIED or receipt is None:
        return f"Nothing. {reason}"
    what = f"Applied at step {receipt.applied_step}"
    if decision.restore_snapshot is not None:
        what += f", from snapshot {decision.restore_snapshot} (branch {receipt.branch_after})"
    if decision.stop:
        return f"{what}: the run was asked to stop. {reason}"
    before, after = _lrs(receipt.lrs_before), _lrs(receipt.lrs_after)
    return f"{what}: LR {before} to {after} (x{decision.factor:.3g}). {reason}"


def _result(case: Case) -> str:
    if case.status in _NOT_DONE:
        said = case.receipt.detail if case.receipt else ""
        why = f" ({sentence(said)})" if said else ""
        return f"{_NOT_DONE[case.status]}{why}. Nothing can be learnt from it."
    if case.pending and case.status is DecisionStatus.PROPOSED:
        return "It waits for a person's approval."
    if case.outcome is not None:
        return f"{_verdict(case.outcome)}{_losses(case.outcome)}"
    return {
        End.PENDING: "The trainer has not answered yet.",
        End.ON_PROBATION: "It is on probation: too early to say.",
        End.STOPPED: "The run ended here, so there is nothing to measure.",
        End.UNANSWERED: "The attempt ended before the trainer answered.",
    }.get(End(case.end), "The attempt ended before anything could be measured.")


def _verdict(outcome: Outcome) -> str:
    steps = f"{outcome.steps} step{'' if outcome.steps == 1 else 's'} of probation"
    gain = f"gain {outcome.gain:+.2f}"
    match outcome.verdict:
        case Verdict.UNFINISHED:
            return f"Unknown: the run ended, or another decision came, after {steps}."
        case Verdict.ROLLED_BACK:
            return f"It did not hold: the run blew up again within {steps}, {gain}."
        case Verdict.UNCHANGED:
            return f"No visible change in {steps}, {gain}."
    word = "better" if outcome.verdict is Verdict.IMPROVED else "worse"
    return f"The loss got {word} in {steps}, {gain}."


def _losses(outcome: Outcome) -> str:
    before, after = outcome.loss_before, outcome.loss_after
    if before is None or after is None:
        return ""
    return f" The smoothed loss went from {before:.5g} to {after:.5g}."


def _cost(case: Case) -> str:
    if case.status is not DecisionStatus.APPLIED or case.receipt is None:
        return "None."
    undone = f"{case.undone_steps} steps were undone" if case.undone_steps else "No steps undone"
    return f"{undone}; training waited {case.receipt.wait_seconds:.3g} s."


def _judged(judged: Commanded) -> str:
    word = f"**{word_of(bool(judged.good))}**, says {sentence(judged.who or 'somebody')}"
    return f"{word}: {sentence(judged.why)}." if judged.why else f"{word}."


def _lrs(lrs: Sequence[float]) -> str:
    return ", ".join(f"{lr:.4g}" for lr in lrs) or "unknown"


def sentence(text: str) -> str:
    """Text of others as it is, where Markdown means nothing."""
    return f"`{code(text)}`" if text else "none given"


def code(text: str) -> str:
    """Text of others within a code span, where Markdown means nothing."""
    return text.replace("`", "'").replace("\n", " ")


def cell(text: str) -> str:
    """Text of others within a table."""
    return f"`{code(text)}`".replace("|", "\\|")
