"""The tables of the jumps benchmark, as Markdown, from what `runs` has kept."""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from benchmarks.quality import bootstrap, store
from benchmarks.quality.markdown import markdown, number, percent, quote
from benchmarks.quality.outcome import Row
from benchmarks.quality.store import Cell
from benchmarks.quality.table import MISSING, coverage, estimate, groups

from .runs import NAMES, RESULTS
from .scenario import JUMPS, TASKS, UNTOUCHED

NEAR = 1.1  # times the untouched run's loss
CLOSE = 0.1  # of what is to be learnt, above the untouched run
README = Path(__file__).with_name("README.md")

Kept = Mapping[Cell, Row]


def table(results: Path = RESULTS) -> str:
    """All tables, those without any rows left out."""
    kept = {arm: store.load(arm, results) for arm in NAMES}
    whole = {arm: compared(rows, kept["nothing"]) for arm, rows in kept.items()}
    parts = [
        ("Do no harm: well-tuned runs, against the same run without", do_no_harm(whole)),
        ("Rescue: the LR jumps, and stays", rescue(whole)),
        (f"The same by task: runs within {percent(NEAR - 1)} of the untouched one", by_task(whole)),
    ]
    told = [f"**{title}**\n\n{text}" for title, text in parts if text.count("\n") > 1]
    return "\n\n".join([*told, coverage(kept)])


def compared(rows: Kept, alone: Kept) -> dict[Cell, Row]:
    """The rows with `more` (excess above the untouched run's) and `times` (its loss), where known.

    A run that is lost, or is worse than who knows nothing, counts in `more` as one that knows
    nothing, and `times` is infinite where the loss is not finite.
    """
    found = {}
    for cell, row in rows.items():
        untouched = alone.get(Cell(cell.task, cell.seed, UNTOUCHED, cell.steps))
        if untouched is None:
            continue
        final = float("inf") if row["final"] is None else row["final"]
        reached = untouched["final"]
        more = (min(final, row["uninformed"]) - reached) / (row["uninformed"] - row["oracle"])
        found[cell] = row | {"more": more, "times": final / reached}
    return found


def do_no_harm(kept: Mapping[str, Kept]) -> str:
    """What each arm changes in runs that need no help."""
    head = ("arm", "runs", "excess added", "worst", "runs changed", "rollbacks", "decisions")
    lines = []
    for arm, rows in kept.items():
        still = {cell: row for cell, row in rows.items() if cell.base == UNTOUCHED}
        if arm == "nothing" or not still:
            continue
        more = groups(still, lambda row: row["more"])
        lines.append(
            (
                arm,
                len(still),
                estimate(more, bootstrap.mean),
                number(max(row["more"] for row in still.values())),
                sum(row["times"] != 1 for row in still.values()),
                sum(row.get("rollbacks", 0) for row in still.values()),
                _decisions(still.values()),
            )
        )
    return markdown(head, lines)


def rescue(kept: Mapping[str, Kept]) -> str:
    """How each arm ends where the LR was multiplied on the way."""
    head = (
        "arm",
        "LR",
        "runs",
        f"within {percent(NEAR - 1)}",
        f"within {number(CLOSE)} excess",
        "excess added",
        "non-finite",
        "decisions",
    )
    lines = []
    for factors in (*((factor,) for factor in JUMPS), JUMPS):
        for arm, rows in kept.items():
            these = {cell: row for cell, row in rows.items() if cell.base in factors}
            if not these:
                continue
            times = groups(these, lambda row: row["times"])
            more = groups(these, lambda row: row["more"])
            lines.append(
                (
                    arm,
                    " and ".join(f"x{factor:g}" for factor in factors),
                    len(these),
                    estimate(times, bootstrap.share_within(NEAR), percent),
                    estimate(more, bootstrap.share_within(CLOSE), percent),
                    estimate(more, bootstrap.mean),
                    sum(row["final"] is None for row in these.values()),
                    _decisions(these.values()),
                )
            )
    return markdown(head, lines)


def by_task(kept: Mapping[str, Kept]) -> str:
    """Runs within 10 % of the untouched one, of all with a jump, a column per arm."""
    present = {arm: rows for arm, rows in kept.items() if any(c.base in JUMPS for c in rows)}
    lines = []
    names = {cell.task for rows in present.values() for cell in rows}
    for name in (name for name in TASKS if name in names):
        cells = []
        for rows in present.values():
            times = [row["times"] for c, row in rows.items() if c.task == name and c.base in JUMPS]
            near = sum(value <= NEAR for value in times)
            cells.append(f"{near}/{len(times)}" if times else MISSING)
        lines.append((name, *cells))
    return markdown(("task", *present), lines)


def _decisions(rows: Iterable[Row]) -> str:
    counts: Counter[str] = Counter()
    for row in rows:
        counts.update(row.get("decisions", {}))
    return "; ".join(f"{count} {name}" for name, count in counts.most_common()) or "none"


def write(told: str) -> None:
    """Puts the tables into the folder's README."""
    README.write_text(quote(told, README.read_text(encoding="utf-8")), encoding="utf-8")
