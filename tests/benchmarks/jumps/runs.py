"""Runs what is missing of the jumps benchmark; can be interrupted, and goes on where it was."""

import multiprocessing
import time
import traceback
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.quality import store
from benchmarks.quality.daemons import serving
from benchmarks.quality.outcome import Row, row
from benchmarks.quality.store import Cell
from benchmarks.quality.tasks import own_steps

from . import guarded
from .arms import ARMS
from .scenario import FACTORS, SEEDS, TASKS, scenario

LRPILOT = "lrpilot"
NAMES = (*ARMS, LRPILOT)  # LRPilot's runs come last: they alone depend on the product
RESULTS = Path(__file__).with_name("results")
_SOURCES = (*store.BENCHMARK, "tests/benchmarks/jumps/*.py")


@dataclass(frozen=True)
class Unit:
    """What one process does at a time. `folder` is the daemon's, None where none is needed."""

    arm: str
    cell: Cell
    folder: Path | None = None


def missing(
    arms: Sequence[str] = NAMES,
    tasks: Sequence[str] = TASKS,
    seeds: Sequence[int] = SEEDS,
    results: Path = RESULTS,
) -> list[Unit]:
    """What is to be run; a cell's `base` is the factor of its jump."""
    units = []
    for arm in arms:
        kept = store.load(arm, results)
        for seed in seeds:
            for name in tasks:
                cells = (Cell(name, seed, factor, own_steps(name)) for factor in FACTORS)
                units += [Unit(arm, cell) for cell in cells if cell not in kept]
    return units


def measure(unit: Unit) -> Row:
    """Carries a unit out, on one thread."""
    torch.set_num_threads(1)
    cell, begin = unit.cell, time.perf_counter()
    assert cell.base is not None
    run = scenario(cell.task, cell.seed, cell.base)
    told: Row = {}
    if unit.arm == LRPILOT:
        assert unit.folder is not None
        outcome, story = guarded.run(run, unit.folder, "run")
        told = {"rollbacks": story.rollbacks, "decisions": story.decisions}
    else:
        outcome = ARMS[unit.arm](run)
    product = unit.arm == LRPILOT
    place = {"task": cell.task, "seed": cell.seed, "base": cell.base, "steps": cell.steps}
    tuned = {"schedule": run.schedule, "peak_lr": run.lr, "jump": run.jump}
    return {
        **place,
        **tuned,
        **row(outcome, run.best, run.job().uninformed),
        **told,
        "oracle": run.best,
        "uninformed": run.job().uninformed,
        "seconds": round(time.perf_counter() - begin, 1),
        "versions": store.versions(("torch", "lrpilot") if product else ("torch",)),
        "commit": store.commit(_SOURCES + store.PRODUCT if product else _SOURCES),
    }


def carry_out(units: Sequence[Unit], jobs: int, results: Path = RESULTS) -> int:
    """Runs units, each row kept as soon as it is there; returns how many units failed."""
    failed, begin = 0, time.perf_counter()
    spawn = multiprocessing.get_context("spawn")
    guards = any(unit.arm == LRPILOT for unit in units)
    with (
        serving([guarded.DAEMON]) if guards else nullcontext({}) as folders,
        ProcessPoolExecutor(jobs, mp_context=spawn) as pool,
    ):
        folder = folders.get(guarded.DAEMON)
        futures = {pool.submit(measure, Unit(unit.arm, unit.cell, folder)): unit for unit in units}
        for done, future in enumerate(as_completed(futures), 1):
            unit = futures[future]
            cell = unit.cell
            named = f"{unit.arm}: {cell.task}, seed {cell.seed}, x{cell.base:g}"
            print(f"{done}/{len(units)} {named}", end=": ")
            try:
                found = future.result()
            except Exception:
                failed += 1
                print("failed", flush=True)
                traceback.print_exc()
                continue
            store.append(unit.arm, [found], results)
            print(f"{found['final']} ({time.perf_counter() - begin:.0f} s)", flush=True)
    return failed
