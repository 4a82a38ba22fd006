"""`python -m tests.benchmarks.jumps [--jobs N]`: run what is missing, and print the tables."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.quality import oracle, store
from benchmarks.quality.store import Cell
from benchmarks.quality.tasks import own_steps

from . import runs, table
from .scenario import FACTORS, SEEDS, TASKS

_KNOWN = (*SEEDS, *oracle.DESIGN_SEEDS)  # whoever designs takes the latter, into another folder


def main(arguments: Sequence[str] = ()) -> int:
    """Everything that is asked for and missing; about an hour on one core where nothing is kept."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.jumps")
    parser.add_argument("--arms", nargs="+", choices=runs.NAMES, default=runs.NAMES, metavar="ARM")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=TASKS, metavar="TASK")
    parser.add_argument("--seeds", nargs="+", type=int, choices=_KNOWN, default=SEEDS)
    parser.add_argument("--results", type=Path, default=runs.RESULTS, help="where rows are kept")
    parser.add_argument("--jobs", type=int, default=2, help="processes, of one thread each")
    parser.add_argument("--again", action="store_true", help="drop what is kept of these first")
    parser.add_argument("--table", action="store_true", help="run nothing")
    parser.add_argument("--write", action="store_true", help="the tables into the README, too")
    options = parser.parse_args(arguments)
    if options.again:
        cells = [
            Cell(name, seed, factor, own_steps(name))
            for name in options.tasks
            for seed in options.seeds
            for factor in FACTORS
        ]
        for arm in options.arms:
            store.forget(arm, cells, options.results)
    chosen = (options.arms, options.tasks, options.seeds, options.results)
    units = [] if options.table else runs.missing(*chosen)
    failed = runs.carry_out(units, options.jobs, options.results) if units else 0
    told = table.table(options.results)
    print(told)
    if options.write:
        table.write(told)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
