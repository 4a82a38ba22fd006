"""How near a run that started with a far too high LR ends to the run at the best constant LR.

Ten seeds of the demo's task at 20, 30 and 50 times its best rate, with the same number of optimizer
steps: what is rolled back is not given back. Writes `results/rescue.json` and prints a table.
"""

import itertools
import math
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.benchmarks._report import save, table

from lrpilot.demo.task import BEST_LR, TOTAL_STEPS
from support.daemon import Daemon
from support.rescue import Job, Result, train_all

SEEDS = range(10)
MULTIPLIERS = (20, 30, 50)


def main() -> dict[str, Any]:
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
    task = {"best_lr": BEST_LR, "steps": TOTAL_STEPS, "seconds": round(seconds)}
    _print(runs)
    return save("rescue", {"task": task, "references": references, "runs": runs})


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


def _print(runs: list[dict[str, Any]]) -> None:
    rows = []
    for multiplier in MULTIPLIERS:
        these = [run for run in runs if run["multiplier"] == multiplier]
        blown = sum(run["alone_first_nonfinite"] is not None for run in these)
        ratios = [run["ratio"] for run in these if run["ratio"] is not None]
        back = [run["rolled_back_steps"] for run in these]
        mean, worst = (statistics.fmean(ratios), max(ratios)) if ratios else (math.nan, math.nan)
        rows.append(
            (
                f"{multiplier}x",
                f"{blown}/{len(these)}",
                f"{len(ratios)}/{len(these)}",
                f"{mean:.3f}",
                f"{worst:.3f}",
                f"{statistics.fmean(back):.0f}",
                max(back),
            )
        )
    table(
        "validation loss under LRPilot over that of the best constant LR, equal optimizer steps",
        ("LR", "alone NaN", "finite", "mean", "worst", "steps rolled back, mean", "worst"),
        rows,
    )
