"""How often and how soon `too_high` is signalled, from the kept loss streams.

`python -m tests.benchmarks.detection.too_high [--by-task] [--file FILE]` runs the detectors over
every stream and prints what is caught by the deadline (5 % of T, at least 100 steps) at LRs that
are too high, and what is signalled at any step of runs whose LR is right or too low.

Not every run at three or ten times the best LR is a bad one: the column `worse` says how many of
them were, by the held-out loss at the last step that the stream and the one at the best LR of its
seed have in common. A table of its own has these alone.
"""

import argparse
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.quality.markdown import markdown, percent
from lrpilot_controller.core.detectors import Detectors
from lrpilot_controller.core.model import SignalKind

from .too_high_streams import FILE, STEPS, Stream, load
from .too_high_tasks import DESIGN, OPTIMIZERS, TEST

DEADLINE = max(STEPS // 20, 100)
WORSE = 0.1  # of what is to be learnt that a run must lack to be worse
SETS = {"design": DESIGN, "test": TEST}
TOO_HIGH = frozenset({SignalKind.TOO_HIGH})
ANY = TOO_HIGH | {SignalKind.DIVERGENCE, SignalKind.NONFINITE}
_Z = 1.959964


@dataclass(frozen=True)
class Judged:
    """A stream, the step of its first signal of each kind, and whether the run was a worse one."""

    stream: Stream
    first: dict[SignalKind, int]
    worse: bool

    def signalled(self, kinds: Iterable[SignalKind], by: float = math.inf) -> bool:
        """Whether one of the kinds was signalled within so many steps."""
        return any(self.first.get(kind, math.inf) < by for kind in kinds)


def judge(streams: Sequence[Stream]) -> list[Judged]:
    """Runs the detectors over every stream."""
    right = {
        _cell(stream): stream
        for stream in streams
        if (stream["multiple"], stream["schedule"]) == (1.0, "constant")
    }
    return [
        Judged(stream, first_signals(stream), worse(stream, right[_cell(stream)]))
        for stream in streams
        if _cell(stream) in right
    ]


def first_signals(stream: Stream) -> dict[SignalKind, int]:
    """The 0-based step at which each kind is first signalled."""
    detectors = Detectors(total_steps=STEPS)
    first: dict[SignalKind, int] = {}
    for step, (loss, lr) in enumerate(zip(stream["train"], stream["lr"], strict=True)):
        signals = detectors.update(step, loss, None, float(lr))
        if (held_out := stream["val"].get(step + 1)) is not None:
            signals = signals + detectors.update(step, None, held_out, float(lr))
        for signal in signals:
            first.setdefault(signal.kind, step)
    return first


def worse(stream: Stream, right: Stream) -> bool:
    """Whether a run lacks more than `WORSE` of what the one at the right LR has learnt by then.

    One that was given up before the first held-out loss is.
    """
    common = set(stream["val"]) & set(right["val"])
    if not common:
        return True
    reached, wanted = (run["val"][max(common)] for run in (stream, right))
    lost = not math.isfinite(stream["train"][-1])
    return lost or not reached - wanted <= WORSE * (stream["uninformed"] - wanted)


def wilson(hits: int, total: int) -> tuple[float, float]:
    """The 95 % interval of a share, after Wilson (1927), as if the runs were independent."""
    share, z2 = hits / total, _Z * _Z / total
    middle = share + z2 / 2
    half = _Z * math.sqrt(share * (1 - share) / total + z2 / (4 * total))
    return max(0.0, (middle - half) / (1 + z2)), min(1.0, (middle + half) / (1 + z2))


def report(judged: Sequence[Judged], by_task: bool = False) -> str:
    """The tables."""
    high = [item for item in judged if item.stream["multiple"] > 1]
    right = [item for item in judged if item.stream["multiple"] <= 1]
    columns: Columns = (
        ("worse", lambda item: item.worse),
        (f"too_high by {DEADLINE}", lambda item: item.signalled(TOO_HIGH, DEADLINE)),
        (f"any by {DEADLINE}", lambda item: item.signalled(ANY, DEADLINE)),
        ("any at all", lambda item: item.signalled(ANY)),
    )
    alarms: Columns = (
        ("too_high at all", lambda item: item.signalled(TOO_HIGH)),
        ("any at all", lambda item: item.signalled(ANY)),
    )
    return "\n\n".join(
        (
            "**LRs that are too high: caught**\n\n" + _table(high, columns, by_task),
            "**Of these, the runs that were worse for it**\n\n"
            + _table([item for item in high if item.worse], columns[1:], by_task),
            "**LRs that are right or too low: false alarms**\n\n" + _table(right, alarms, by_task),
        )
    )


Columns = tuple[tuple[str, Callable[[Judged], bool]], ...]


def _table(judged: Sequence[Judged], columns: Columns, by_task: bool) -> str:
    lines = []
    for (where, names), optimizer in itertools.product(SETS.items(), (*OPTIMIZERS, "all")):
        ours = [
            item
            for item in judged
            if item.stream["task"] in names and optimizer in (item.stream["optimizer"], "all")
        ]
        kinds = dict.fromkeys(sorted(_lr(item.stream) for item in ours))
        for _, name in kinds:
            group = [item for item in ours if _lr(item.stream)[1] == name]
            lines.append((where, optimizer, name, len(group), *_shares(group, columns)))
            for task in names if by_task and optimizer != "all" else ():
                one = [item for item in group if item.stream["task"] == task]
                if one:
                    lines.append(("", "", task, len(one), *_counts(one, columns)))
    return markdown(("set", "optimizer", "LR", "runs", *(name for name, _ in columns)), lines)


def _shares(group: Sequence[Judged], columns: Columns) -> Iterable[str]:
    for _, holds in columns:
        hits = sum(map(holds, group))
        low, high = wilson(hits, len(group))
        yield f"{percent(hits / len(group))} ({percent(low)} to {percent(high)})"


def _counts(group: Sequence[Judged], columns: Columns) -> Iterable[str]:
    return (str(sum(map(holds, group))) for _, holds in columns)


def _cell(stream: Stream) -> tuple[str, str, int]:
    return stream["task"], stream["optimizer"], stream["seed"]


def _lr(stream: Stream) -> tuple[float, str]:
    """What orders and names an LR in the tables."""
    multiple: float = stream["multiple"]
    if stream["schedule"] == "constant":
        return multiple, f"x{multiple:g}"
    return multiple + 0.5, f"x{multiple:g}, warm-up and cosine"


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description="how well too_high is told from loss streams")
    parser.add_argument("--file", type=Path, default=FILE)
    parser.add_argument("--by-task", action="store_true", help="counts for each task, too")
    options = parser.parse_args(arguments)
    print(report(judge(load(options.file)), options.by_task))


if __name__ == "__main__":
    main()
