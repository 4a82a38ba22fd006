"""`python -m tests.benchmarks.detection.rules`: published rules on the streams of the detectors.

The rules are those of the vendored corpus (`corpus/baselines.py`: own versions of what is
published, torch's class itself); the ones that need the package `river` are left out.
"""

import sys

from benchmarks.quality.markdown import markdown

from . import judge
from .corpus import baselines, score

RULES = (
    "check_finite only",
    "PageHinkley scale-free thr25",
    "llm-foundry KillLossSpike",
    "OLMo 6sd/128",
    "ZClip-like z4 persist5",
    "RLROP train p=10",
    "RLROP train p=300",
    "Theil-Sen W400 0.5%",
    "EarlyStop val p=10 div=10",
)


def main() -> int:
    """F1 of each rule, for the signals that it gives."""
    rows = []
    for name in RULES:
        scored = score.score(score.run(baselines.B[name], judge.corpus())[0], judge.corpus())
        told = [scored[kind] for kind in score.KINDS]
        cells = [f"{one['F1']:.2f}" if one["tp"] + one["fp"] else "-" for one in told]
        rows.append((name, *cells))
    print(markdown(("rule, F1", *score.KINDS), rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
