"""`lrpilot show RUN`: a run's story for a person, or as JSON."""

import json
import math
from pathlib import Path

import click

from lrpilot_controller.cli.options import journal_in, json_option, storage_option
from lrpilot_controller.story import DecisionTold, Story, story_of


@click.command()
@click.argument("run")
@storage_option
@json_option
def show(run: str, storage: Path | None, as_json: bool) -> None:
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
    if any(math.isfinite(point.loss) for point in story.points):
        lines += ["", picture(story)]
    lines += ["", "signals:"] + [
        f"  step {s.step}: {s.kind} since step {s.since}, severity {s.severity:.2g}"
        + "".join(f", {name} {value:.4g}" for name, value in s.evidence.items())
        for s in story.signals
    ]
    lines += ["", "decisions:"]
    for told in story.decisions:
        lines += _decision_lines(told)
    lines += [f"  refused at step {r.step} ({r.signal}): {r.reason}" for r in story.refusals]
    lines += [f"notice at step {n.step} ({n.kind}): {n.text}" for n in story.notices]
    cost = story.cost
    lines += [
        "",
        f"cost: {cost.rolled_back_steps} steps rolled back, {cost.probe_steps} probe steps, "
        f"{cost.wait_seconds:.2f} s waited",
    ]
    return lines


def _decision_lines(told: DecisionTold) -> list[str]:
    decision, receipt, outcome = told.decision, told.receipt, told.outcome
    lines = [f"  {decision.id}. step {decision.step}: {decision.action} [{told.status}]"]
    lines.append(f"     {decision.reason}")
    if receipt is not None and told.applied_step is not None:
        before = ", ".join(f"{lr:.4g}" for lr in receipt.lrs_before)
        after = ", ".join(f"{lr:.4g}" for lr in receipt.lrs_after)
        lines.append(f"     applied at step {receipt.applied_step}: LR {before} -> {after}")
    elif receipt is not None and receipt.detail:
        lines.append(f"     {receipt.detail}")
    if outcome is not None:
        lines.append(
            f"     outcome after {outcome.steps} steps: {outcome.verdict}, gain {outcome.gain:+.2f}"
            + f" (loss {_number(outcome.loss_before)} -> {_number(outcome.loss_after)})"
        )
    return lines


def _number(value: float | None) -> str:
    return "?" if value is None else f"{value:.4g}"


def picture(story: Story, width: int = 90, height: int = 16) -> str:
    """Loss and LR over the steps as text; what a rollback left is drawn with dots."""
    import plotext as plt

    finite = [p for p in story.points if math.isfinite(p.loss)]
    kept = sorted(p.loss for p in finite if not p.left) or sorted(p.loss for p in finite)
    top = kept[-1] + 0.5 * (kept[-1] - kept[0])  # a blow-up must not flatten the rest
    plt.clear_figure()
    plt.theme("clear")
    plt.plot_size(width, height)
    for left, marker, label in ((True, ".", "rolled back"), (False, "braille", "train loss")):
        part = [p for p in finite if p.left is left]
        if part:
            plt.plot(
                [p.step for p in part],
                [min(p.loss, top) for p in part],
                marker=marker,
                label=label,
            )
    plt.title(f"train loss of {story.run}")
    loss = plt.build()
    plt.clear_figure()
    plt.theme("clear")
    plt.plot_size(width, max(7, height // 2))
    applied = [p for p in story.points if math.isfinite(p.lr) and p.lr > 0]
    if applied:
        plt.plot([p.step for p in applied], [p.lr for p in applied], marker="braille")
        plt.yscale("log")
    plt.title("learning rate")
    return str(plt.uncolorize(f"{loss}\n{plt.build()}"))  # it resets colours that it never set
