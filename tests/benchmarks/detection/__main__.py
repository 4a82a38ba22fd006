"""`python -m tests.benchmarks.detection [--samples N]`: the detectors on the development corpus.

Prints F1 of each signal with the lower end of its 90 % interval, what changes where every loss is
scaled or shifted, and what a sample costs. `.too_high` judges the signal of that name.
"""

import argparse
import sys
from collections.abc import Sequence

from benchmarks.quality.markdown import markdown

from . import cost, judge


def main(arguments: Sequence[str] = ()) -> int:
    """Everything, in about a minute."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.detection")
    parser.add_argument("--samples", type=int, default=10_000_000, help="in the memory test")
    options = parser.parse_args(arguments)
    found = judge.events(judge.corpus())
    plain = judge.verdicts(found)
    head = ("signal", "precision", "recall", "F1", "90 % from", "delay", "false alarms / 1000")
    rows = [
        (
            v.kind,
            *(f"{x:.2f}" for x in (v.precision, v.recall, v.f1, v.low, v.delay)),
            f"{v.false_alarms:.3f}",
        )
        for v in plain
    ]
    print(f"{markdown(head, rows)}\n", flush=True)
    rows = []
    for name, move in judge.MOVES.items():
        elsewhere = judge.events(judge.moved(move))
        pairs = zip(plain, judge.verdicts(elsewhere), strict=True)
        shift = max(abs(a.f1 - b.f1) for a, b in pairs)
        rows.append((name, f"{judge.same_share(found, elsewhere):.1%}", f"{shift:.3f}"))
    print(f"{markdown(('every loss', 'same events', 'largest change of F1'), rows)}\n", flush=True)
    sample, reference = cost.sample_us()
    print(f"a sample costs {sample:.2f} us; 100 dict updates beside it {reference:.2f} us")
    sizes = cost.state_sizes(options.samples)
    print("; ".join(f"state after {n:,} samples: {size} bytes" for n, size in sizes.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
