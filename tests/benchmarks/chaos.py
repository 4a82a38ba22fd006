"""A thousand kills of the daemon among all other faults: what was lost, repeated or broken.

Storms of a hundred kills, each from a seed of its own; `tests/chaos` says what happens in them. The
figures are written after each.
"""

from collections import Counter
from typing import Any

from tests.benchmarks._report import save, table
from tests.chaos.__main__ import rage

STORMS = 10
KILLS = 100


def main() -> dict[str, Any]:
    """Run it: twenty minutes on an idle machine."""
    happened: Counter[str] = Counter()
    found: Counter[str] = Counter()
    wrong: list[str] = []
    results: dict[str, Any] = {}
    seconds = 0.0
    for seed in range(STORMS):
        storm, verdict, took = rage(seed, 0.0, KILLS)
        happened += storm.counts
        found += verdict.counts + Counter({"kills": storm.kills})
        wrong += [f"seed {seed}: {what}" for what in verdict.wrong]
        seconds += took
        print(f"seed {seed}: {storm.kills} kills in {took:.0f} s, {len(verdict.wrong)} violations")
        print("\n".join([*verdict.wrong, verdict.kept]), flush=True)
        figures = {"storms": seed + 1, "seconds": round(seconds), "wrong": wrong}
        results = save("chaos", figures | {"happened": dict(happened), "found": dict(found)})
    table("what happened", ("", "times"), sorted(happened.items()))
    table("what there was to lose", ("", "count"), sorted(found.items()))
    print("\n".join(wrong) or "nothing was lost, repeated or broken", flush=True)
    return results
