"""What `import lrpilot` costs, and what it must not load; medians of fresh processes."""

import json
import subprocess
import sys
from typing import Any

from tests.benchmarks._report import middle, save, table

ROUNDS = 7
HEAVY = ("grpc", "torch", "optuna")
# What is measured, and what was imported before it.
CASES = {
    "lrpilot": ("import lrpilot", ""),
    "torch": ("import torch", ""),
    "lrpilot after torch": ("import lrpilot", "import torch"),
    "lrpilot.attach after torch": ("import lrpilot; lrpilot.attach", "import torch"),
    "grpc after torch": ("import grpc", "import torch"),
}
SCRIPT = """
import json, resource, sys, time
{before}
def memory():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
held, begin = memory(), time.perf_counter()
{code}
took = time.perf_counter() - begin
loaded = [name for name in {heavy!r} if name in sys.modules]
print(json.dumps([1000 * took, memory() - held, loaded]))
"""


def main() -> dict[str, Any]:
    """Run it: a minute."""
    found: dict[str, list[list[Any]]] = {name: [] for name in CASES}
    for _ in range(ROUNDS):
        for name, case in CASES.items():
            found[name].append(_fresh(*case))
    loaded = found["lrpilot"][0][2]
    assert loaded == [], f"import lrpilot loads {', '.join(loaded)}"
    unit = 2**20 if sys.platform == "darwin" else 2**10
    rows = {
        name: {
            "median_ms": round(middle([ms for ms, _, _ in runs]), 2),
            "best_ms": round(min(ms for ms, _, _ in runs), 2),
            "memory_mib": round(middle([memory for _, memory, _ in runs]) / unit, 2),
            "loaded": runs[0][2],
        }
        for name, runs in found.items()
    }
    table(
        "imports in a fresh process",
        ("import", "median ms", "best ms", "MiB more", "heavy modules"),
        [
            (name, r["median_ms"], r["best_ms"], r["memory_mib"], " ".join(r["loaded"]) or "-")
            for name, r in rows.items()
        ],
    )
    return save("imports", {"rounds": ROUNDS, "imports": rows})


def _fresh(code: str, before: str) -> list[Any]:
    script = SCRIPT.format(code=code, before=before, heavy=HEAVY)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    result: list[Any] = json.loads(done.stdout)
    return result
