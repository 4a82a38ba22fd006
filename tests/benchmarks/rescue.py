"""How near a run that started with a far too high LR ends to the run at the best constant LR.

Ten seeds of the demo's task at 20, 30 and 50 times its best rate, with the same number of optimizer
steps: what is rolled back is not given back. Writes `results/rescue.json` and prints a table.
"""

import itertools
import json
import math
import os
import platform
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from support.daemon import Daemon
from support.rescue import Job, Result, train_all

import lrpilot
from lrpilot.demo.task import BEST_LR, TOTAL_STEPS

SEEDS = range(10)
MULTIPLIERS = (20, 30, 50)
RESULTS = Path(__file__).parent / "results" / "rescue.json"


def main() -> None:
    """Run it all, two trainings at a time; about ten minutes on two cores."""
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="lrp") as folder:
        daemon = Daemon(Path(folder))
        daemon.start()
        try:
            references, runs = _train(daemon)
        finally:
            daemon.kill()
    seconds = time.perf_counter() - begin
    results = {"settings": _settings(seconds), "references": references, "runs": runs}
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=1, allow_nan=False) + "\n")
    print("\n".join(_table(runs)))
    print(f"{seconds:.0f} s; {RESULTS.name} written")


def _train(daemon: Daemon) -> tuple[dict[str, float], list[dict[str, Any]]]:
    pairs = list(itertools.product(SEEDS, MULTIPLIERS))
    jobs = [Job(seed, 1) for seed in SEEDS]
    jobs += [Job(seed, multiplier) for seed, multiplier in pairs]
    jobs += [Job(seed, multiplier, daemon.address) for seed, multiplier in pairs]
    done: dict[tuple[int, float, bool], Result] = {}
    for result in train_all(jobs):
        job = result.job
        done[job.seed, job.multiplier, job.address is not None] = result
        guarded = "under LRPilot" if job.address else "alone"
        print(f"{job.name} {guarded}: {result.val_loss:.4f} in {result.seconds:.1f} s", flush=True)
    references = {str(seed): done[seed, 1, False].val_loss for seed in SEEDS}
    runs = [
        _row(
            done[seed, multiplier, False],
            done[seed, multiplier, True],
            references[str(seed)],
            daemon,
        )
        for seed, multiplier in pairs
    ]
    return references, runs


def _row(alone: Result, guarded: Result, reference: float, daemon: Daemon) -> dict[str, Any]:
    job = guarded.job
    story = daemon.story(job.name)
    finite = math.isfinite(guarded.val_loss)
    return {
        "seed": job.seed,
        "multiplier": job.multiplier,
        "alone_first_nonfinite": alone.first_nonfinite,
        "steps": guarded.steps,
        "val_loss": guarded.val_loss if finite else None,
        "ratio": guarded.val_loss / reference if finite else None,
        "rolled_back_steps": story["cost"]["rolled_back_steps"],
        "last_lr": story["lrs"][0],
        "seconds": round(guarded.seconds, 2),
        "decisions": [
            {
                "id": decision.id,
                "action": decision.action,
                "status": decision.status,
                "applied_step": decision.applied_step,
                "lr_before": decision.lrs_before[0],
                "lr_after": decision.lrs_after[0],
                "reason": decision.reason,
            }
            for decision in guarded.decisions
        ],
    }


def _settings(seconds: float) -> dict[str, Any]:
    """What the numbers depend on."""
    return {
        "task": "lrpilot.demo.task",
        "best_lr": BEST_LR,
        "steps": TOTAL_STEPS,
        "seconds": round(seconds),
        "lrpilot": lrpilot.__version__,
        "commit": _git("rev-parse", "HEAD"),
        "uncommitted_changes": bool(_git("status", "--porcelain")),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": os.cpu_count(),
    }


def _git(*arguments: str) -> str | None:
    command = ["git", "--no-optional-locks", *arguments]
    try:
        done = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None  # not a checkout
    return done.stdout.strip()


def _table(runs: list[dict[str, Any]]) -> list[str]:
    lines = [
        "final validation loss under LRPilot, as a multiple of the best constant LR's",
        "LR x   alone non-finite   finite   mean   worst   rolled back, mean   worst",
    ]
    for multiplier in MULTIPLIERS:
        rows = [run for run in runs if run["multiplier"] == multiplier]
        blown = sum(run["alone_first_nonfinite"] is not None for run in rows)
        ratios = [run["ratio"] for run in rows if run["ratio"] is not None]
        back = [run["rolled_back_steps"] for run in rows]
        mean, worst = (statistics.fmean(ratios), max(ratios)) if ratios else (math.nan, math.nan)
        lines.append(
            f"{multiplier:4d}   {blown:11d}/{len(rows)}   {len(ratios):3d}/{len(rows)}"
            f"   {mean:.3f}   {worst:.3f}   {statistics.fmean(back):17.1f}   {max(back):5d}"
        )
    return lines
