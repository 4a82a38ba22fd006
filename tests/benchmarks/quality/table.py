"""The tables of the quality benchmark, as Markdown, from what `runs` has kept.

`python -m tests.benchmarks.quality.table [--seeds S ...] [--write]` prints them without running
anything, and puts them into the folder's README.
"""

import argparse
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from . import bootstrap, oracle, ours, store
from .bootstrap import Statistic
from .markdown import markdown, number, percent, quote
from .outcome import Row
from .peers import PEERS
from .runs import BASES
from .store import Cell
from .tasks import own_steps

Kept = Mapping[Cell, Row]
Groups = list[list[float]]  # one list per task and seed

LOST = 0.3  # excess above which a run counts as lost
NEAR = 1.05  # of the oracle's loss
MISSING = "-"
README = Path(__file__).with_name("README.md")
METHODS = (*ours.USES, *PEERS)


def report(methods: Sequence[str] = METHODS, seeds: Sequence[int] = oracle.SEEDS) -> str:
    """All tables, those without any rows left out.

    Methods are comparable where they have run in the same cells: while some are still running,
    `seeds` picks those that are complete.
    """
    kept = {method: store.load(method) for method in methods}
    short = {method: select(rows, seeds, long=False) for method, rows in kept.items()}
    long = {method: select(rows, seeds, long=True) for method, rows in kept.items()}
    base, free = _split(short)
    whole = short.get("lrpilot", {})
    without = {name: select(store.load(name), seeds, long=False) for name in ours.ABLATED}
    both = {method: {**short[method], **long[method]} for method in methods}
    named = ", ".join(map(str, seeds))
    parts = [
        (f"Every method, T = 500 to 1500, seeds {named}", summary(base | free)),
        ("The same, mean excess by base LR", by_base(short)),
        (f"T = {oracle.LONG}, {len(oracle.LONG_TASKS)} tasks", summary(long)),
        ("At the right base LR, less the tuned cosine's excess", at_right_lr(short)),
        ("Steps outside the final trajectory, share of T, and waits", costs(both)),
        ("Searches that declined", declined(short)),
        ("Ablations: one part of the search taken out", ablations(whole, without)),
        ("Mean excess by task, all base LRs", by_task(short)),
    ]
    told = [f"**{title}**\n\n{table}" for title, table in parts if table.count("\n") > 1]
    return "\n\n".join([*told, coverage(both)])


def select(rows: Kept, seeds: Sequence[int] = oracle.SEEDS, *, long: bool) -> dict[Cell, Row]:
    """The rows of one of the two lengths, and of these seeds."""
    return {
        cell: row
        for cell, row in rows.items()
        if cell.seed in seeds and (cell.steps != own_steps(cell.task)) == long
    }


def summary(kept: Mapping[str, Kept]) -> str:
    """One row per method, over all its runs."""
    head = (
        "method",
        "runs",
        "mean excess",
        "95th percentile",
        f"share > {LOST}",
        "non-finite",
        "within 5 % of the oracle's loss",
    )
    lines = []
    for method, rows in kept.items():
        if not rows:
            continue
        excess = groups(rows, lambda row: row["excess"])
        ratio = groups(rows, lambda row: np.inf if row["ratio"] is None else row["ratio"])
        lines.append(
            (
                method,
                len(rows),
                estimate(excess, bootstrap.mean),
                estimate(excess, bootstrap.percentile(0.95)),
                estimate(excess, bootstrap.share_above(LOST), percent),
                sum(row["final"] is None for row in rows.values()),
                estimate(ratio, bootstrap.share_within(NEAR), percent),
            )
        )
    return markdown(head, lines)


def by_base(kept: Mapping[str, Kept]) -> str:
    """Mean excess at each base LR; methods that need none have one figure."""
    lines = []
    for method, rows in kept.items():
        if not rows:
            continue
        cells: list[str] = []
        for base in BASES:
            these = {cell: row for cell, row in rows.items() if cell.base == base}
            cells.append(_mean_excess(these))
        free = {cell: row for cell, row in rows.items() if cell.base is None}
        lines.append((method, *cells, _mean_excess(free)))
    return markdown(("method", *(f"x{base:g}" for base in BASES), "none needed"), lines)


def by_task(kept: Mapping[str, Kept]) -> str:
    """Mean excess of each task, a column per method."""
    present = {method: rows for method, rows in kept.items() if rows}
    names = dict.fromkeys(cell.task for rows in present.values() for cell in rows)
    lines = []
    for name in names:
        cells = []
        for rows in present.values():
            values = [row["excess"] for cell, row in rows.items() if cell.task == name]
            cells.append(number(statistics.fmean(values)) if values else MISSING)
        lines.append((name, *cells))
    return markdown(("task", *present), lines)


def at_right_lr(kept: Mapping[str, Kept]) -> str:
    """Excess at base x1, and by how much it exceeds that of cosine at x1 in the same cells."""
    tuned = {(c.task, c.seed): row for c, row in kept.get("cosine", {}).items() if c.base == 1.0}
    lines = []
    for method, rows in kept.items():
        right = {
            (cell.task, cell.seed): row for cell, row in rows.items() if cell.base in (1.0, None)
        }
        shared = [place for place in right if place in tuned]
        if not shared:
            continue
        own = [[float(right[place]["excess"])] for place in shared]
        less = [[right[place]["excess"] - tuned[place]["excess"]] for place in shared]
        lines.append(
            (method, len(shared), estimate(own, bootstrap.mean), estimate(less, bootstrap.mean))
        )
    return markdown(("method", "runs", "excess", "less the tuned cosine's"), lines)


def costs(kept: Mapping[str, Kept]) -> str:
    """What a method paid beside the way to its final weights, by T."""
    head = ("method", "T", "runs", "median", "max", "waits, median", "longest", "in all, max")
    lines: list[Sequence[object]] = []
    for method, rows in kept.items():
        if not any(row.get("outside") or row.get("waits") for row in rows.values()):
            continue
        for steps in sorted({cell.steps for cell in rows}):
            these = [row for cell, row in rows.items() if cell.steps == steps]
            shares = [row.get("outside", 0) / steps for row in these]
            waits = statistics.median(row.get("waits", 0) for row in these)
            longest = max(row.get("longest_wait_s", 0.0) for row in these)
            most = max(row.get("wait_s", 0.0) for row in these)
            lines.append(
                (
                    method,
                    steps,
                    len(these),
                    percent(statistics.median(shares)),
                    percent(max(shares)),
                    f"{waits:g}",
                    f"{1000 * longest:.0f} ms",
                    f"{most:.2f} s",
                )
            )
    return markdown(head, lines)


def declined(kept: Mapping[str, Kept]) -> str:
    """How often a search said that it could not tell, and what that cost against guarding only."""
    guarded = kept.get("lrpilot-guard", {})
    head = ("method", "runs", "declined", "their excess", "that of guarding only, same runs")
    lines = []
    for method, rows in kept.items():
        # In other variants there is no search, or nothing was declined.
        if method not in ours.VARIANTS or not ours.VARIANTS[method].search or not rows:
            continue
        gave_up = {cell: row for cell, row in rows.items() if row.get("declined")}
        alone = {cell: guarded[cell] for cell in gave_up if cell in guarded}
        share = groups(rows, lambda row: float(row.get("declined", False)))
        lines.append(
            (
                method,
                len(rows),
                estimate(share, bootstrap.mean, percent),
                _mean_excess(gave_up),
                _mean_excess(alone),
            )
        )
    return markdown(head, lines)


def ablations(whole: Kept, without: Mapping[str, Kept]) -> str:
    """Excess without each part of the search, and what it is more than with all of them."""
    head = ("without", "runs", "mean excess", f"share > {LOST}", "more than with it")
    lines = []
    for name, rows in without.items():
        shared = {cell: row for cell, row in rows.items() if cell in whole}
        if not shared:
            continue
        excess = groups(shared, lambda row: row["excess"])
        more = [
            [shared[cell]["excess"] - whole[cell]["excess"] for cell in cells]
            for cells in _places(shared)
        ]
        lines.append(
            (
                name,
                len(shared),
                estimate(excess, bootstrap.mean),
                estimate(excess, bootstrap.share_above(LOST), percent),
                estimate(more, bootstrap.mean),
            )
        )
    return markdown(head, lines)


def coverage(kept: Mapping[str, Kept]) -> str:
    """What the figures were measured with."""
    rows = [row for table in kept.values() for row in table.values()]
    versions = sorted({part for row in rows for part in row["versions"].split(", ")})
    commits = sorted({row["commit"] for row in rows})
    return (
        f"{len(rows)} runs; {', '.join(versions)}; commits {', '.join(commits)} (+: with "
        f"uncommitted changes). In brackets: 95 % intervals from {bootstrap.DRAWS} draws of task x "
        "seed cells."
    )


def groups(rows: Kept, value: Callable[[Row], float]) -> Groups:
    """The values of rows, those of one task and seed together."""
    return [[value(rows[cell]) for cell in cells] for cells in _places(rows)]


def estimate(
    cells: Groups, statistic: Statistic, told: Callable[[float], str] | None = None
) -> str:
    """A statistic of all values with its interval, in brackets."""
    told = told or number
    every = np.concatenate([np.asarray(cell, dtype=np.float64) for cell in cells])
    low, high = bootstrap.interval(cells, statistic)
    return f"{told(statistic(every))} [{told(low)}, {told(high)}]"


def _places(rows: Iterable[Cell]) -> list[list[Cell]]:
    """Cells, those of one task and seed together."""
    found: dict[tuple[str, int], list[Cell]] = {}
    for cell in rows:
        found.setdefault((cell.task, cell.seed), []).append(cell)
    return list(found.values())


def _mean_excess(rows: Kept) -> str:
    if not rows:
        return MISSING
    return estimate(groups(rows, lambda row: row["excess"]), bootstrap.mean)


def _split(kept: Mapping[str, Kept]) -> tuple[dict[str, Kept], dict[str, Kept]]:
    """Methods that start from a base LR, and those that need none."""
    free = {name: rows for name, rows in kept.items() if any(c.base is None for c in rows)}
    return {name: rows for name, rows in kept.items() if name not in free}, free


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description="tables of the quality benchmark")
    parser.add_argument("--seeds", nargs="+", type=int, default=oracle.SEEDS)
    parser.add_argument("--write", action="store_true", help="also into the README")
    options = parser.parse_args(arguments)
    tables = report(seeds=options.seeds)
    print(tables)
    if options.write:
        README.write_text(quote(tables, README.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
