"""What happened to a run, newest first: signals, decisions and their outcomes, people's words."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from rich.table import Table
from rich.text import Text

from lrpilot_controller.cli.words import action_of, number, status_of
from lrpilot_proto.v1 import model_pb2, operator_pb2

_SEARCHING = "magenta"
_STATUS = {
    "applied": "green",
    "sent": "yellow",
    "approved": "yellow",
    "proposed": "bold yellow",
}
_VERDICT = {"improved": "green", "worse": "red", "rolled_back": "red"}


@dataclass(frozen=True, slots=True)
class Happening:
    """One line for a person, with what explains it."""

    step: int
    title: Text
    details: tuple[Text, ...] = ()


def feed(story: operator_pb2.RunStory) -> Table:
    """What happened, newest first."""
    table = Table.grid(padding=(0, 1), expand=True)
    table.add_column(justify="right", style="dim", no_wrap=True)
    table.add_column(ratio=1)
    for one in happenings(story):
        table.add_row(f"{one.step:,}", one.title)
        for detail in one.details:
            table.add_row("", detail)
    return table


def happenings(story: operator_pb2.RunStory) -> list[Happening]:
    """The same as values."""
    found = [_signal(signal) for signal in story.signals]
    found += [_refusal(refusal) for refusal in story.refusals]
    found += _decisions(story)
    found += [_command(command) for command in story.commands]
    found += [_notice(notice) for notice in story.notices]
    found.sort(key=lambda one: one.step)  # of one step: the signal, then what was decided
    return found[::-1]


def _signal(signal: model_pb2.Signal) -> Happening:
    title = Text.assemble(("! ", "red"), (signal.kind, "bold red"))
    title.append(f" since step {signal.since:,}, severity {signal.severity:.2f}", "red")
    return Happening(signal.step, title)


def _refusal(refusal: operator_pb2.RefusalStory) -> Happening:
    title = Text.assemble(("· ", "dim"), f"nothing done about {refusal.signal}")
    return Happening(refusal.step, title, (Text(refusal.reason, "dim"),))


def _command(command: operator_pb2.CommandStory) -> Happening:
    asked = command.kind.replace("_", "-")
    title = Text.assemble(("> ", "blue"), (f"{command.who or 'somebody'}: {asked}", "blue"))
    return Happening(command.step, title, (Text(command.why, "dim"),) if command.why else ())


def _notice(notice: str) -> Happening:
    place, _, text = notice.partition(": ")
    digits = place.removeprefix("step ")
    title = Text.assemble(("i ", "yellow"), (text or notice, "yellow"))
    return Happening(int(digits) if digits.isdecimal() else 0, title)


def _decisions(story: operator_pb2.RunStory) -> Iterator[Happening]:
    """The programs of one phase of a search that follow each other are one happening."""

    def phase(told: operator_pb2.DecisionStory) -> str | int:
        decision = told.decision
        return decision.program.phase if decision.HasField("program") else decision.id

    name = f"{story.summary.run.project}/{story.summary.run.name}"
    for key, group in groupby(story.decisions, phase):
        if isinstance(key, str):
            yield _programs(key, list(group))
        else:
            for told in group:
                yield _decision(told, name)


def _programs(phase: str, told: Sequence[operator_pb2.DecisionStory]) -> Happening:
    lrs = [one.decision.program.lr for one in told]
    low, high = min(lrs), max(lrs)
    title = Text.assemble(("◆ ", _SEARCHING), (f"search, {phase}", _SEARCHING))
    title.append(f": {len(told)} program{'s' * (len(told) != 1)} at LR {low:.3g}")
    title.append(f" to {high:.3g}" * (low < high))
    return Happening(told[-1].decision.step, title)


def _decision(told: operator_pb2.DecisionStory, run: str) -> Happening:
    decision, receipt = told.decision, told.receipt
    status = status_of(decision.status)
    title = Text.assemble(
        ("◆ ", "green"), (f"{decision.id}. {action_of(decision.action)} ", "bold")
    )
    title.append(status, _STATUS.get(status, "dim"))
    if status == "applied" and receipt.lrs_after:
        title.append(f"  LR {number(receipt.lrs_before[0])} → {number(receipt.lrs_after[0])}")
    details = [Text(decision.reason, "dim")]
    if status == "proposed":
        wait = f"waits until step {decision.expires_at_step:,}: "
        details.append(Text.assemble((wait, "yellow"), f"lrpilot approve {run} {decision.id}"))
    elif told.who:
        details.append(Text(f"by {told.who}", "dim"))
    if receipt.detail:
        details.append(Text(receipt.detail, "dim"))
    if told.HasField("outcome"):
        outcome = told.outcome
        verdict = outcome.verdict.replace("_", " ")
        text = f"{verdict}, gain {outcome.gain:+.2f} over {outcome.steps:,} steps"
        details.append(Text(text, _VERDICT.get(outcome.verdict, "")))
    return Happening(decision.step, title, tuple(details))
