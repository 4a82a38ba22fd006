"""All runs on a terminal, for `lrpilot watch`."""

import math
import time

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from lrpilot_controller.cli.screen import LIVE, STATE, Pace
from lrpilot_controller.cli.words import mode_of, number, run_of, state_of
from lrpilot_proto.v1 import operator_pb2

_BARS = "▁▂▃▄▅▆▇█"
_CURVE_COLUMNS = 20


class Board:
    """The runs as they are drawn: those that train first, the newest above."""

    def __init__(self) -> None:
        self._runs: dict[str, operator_pb2.RunSummary] = {}
        self._paces: dict[str, Pace] = {}
        self._known = False
        self.note = ""

    def take(self, changed: operator_pb2.ListRunsResponse) -> None:
        """There is news of some runs."""
        now = time.monotonic()
        self._known = True
        for summary in changed.runs:
            name = run_of(summary)
            self._runs[name] = summary
            self._paces.setdefault(name, Pace()).take(summary.step, now)

    def farewell(self) -> str:
        """Nothing is left on the terminal in the end."""
        return ""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        rows = (options.height or console.height) - 3
        live = [run for run in self._runs.values() if state_of(run) in LIVE]
        ended = [run for run in self._runs.values() if state_of(run) not in LIVE]
        shown = [*live[::-1], *ended[::-1]]
        narrow, wide = options.max_width < 80, options.max_width >= 100
        table = Table(box=None, padding=(0, 1), expand=True, header_style="dim")
        table.add_column("run", ratio=1, no_wrap=True, overflow="ellipsis", min_width=12)
        table.add_column("state", no_wrap=True)
        table.add_column("step", justify="right", no_wrap=True)
        if not narrow:
            table.add_column("per s", justify="right", no_wrap=True)
        table.add_column("LR", justify="right", no_wrap=True)
        table.add_column("loss", justify="right", no_wrap=True)
        if not narrow:
            columns = _CURVE_COLUMNS if wide else _CURVE_COLUMNS // 2  # names come first
            table.add_column("", no_wrap=True, width=columns)
        if wide:
            table.add_column("mode", no_wrap=True)
        for run in shown[:rows]:
            table.add_row(*self._row(run, narrow, wide))
        yield table
        if not shown:
            waiting = "no runs yet" if self._known else "waiting for the daemon"
            yield Text(f" {waiting}", "dim")
        hidden = len(shown) - rows
        more = f"{hidden} more; a taller terminal shows them · " * (hidden > 0)
        counted = f"{len(live)} training, {len(ended)} not"
        foot = Text(f" {more}{counted} · lrpilot watch RUN · Ctrl-C ends", "dim", no_wrap=True)
        yield Text(f" {self.note}", "yellow", no_wrap=True) if self.note else foot

    def _row(self, run: operator_pb2.RunSummary, narrow: bool, wide: bool) -> list[Text]:
        state = state_of(run)
        live = state in LIVE
        pace = self._paces[run_of(run)].steps_per_second if live else None
        cells = [
            Text(run_of(run), "bold" if live else ""),
            Text(f"● {state}", STATE.get(state, "")),
            Text(f"{run.step:,}"),
            Text("" if pace is None else f"{pace:,.1f}"),
            Text(number(run.lrs[0]) if run.lrs else ""),
            Text(number(run.loss) if run.HasField("loss") else ""),
            Text(
                sparkline(list(run.curve), _CURVE_COLUMNS if wide else _CURVE_COLUMNS // 2),
                "cyan" if live else "dim cyan",
            ),
            Text(mode_of(run), "dim"),
        ]
        if narrow:
            return [cells[0], cells[1], cells[2], cells[4], cells[5]]
        return cells if wide else cells[:-1]


def sparkline(values: list[float], width: int) -> str:
    """The values as bars, oldest first, at most `width` of them; what is not finite is `·`."""
    if len(values) > width:
        values = [values[(i + 1) * len(values) // width - 1] for i in range(width)]
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return "·" * len(values)
    low, high = min(finite), max(finite)
    scale = (len(_BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(
        _BARS[round((value - low) * scale)] if math.isfinite(value) else "·" for value in values
    )
