"""`python -m tests.benchmarks.quality [--quick]`: run what is missing and print the tables.

With `--quick`: a few runs of LRPilot alone, and exit status 1 on a clear regression.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))  # `support`, as under pytest

from . import oracle, ours, quick, runs, table
from .tasks import TASKS


def main(arguments: Sequence[str] = ()) -> int:
    """Everything that is missing, both lengths; hours on two cores where nothing is kept."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.quality")
    parser.add_argument("--quick", action="store_true", help="nine runs of LRPilot, and a verdict")
    parser.add_argument("--jobs", type=int, default=2, help="processes, of one thread each")
    options = parser.parse_args(arguments)
    if options.quick:
        return quick.main()
    units = runs.missing(runs.METHODS, TASKS, oracle.SEEDS)
    units += runs.missing(runs.METHODS, oracle.LONG_TASKS, oracle.LONG_SEEDS, steps=oracle.LONG)
    units += runs.missing(tuple(ours.ABLATED), TASKS, runs.ABLATION_SEEDS, runs.ABLATION_BASES)
    failed = runs.carry_out(units, options.jobs)
    print(table.report())
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
