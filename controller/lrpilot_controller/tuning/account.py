"""A run's whole story in Markdown: the note of its page, and the text of `lrpilot report`."""

from collections.abc import Iterator, Sequence

from lrpilot_controller.core.findings import SearchResult
from lrpilot_controller.core.model import Verdict
from lrpilot_controller.story.lines import count_of, line_of, notable
from lrpilot_controller.story.model import Story
from lrpilot_controller.tuning.cases import Case
from lrpilot_controller.tuning.notes import cell, code, log_entry, search_entry, sentence

SIGNALS = 100  # the newest, in the table

_CAME = {
    Verdict.IMPROVED: "made the loss better",
    Verdict.UNCHANGED: "changed nothing to be seen",
    Verdict.WORSE: "made it worse",
    Verdict.ROLLED_BACK: "did not hold",
    Verdict.UNFINISHED: "could not be measured",
}


def account_of(story: Story, cases: Sequence[Case]) -> str:
    """The story: in short, then what searches found, what was decided and what was seen."""
    parts = [
        f"### {code(str(story.run))}: {story.state.value} at step {story.step}",
        f"**In short.** {_short(story)}",
        *_searches(story.searches),
        *(log_entry(case) for case in cases),
        *_others(story, {case.decision.id for case in cases}),
        *_signals(story),
        *_list("Refused", (_at(r.step, f"{r.signal.value}: {r.reason}") for r in story.refusals)),
        *_list("Notices", (_at(n.step, f"{n.kind}: {n.text}") for n in story.notices)),
    ]
    return "\n\n".join(parts)


def _short(story: Story) -> str:
    cost = story.cost
    kinds = sorted({signal.kind.value for signal in story.signals})
    seen = f"LRPilot saw {count_of(len(story.signals), 'signal')}"
    seen += f" ({', '.join(kinds)})" * bool(kinds)
    spent = cost.rolled_back_steps + cost.probe_steps
    lrs = ", ".join(f"{lr:.4g}" for lr in story.lrs)
    loss = "" if story.loss is None else f", with a train loss of {story.loss:.5g}"
    return (
        f"{seen} and carried out {_outcomes(story)}. It cost {cost.rolled_back_steps} steps undone "
        f"and {cost.probe_steps} probed, {100 * spent / max(story.step, 1):.1f} % of the run, and "
        f"{cost.wait_seconds:.2g} s of waiting. It stands at LR {lrs or 'unknown'}{loss}."
    )


def _outcomes(story: Story) -> str:
    applied = [told for told in notable(story.decisions) if told.applied_step is not None]
    came = [
        f"{count} {words}"
        for verdict, words in _CAME.items()
        if (count := sum(t.outcome is not None and t.outcome.verdict is verdict for t in applied))
    ]
    return count_of(len(applied), "decision") + f": {', '.join(came)}" * bool(came)


def _searches(searches: Sequence[SearchResult]) -> Iterator[str]:
    for result in searches:
        yield f"### Search: {result.end.value.replace('_', ' ')}, LR {result.lr:.4g}"
        yield search_entry(result)


def _others(story: Story, told: set[int]) -> Iterator[str]:
    """What people and searches decided, in a line each."""
    yield from _list(
        "What people asked",
        (_at(c.step, f"{c.who or 'somebody'}: {c.kind} {c.why}") for c in story.commands),
    )
    rest = [t for t in notable(story.decisions) if t.decision.id not in told]
    yield from _list("Other decisions", (f"{t.decision.id}. {sentence(line_of(t))}" for t in rest))


def _signals(story: Story) -> Iterator[str]:
    newest = story.signals[-SIGNALS:]
    if not newest:
        return
    rows = [
        f"| {s.step} | `{s.kind.value}` | {s.since} | {s.severity:.2g} | "
        + ", ".join(f"{cell(name)} {value:.4g}" for name, value in s.evidence.items())
        + " |"
        for s in newest
    ]
    left_out = len(story.signals) - len(newest)
    yield "### Signals" + f" (the newest; {left_out} before them)" * bool(left_out)
    heads = [
        "| step | signal | since | severity | evidence |",
        "| ---: | --- | ---: | ---: | --- |",
    ]
    yield "\n".join([*heads, *rows])


def _list(title: str, lines: Iterator[str]) -> Iterator[str]:
    if items := [f"- {line}" for line in lines]:
        yield f"### {title}"
        yield "\n".join(items)


def _at(step: int, text: str) -> str:
    return f"step {step}: {sentence(text)}"
