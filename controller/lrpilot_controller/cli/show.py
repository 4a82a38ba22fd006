"""`lrpilot show RUN`: a run's story for a person, or as JSON."""

import json
import math
from collections.abc import Iterator, Sequence
from itertools import groupby

import click

from lrpilot_controller.cli.options import journal_in, json_option, storage_option
from lrpilot_controller.cli.pictures import picture, search_picture
from lrpilot_controller.core.model import DecisionStatus
from lrpilot_controller.storage import Storage
from lrpilot_controller.story import DecisionTold, Story, story_of


@click.command()
@click.argument("run")
@storage_option
@json_option
def show(run: str, storage: Storage | None, as_json: bool) -> None:
    """Tell the story of RUN: project/name, or name where that is unique."""
    with journal_in(storage) as journal:
        story = story_of(journal, run)
    if as_json:
        click.echo(json.dumps(story.to_json(), indent=2, allow_nan=False))
        return
    for line in _lines(story):
        click.echo(line)


def _lines(story: Story) -> list[str]:
    lrs = ", ".join(f"{lr:.4g}" for lr in story.lrs)
    lines = [
        f"{story.run}: {story.state}, mode {story.mode}, step {story.step}, LR {lrs}",
        f"{story.received} losses recorded, {story.dropped} dropped, "
        f"{story.attempts} attempt{'s' * (story.attempts != 1)}",
    ]
    if (thinned := story.thinned) is not None:
        lines.append(
            f"{thinned.count} of them are thinned, between steps {thinned.first_step} and "
            f"{thinned.last_step}: the extremes are held, and all around signals and decisions"
        )
    if (progress := story.progress) is not None:
        lines.append(
            f"search: {progress.phase}, LR {progress.lr:.3g}, {100 * progress.share:.0f} % "
            "of its budget"
        )
    if any(math.isfinite(point.loss) for point in story.points):
        lines += ["", picture(story)]
    lines += _search_lines(story)
    lines += ["", "signals:"] + [
        f"  step {s.step}: {s.kind} since step {s.since}, severity {s.severity:.2g}"
        + "".join(f", {name} {value:.4g}" for name, value in s.evidence.items())
        for s in story.signals
    ]
    lines += ["", "decisions:"]
    for told in _folded(story.decisions):
        lines += _decision_lines(told) if isinstance(told, DecisionTold) else _program_line(told)
    lines += [f"  refused at step {r.step} ({r.signal}): {r.reason}" for r in story.refusals]
    lines += [
        f"  {c.who or 'somebody'} asked at step {c.step}: {c.kind.replace('_', '-')}"
        + f": {c.why}" * bool(c.why)
        for c in story.commands
    ]
    lines += [f"notice at step {n.step} ({n.kind}): {n.text}" for n in story.notices]
    cost = story.cost
    lines += [
        "",
        f"cost: {cost.rolled_back_steps} steps rolled back, {cost.probe_steps} probe steps, "
        f"{cost.wait_seconds:.2f} s waited",
    ]
    return lines


def _search_lines(story: Story) -> list[str]:
    """The newest search's result, and its picture."""
    if not story.searches:
        return []
    result = story.searches[-1]
    lines = [
        "",
        f"search: {result.end.replace('_', ' ')}, LR {result.lr:.4g} after {result.steps} steps: "
        f"{result.reason}",
    ]
    for tried in result.candidates:
        score = f"{tried.score:.4g}" if math.isfinite(tried.score) else "diverged"
        lines.append(f"  LR {tried.lr:.4g}: {score} ({tried.steps} steps)")
    drawn = search_picture(result)
    return [*lines, "", drawn] if drawn else lines


def _folded(decisions: Sequence[DecisionTold]) -> Iterator[DecisionTold | list[DecisionTold]]:
    """The decisions, where the programs of one phase that follow each other are one list."""

    def phase(told: DecisionTold) -> str | int:
        program = told.decision.program
        return told.decision.id if program is None else program.phase

    for key, group in groupby(decisions, phase):
        if isinstance(key, str):
            yield list(group)
        else:
            yield from group


def _program_line(told: list[DecisionTold]) -> list[str]:
    programs = [t.decision.program for t in told if t.decision.program is not None]
    lrs = [program.lr for program in programs]
    low, high = min(lrs), max(lrs)
    ids = f"{told[0].decision.id}" + f"-{told[-1].decision.id}" * (len(told) > 1)
    return [
        f"  {ids}. step {told[0].decision.step}: search, {programs[0].phase}: "
        f"{len(told)} program{'s' * (len(told) != 1)} at LR {low:.3g}"
        + f" to {high:.3g}" * (low < high)
        + f", {sum(t.steps for t in told)} steps",
        *(f"     {told[0].decision.reason}" for program in programs[:1] if program.share == 0),
    ]


def _decision_lines(told: DecisionTold) -> list[str]:
    decision, receipt, outcome = told.decision, told.receipt, told.outcome
    lines = [f"  {decision.id}. step {decision.step}: {decision.action} [{told.status}]"]
    lines.append(f"     {decision.reason}")
    if told.status is DecisionStatus.PROPOSED:
        lines.append(
            f"     waits until step {decision.expires_at_step}: lrpilot approve RUN {decision.id}"
        )
    elif told.who and decision.who is None:
        lines.append(f"     {told.status if told.receipt is None else 'approved'} by {told.who}")
    if receipt is not None and told.applied_step is not None:
        before = ", ".join(f"{lr:.4g}" for lr in receipt.lrs_before)
        after = ", ".join(f"{lr:.4g}" for lr in receipt.lrs_after)
        lines.append(f"     applied at step {receipt.applied_step}: LR {before} -> {after}")
    elif receipt is not None and receipt.detail:
        lines.append(f"     {receipt.detail}")
    if told.verdict is not None:
        lines.append(f"     judged {told.verdict} by {told.remark or 'somebody'}")
    if outcome is not None:
        lines.append(
            f"     outcome after {outcome.steps} steps: {outcome.verdict}, gain {outcome.gain:+.2f}"
            + f" (loss {_number(outcome.loss_before)} -> {_number(outcome.loss_after)})"
        )
    return lines


def _number(value: float | None) -> str:
    return "?" if value is None else f"{value:.4g}"
