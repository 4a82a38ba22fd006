"""`python -m tests.benchmarks.jumps [--jobs N]`: run what is missing, and print the tables."""

import argparse
import sys
from collections.abc import Sequence

from benchmarks.quality import store
from benchmarks.quality.store import Cell
from benchmarks.quality.tasks import own_steps

from . import runs, table
from .scenario import FACTORS, SEEDS, TASKS


def main(arguments: Sequence[str] | None = None) -> int:
    """Everything that is asked for and missing; about an hour on one core where nothing is kept."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.jumps")
    parser.add_argument("--arms", nargs="+", choices=runs.NAMES, default=runs.NAMES, metavar="ARM")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=TASKS, metavar="TASK")
    parser.add_argument("--seeds", nargs="+", type=int, choices=SEEDS, default=SEEDS)
    parser.add_argument("--jobs", type=int, default=2, help="processes, of one thread each")
    parser.add_argument("--again", action="store_true", help="drop what is kept of these first")
    parser.add_argument("--table", action="store_true", help="run nothing")
    parser.add_argument("--write", action="store_true", help="the tables into the README, too")
    options = parser.parse_args(arguments)
    chosen = (options.arms, options.tasks, options.seeds)
    if options.again:
        cells = [
            Cell(name, seed, factor, own_steps(name))
            for name in options.tasks
            for seed in options.seeds
            for factor in FACTORS
        ]
        for arm in options.arms:
            store.forget(arm, cells, runs.RESULTS)
    units = [] if options.table else runs.missing(*chosen)
    failed = runs.carry_out(units, options.jobs) if units else 0
    told = table.table()
    print(told)
    if options.write:
        table.write(told)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
