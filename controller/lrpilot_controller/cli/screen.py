"""One run on a terminal: how it stands, its curves, and what happened, for `lrpilot watch RUN`."""

import time
from collections import deque

from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.layout import Layout
from rich.progress_bar import ProgressBar
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from lrpilot_controller.cli.feed import feed
from lrpilot_controller.cli.pictures import loss_chart, lr_chart
from lrpilot_controller.cli.words import mode_of, number, run_of, state_of
from lrpilot_proto.v1 import operator_pb2

STATE = {
    "searching": "magenta",
    "tracking": "green",
    "probation": "yellow",
    "frozen": "blue",
    "stopped": "red",
    "lost": "bold red",
    "finished": "cyan",
}
LIVE = ("searching", "tracking", "probation", "frozen")
WIDE = 110  # from here on what happened stands beside the curves
RATE_S = 15.0  # steps per second are counted over this time
QUIET_S = 5.0  # without news for so long, it is said


class Pace:
    """Steps per second, from the steps that were seen and when."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def take(self, step: int, now: float) -> None:
        """The run was at `step`; `now` in seconds, from any start."""
        if self._seen and step < self._seen[-1][1]:
            self._seen.clear()  # another attempt
        self._seen.append((now, step))
        while len(self._seen) > 2 and now - self._seen[1][0] > RATE_S:
            self._seen.popleft()

    @property
    def steps_per_second(self) -> float | None:
        """None until two looks were far enough apart."""
        if len(self._seen) < 2 or (passed := self._seen[-1][0] - self._seen[0][0]) < 0.9:
            return None
        return (self._seen[-1][1] - self._seen[0][1]) / passed


class RunScreen:
    """What is known of a run, as it is drawn."""

    def __init__(self, run: str) -> None:
        self._run = run
        self._story: operator_pb2.RunStory | None = None
        self._pace = Pace()
        self._at = time.monotonic()
        self._drawn: tuple[tuple[int, int], Group] | None = None
        self.note = ""

    def take(self, story: operator_pb2.RunStory) -> None:
        """There is news."""
        self._story = story
        self._at = time.monotonic()
        self._drawn = None
        self._pace.take(story.summary.step, self._at)

    def farewell(self) -> str:
        """What is left on the terminal in the end."""
        if self._story is None:
            return ""
        summary = self._story.summary
        return f"{run_of(summary)}: {state_of(summary)}, step {summary.step:,}, LR {_lrs(summary)}"

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        height = options.height or console.height
        if self._story is None:
            yield Text(f"{self._run}: {self.note or 'waiting for its story'}", "dim")
            return
        yield self._layout(self._story, options.max_width, height)

    def _layout(self, story: operator_pb2.RunStory, width: int, height: int) -> Layout:
        search = _search(story, width)
        head = Group(self._title(story.summary), _facts(story), *search)
        rows = 2 + len(search)
        body = height - rows - 1
        screen = Layout()
        screen.split_column(
            Layout(head, size=rows),
            Layout(self._body(story, width, body), size=body),
            Layout(self._foot(story.summary), size=1),
        )
        return screen

    def _title(self, summary: operator_pb2.RunSummary) -> Table:
        state = state_of(summary)
        left = Text.assemble((run_of(summary), "bold"), "  ", (f"● {state}", STATE.get(state, "")))
        pace = self._pace.steps_per_second if state in LIVE else None
        right = Text.assemble(("step ", "dim"), (f"{summary.step:,}", "bold"))
        if pace is not None:
            right.append(f"  {pace:,.1f}/s")
        return _sides(left, right)

    def _body(self, story: operator_pb2.RunStory, width: int, height: int) -> Layout:
        happened = Layout(Group(_rule("what happened"), feed(story)))
        body = Layout()
        if width >= WIDE:
            curves = width * 3 // 5
            body.split_row(
                Layout(self._curves(story, curves, height), size=curves),
                Layout(" ", size=1),
                happened,
            )
        elif height >= 14 and width >= 40:
            rows = max(height * 3 // 5, height - 24)
            body.split_column(Layout(self._curves(story, width, rows), size=rows), happened)
        else:
            body.split_column(happened)
        return body

    def _curves(self, story: operator_pb2.RunStory, width: int, height: int) -> Group:
        """The curves; drawn once for each story and size."""
        size = (width, height)
        if self._drawn is None or self._drawn[0] != size:
            self._drawn = (size, _draw(story, width, height))
        return self._drawn[1]

    def _foot(self, summary: operator_pb2.RunSummary) -> Table:
        quiet = time.monotonic() - self._at
        left = Text(self.note, "yellow")
        if not self.note and state_of(summary) in LIVE and quiet > QUIET_S:
            left = Text(f"no news for {quiet:.0f} s", "yellow")
        return _sides(left, Text("Ctrl-C ends", "dim"))


def _draw(story: operator_pb2.RunStory, width: int, height: int) -> Group:
    """Loss above LR, their steps at the same places."""
    lower = max(4, height // 3 - 1)
    upper = height - lower - 2
    marks = [d.receipt.applied_step for d in story.decisions if _is_change(d)]
    loss = loss_chart(story.points, width, upper, steps=False, marks=marks)
    lr = lr_chart(story.points, width, lower)
    newest = f" {number(story.summary.loss)}" if story.summary.HasField("loss") else ""
    return Group(
        _rule(f"train loss{newest}"),
        _ansi(loss),
        _rule(f"learning rate {_lrs(story.summary)}"),
        _ansi(lr),
    )


def _is_change(told: operator_pb2.DecisionStory) -> bool:
    """Whether a decision other than a search's program was applied."""
    return bool(told.receipt.lrs_after) and not told.decision.HasField("program")


def _facts(story: operator_pb2.RunStory) -> Text:
    summary, cost, telemetry = story.summary, story.cost, story.telemetry
    parts = [
        f"mode {mode_of(summary)}",
        f"attempt {summary.attempts}" * (summary.attempts > 1),
        f"{telemetry.dropped:,} losses dropped" * (telemetry.dropped > 0),
        f"{cost.probe_steps:,} steps probed" * (cost.probe_steps > 0),
        f"{cost.rolled_back_steps:,} rolled back" * (cost.rolled_back_steps > 0),
        f"{cost.wait_seconds:.1f} s waited" * (cost.wait_seconds >= 0.05),
    ]
    return Text(" · ".join(part for part in parts if part), "dim", no_wrap=True)


def _search(story: operator_pb2.RunStory, width: int) -> list[Table | Text]:
    """How far a search is, or what the newest one found."""
    if story.HasField("searching"):
        progress = story.searching
        bar = ProgressBar(
            total=1.0, completed=progress.share, width=max(8, width // 4), complete_style="magenta"
        )
        grid = Table.grid(padding=(0, 1))
        grid.add_row(
            Text(f"search: {progress.phase}, LR {number(progress.lr)}", "magenta", no_wrap=True),
            bar,
            Text(f"{100 * progress.share:.0f} % of its budget", "dim", no_wrap=True),
        )
        return [grid]
    if story.HasField("search"):
        found = story.search
        text = Text(no_wrap=True, overflow="ellipsis")
        text.append(f"search: {found.end.replace('_', ' ')}, LR {number(found.lr)}", "magenta")
        text.append(f" after {found.steps:,} steps: {found.reason}", "dim")
        return [text]
    return []


def _lrs(summary: operator_pb2.RunSummary) -> str:
    return ", ".join(number(lr) for lr in summary.lrs[:4]) + ", …" * (len(summary.lrs) > 4)


def _rule(title: str) -> Rule:
    return Rule(Text(title, "bold"), align="left", style="dim")


def _ansi(chart: str) -> Text:
    return Text.from_ansi(chart.rstrip("\n"), no_wrap=True, overflow="crop")


def _sides(left: Text, right: Text) -> Table:
    left.no_wrap, left.overflow = True, "ellipsis"
    right.no_wrap = True
    grid = Table.grid(expand=True)
    grid.add_column(ratio=1)
    grid.add_column(justify="right")
    grid.add_row(left, right)
    return grid
