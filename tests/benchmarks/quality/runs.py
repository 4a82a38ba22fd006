"""Runs what is missing of the quality benchmark; can be interrupted, and goes on where it was.

`python -m tests.benchmarks.quality.runs [--method M ...] [--tasks T ...] [--seeds S ...]
[--bases B ...] [--jobs N] [--long] [--again]` fills `results/<method>.jsonl`.
"""

import argparse
import multiprocessing
import sys
import time
import traceback
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from . import oracle, ours, store
from .daemons import serving
from .outcome import Outcome, Row, row
from .peers import PEERS
from .store import Cell
from .tasks import TASKS, own_steps, task

BASES = (1e-3, 1e-2, 1e-1, 1.0, 1e1, 1e2)  # of the best LR of another seed
METHODS = (*ours.USES, *PEERS)
# An ablation is compared with the whole in the same cells, so that fewer of them do.
ABLATION_BASES = (1e-3, 1.0, 1e2)
ABLATION_SEEDS = (1, 2)


@dataclass(frozen=True)
class Unit:
    """What one process does at a time: a method's missing runs of one task and seed.

    `folder` is where the daemon lives, None where the method needs none.
    """

    method: str
    cells: tuple[Cell, ...]
    folder: Path | None = None


def needs_base(method: str) -> bool:
    """Whether a method starts from a base LR."""
    return method not in PEERS or PEERS[method].needs_base


def reference(cell: Cell) -> dict[str, oracle.Search] | None:
    """What the oracle holds of a cell's task and length, by seed; None where a run needs more."""
    seeds: dict[str, oracle.Search] = oracle.load(cell.task, steps=cell.steps)["seeds"]
    return seeds if {str(cell.seed), str(_other(cell))} <= set(seeds) else None


def base_lr(cell: Cell, seeds: dict[str, oracle.Search]) -> float:
    """The LR that a run starts from: a multiple of the best one of another seed."""
    best: float = seeds[str(_other(cell))]["best"]["lr"]
    return best * (1.0 if cell.base is None else cell.base)


def _other(cell: Cell) -> int:
    return oracle.other_seed(cell.seed, long=cell.steps != own_steps(cell.task))


def missing(
    methods: Sequence[str],
    tasks: Sequence[str],
    seeds: Sequence[int],
    bases: Sequence[float] = BASES,
    steps: int | None = None,
    folder: Path | None = None,
) -> list[Unit]:
    """What is to be run, seed after seed, so that a part of it makes a table of all methods.

    Runs whose oracle is missing are left out.
    """
    kept = {method: store.load(method, folder) for method in methods}
    lengths = {name: steps or own_steps(name) for name in tasks}
    units = []
    for seed in seeds:
        for method in methods:
            for name in tasks:
                wanted = bases if needs_base(method) else (None,)
                cells = [Cell(name, seed, base, lengths[name]) for base in wanted]
                left = tuple(cell for cell in cells if cell not in kept[method])
                if left and reference(left[0]) is not None:
                    units.append(Unit(method, left))
    return units


def measure(unit: Unit) -> list[Row]:
    """Carries a unit out, on one thread."""
    torch.set_num_threads(1)
    rows = []
    for cell in unit.cells:
        seeds = reference(cell)
        assert seeds is not None
        begin = time.perf_counter()
        outcome = _train(unit, cell, base_lr(cell, seeds))
        own = seeds[str(cell.seed)]
        rows.append(
            {
                "task": cell.task,
                "seed": cell.seed,
                "base": cell.base,
                "steps": cell.steps,
                **row(outcome, own["best"]["loss"], own["uninformed"]),
                "seconds": round(time.perf_counter() - begin, 1),
                "versions": store.versions(_packages(unit.method)),
                "commit": store.commit(_sources(unit.method)),
            }
        )
    return rows


def _train(unit: Unit, cell: Cell, lr: float) -> Outcome:
    job = task(cell.task, cell.seed, cell.steps)
    if unit.method in PEERS:
        return PEERS[unit.method].run(job, lr)
    assert unit.folder is not None
    return ours.run(job, lr, unit.method, unit.folder)


def _sources(method: str) -> tuple[str, ...]:
    return store.BENCHMARK if method in PEERS else store.BENCHMARK + store.PRODUCT


def _packages(method: str) -> tuple[str, ...]:
    return ("torch", PEERS[method].package if method in PEERS else "lrpilot")


def carry_out(units: Sequence[Unit], jobs: int) -> int:
    """Runs units, each row kept as soon as its unit is done; returns how many units failed."""
    failed = 0
    begin = time.perf_counter()
    spawn = multiprocessing.get_context("spawn")
    served = dict.fromkeys(unit.method for unit in units if unit.method in ours.VARIANTS)
    with serving(served) as folders, ProcessPoolExecutor(jobs, mp_context=spawn) as pool:
        units = [replace(unit, folder=folders.get(unit.method)) for unit in units]
        futures = {pool.submit(measure, unit): unit for unit in units}
        for done, future in enumerate(as_completed(futures), 1):
            unit = futures[future]
            first = unit.cells[0]
            print(f"{done}/{len(units)} {unit.method} {first.task}, seed {first.seed}", end=": ")
            try:
                rows = future.result()
            except Exception:
                failed += 1
                print("failed", flush=True)
                traceback.print_exc()
                continue
            store.append(unit.method, rows)
            told = " ".join(f"{row['excess']:.3f}" for row in rows)
            print(f"{told} ({time.perf_counter() - begin:.0f} s)", flush=True)
    return failed


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs what is asked for and missing."""
    parser = argparse.ArgumentParser(description="runs of the quality benchmark")
    parser.add_argument("--method", nargs="+", default=METHODS, metavar="METHOD")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, metavar="TASK")
    parser.add_argument("--seeds", nargs="+", type=int)
    parser.add_argument("--bases", nargs="+", type=float, default=BASES)
    parser.add_argument("--jobs", type=int, default=2, help="processes, of one thread each")
    parser.add_argument("--long", action="store_true", help=f"T = {oracle.LONG} on four tasks")
    parser.add_argument("--again", action="store_true", help="drop what is kept of these first")
    options = parser.parse_args(arguments)
    if unknown := set(options.method) - set(METHODS) - set(ours.ABLATED):
        known = ", ".join((*METHODS, *ours.ABLATED))
        parser.error(f"no method {', '.join(sorted(unknown))}; there are {known}")
    tasks = options.tasks or (oracle.LONG_TASKS if options.long else TASKS)
    seeds = options.seeds or (oracle.LONG_SEEDS if options.long else oracle.SEEDS)
    steps = oracle.LONG if options.long else None
    if options.again:
        for method in options.method:
            wanted = options.bases if needs_base(method) else (None,)
            cells = (
                Cell(name, seed, base, steps or own_steps(name))
                for name in tasks
                for seed in seeds
                for base in wanted
            )
            store.forget(method, cells)
    units = missing(options.method, tasks, seeds, options.bases, steps)
    return 1 if carry_out(units, options.jobs) else 0


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))  # `support`, as under pytest
    sys.exit(main())
