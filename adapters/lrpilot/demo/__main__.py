"""`python -m lrpilot.demo`: the same run twice from an LR far too high, alone and under LRPilot."""

import argparse
import importlib.util
import math
import os
import sys
from collections.abc import Sequence

from lrpilot.client import discovery

NEEDED = ("torch", "rich", "plotext")


def main(arguments: Sequence[str] | None = None) -> int:
    """Check what the demo needs, then run it; returns the exit status."""
    options = _options(arguments)
    try:
        why = _obstacle()
        if why is None:
            from lrpilot.demo.report import run  # torch and rich are there: now they are loaded

            return run(options.seed, options.multiplier, options.steps, options.reference)
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130
    except RuntimeError as error:  # no source of the standard library to train on
        why = str(error)
    print(f"lrpilot demo: {why}", file=sys.stderr)
    return 1


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="lrpilot demo",
        description="Trains a small transformer from a learning rate far too high, alone and "
        "under LRPilot, and compares.",
    )
    parser.add_argument("--seed", type=int, default=0, help="default: 0")
    parser.add_argument(
        "--multiplier", type=_positive, default=30, help="of the best constant LR; default: 30"
    )
    parser.add_argument("--steps", type=_count, default=600, help="optimizer steps; default: 600")
    parser.add_argument(
        "--reference", action="store_true", help="train at the best constant LR as well"
    )
    return parser.parse_args(arguments)


def _positive(text: str) -> float:
    value = float(text)
    if not (math.isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError(f"{text}: a finite number above 0")
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text}: a whole number above 0")
    return value


def _obstacle() -> str | None:
    """What stands in the way, in a line; None where nothing does."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    missing += discovery.missing_packages()
    if missing:
        return f"not installed: {', '.join(missing)}. Run: {discovery.INSTALL}"
    if os.environ.get("LRPILOT", "").lower() == "off":
        return "LRPILOT=off is set, so LRPilot would do nothing: unset it"
    return None


if __name__ == "__main__":
    sys.exit(main())
