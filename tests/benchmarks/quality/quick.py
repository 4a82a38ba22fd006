"""The form for continuous integration: nine runs of LRPilot, and a verdict in the exit status.

It takes a design seed: whoever works on the search until this passes has not tuned on a seed that
a published figure comes from.
"""

import statistics
from collections.abc import Sequence

from .daemons import serving
from .markdown import markdown, number
from .outcome import Row
from .runs import Unit, measure
from .store import Cell
from .tasks import DESIGN_SEED, own_steps

METHOD = "lrpilot"
TASKS = ("digits_conv", "text_transformer_adamw", "noisy_least_squares")
BASES = (1e-3, 1.0, 1e2)
WORST = 0.15
MEAN = 0.06


def main() -> int:
    """Runs, prints, and returns 1 on a clear regression."""
    with serving([METHOD]) as folders:
        rows = [
            row
            for name in TASKS
            for row in measure(
                Unit(
                    METHOD,
                    tuple(Cell(name, DESIGN_SEED, base, own_steps(name)) for base in BASES),
                    folders[METHOD],
                )
            )
        ]
    print(markdown(("task", *(f"x{base:g}" for base in BASES)), _lines(rows)))
    complaints = verdict([row["excess"] for row in rows])
    for complaint in complaints:
        print(complaint)
    return 1 if complaints else 0


def verdict(excesses: Sequence[float]) -> list[str]:
    """What is wrong with these runs, in words; nothing where they are as they should be."""
    worst, mean = max(excesses), statistics.fmean(excesses)
    found = []
    if not worst <= WORST:
        found.append(f"the worst excess is {number(worst)}: it must not be above {number(WORST)}")
    if not mean <= MEAN:
        found.append(f"the mean excess is {number(mean)}: it must not be above {number(MEAN)}")
    return found


def _lines(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    by_task: dict[str, list[str]] = {}
    for row in rows:
        by_task.setdefault(row["task"], []).append(number(row["excess"]))
    return [(name, *cells) for name, cells in by_task.items()]
