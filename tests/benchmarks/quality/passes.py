"""The benchmark three times over one project, and over a project whose past is a lie.

`python -m tests.benchmarks.quality.passes [--tasks T ...] [--bases B ...] [--seeds S ...]
[--lies FACTOR ...] [--forged] [--jobs N]`: a pass is each task once, on a seed of its own. A lie is
a hundred trials in the project's past that claim a loss of nearly nothing at FACTOR times the best
LR. Forged ones claim as well that their programs came as far as those of a real run; those figures
are printed alone.
"""

import argparse
import multiprocessing
import statistics
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from tests.benchmarks import _report

from lrpilot_controller.core import events
from lrpilot_controller.core.findings import Reach
from lrpilot_controller.tuning import studies
from lrpilot_controller.tuning.places import place_of
from lrpilot_controller.tuning.searches import told

from . import oracle, ours, store
from .daemons import serving
from .outcome import row
from .runs import base_lr, reference
from .store import Cell
from .tasks import TASKS, own_steps, task

METHOD = "lrpilot"
PASSES, AFTER_LIES, LIES = 3, 5, 100
BASES = (1e-3, 1.0, 1e2)
FACTORS = (1 / 30, 30.0)


@dataclass(frozen=True)
class Series:
    """Runs of one task, one after the other, on seed after seed.

    Attributes:
        lie: What the project's past claims is the best LR, times the best; None: it has no past.
        forged: The lie tells how far programs came, as a real run saw it.
    """

    task: str
    base: float
    seed: int
    runs: int
    folder: Path
    lie: float | None = None
    forged: bool = False


def measure(series: Series) -> list[dict[str, Any]]:
    """Each run's excess, and the steps of its programs."""
    torch.set_num_threads(1)
    past = "clean" if series.lie is None else f"lie-{series.lie:.3g}"
    project = f"{past}-{series.base:g}-{series.seed}-{series.task}"
    found = []
    for number in range(series.runs):
        seed = (series.seed - 1 + number) % len(oracle.SEEDS) + 1
        cell = Cell(series.task, seed, series.base, own_steps(series.task))
        seeds = reference(cell)
        assert seeds is not None
        own = seeds[str(seed)]
        if series.lie is not None and not number:
            lr = min(max(own["best"]["lr"] * series.lie, 1e-12), 1e6)
            called, progress = job_of(series, cell)
            claimed = replace(progress, lr=progress.lr * series.lie) if progress else None
            lie(series.folder, project, called, cell.steps, lr, claimed)
        job = task(cell.task, seed, cell.steps)
        variant, name = ours.VARIANTS[METHOD], f"run-{number}"
        outcome = ours.run_as(job, base_lr(cell, seeds), variant, project, name, series.folder)
        happened = [one.event for one in ours.records(series.folder, project, name)]
        ours.await_trials(series.folder, project, number + 1 + LIES * (series.lie is not None))
        found.append(
            {
                "task": cell.task,
                "seed": seed,
                "base": series.base,
                "lie": series.lie,
                "number": number,
                "probed": sum(
                    len(e.losses) for e in happened if isinstance(e, events.ProgramEnded)
                ),
                "told": [e.reason for e in happened if isinstance(e, events.PriorAnswered)],
                "why": [e.result.reason for e in happened if isinstance(e, events.SearchEnded)],
                **row(outcome, own["best"]["loss"], own["uninformed"]),
            }
        )
    return found


def job_of(series: Series, cell: Cell) -> tuple[str, Reach | None]:
    """What a trainer calls this job, and how far the programs of a whole run came.

    Where nothing is forged one that is over at once tells the name.
    """
    seeds = reference(cell)
    assert seeds is not None
    first = task(cell.task, cell.seed, cell.steps if series.forged else 1)
    project = f"name-{series.lie:.3g}-{series.base:g}-{series.seed}-{series.task}"
    ours.train(first, base_lr(cell, seeds), ours.VARIANTS[METHOD], project, "run", series.folder)
    ours.await_trials(series.folder, project, 1)
    happened = [one.event for one in ours.records(series.folder, project, "run")]
    [name] = {e.attempt.job for e in happened if isinstance(e, events.SessionOpened)}
    came = [e.result.progress for e in happened if isinstance(e, events.SearchEnded)]
    return name, came[-1] if came else None


def lie(
    folder: Path, project: str, job: str, steps: int, lr: float, progress: Reach | None
) -> None:
    """Put a past into a project: so many runs of the job that did best at this LR."""
    import optuna
    from optuna.distributions import FloatDistribution

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = place_of(folder / "store").open(30.0, create=False)
    study = optuna.create_study(
        study_name=studies.runs_study(project), storage=storage, direction="minimize"
    )
    for number in range(LIES):
        trial = optuna.trial.create_trial(
            value=1e-9,
            params={"lr": lr},
            distributions={"lr": FloatDistribution(min(1e-8, lr), max(10.0, lr), log=True)},
            user_attrs={
                "run": f"{project}/lie-{number}",
                "attempt": f"lie-{number}",
                "job": job,
                "total_steps": steps,
                "measure": "train",
                "end": "found",
                **({"progress": told(progress)} if progress else {}),
            },
        )
        study.add_trial(trial)
    study.set_user_attr("kind", "runs")
    study.set_user_attr("lrpilot", 1)
    storage.remove_session()
    storage.engine.dispose()


def figures(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What each pass, and each run after a lie, came to."""
    kept = store.load(METHOD)
    for one in rows:
        cell = Cell(one["task"], one["seed"], one["base"], own_steps(one["task"]))
        one["alone"] = kept[cell]["excess"]
    clean = [one for one in rows if one["lie"] is None]
    after = {}
    for factor in sorted({one["lie"] for one in rows} - {None}):
        lied = [one for one in rows if one["lie"] == factor]
        after[f"x{factor:.3g}"] = [
            _means([one for one in lied if one["number"] == number]) for number in range(AFTER_LIES)
        ]
    return {
        "runs": len(rows),
        "passes": [
            _means([r for r in clean if r["number"] == k]) for k in range(PASSES if clean else 0)
        ],
        "after_lies": after,
    }


def _means(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """`alone` is the excess of the same runs without a past, as the benchmark's own table has."""
    return {
        "runs": len(rows),
        "excess": round(statistics.fmean(one["excess"] for one in rows), 5),
        "alone": round(statistics.fmean(one["alone"] for one in rows), 5),
        "probed": round(statistics.fmean(one["probed"] for one in rows), 1),
        "outside": round(statistics.fmean(one.get("outside", 0) for one in rows), 1),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs what is asked for, prints, and keeps the figures."""
    parser = argparse.ArgumentParser(description="a project that learns, and one that was lied to")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=TASKS, metavar="TASK")
    parser.add_argument("--bases", nargs="+", type=float, default=BASES)
    parser.add_argument("--seeds", nargs="+", type=int, default=[1])
    parser.add_argument("--lies", nargs="*", type=float, default=FACTORS, metavar="FACTOR")
    parser.add_argument("--forged", action="store_true", help="lies alone, which tell progress")
    parser.add_argument("--jobs", type=int, default=2, help="processes, of one thread each")
    options = parser.parse_args(arguments)
    pasts: list[tuple[float | None, int]] = [] if options.forged else [(None, PASSES)]
    pasts += [(factor, AFTER_LIES) for factor in options.lies]
    rows: list[dict[str, Any]] = []
    spawn = multiprocessing.get_context("spawn")
    with serving([METHOD]) as folders, ProcessPoolExecutor(options.jobs, mp_context=spawn) as pool:
        folder = folders[METHOD]
        futures = [
            pool.submit(measure, Series(name, base, seed, runs, folder, past, options.forged))
            for name in options.tasks
            for base in options.bases
            for seed in options.seeds
            for past, runs in pasts
        ]
        for future in as_completed(futures):
            found = future.result()
            rows += found
            one = found[0]
            shown = " ".join(f"{r['excess']:.3f}({r['probed']})" for r in found)
            print(f"{one['task']} x{one['base']:g} lie {one['lie']}: {shown}", flush=True)
    came = figures(rows)
    table = [(f"pass {k + 1}", *one.values()) for k, one in enumerate(came["passes"])]
    for name, runs in came["after_lies"].items():
        table += [(f"lie {name}, run {k + 1}", *one.values()) for k, one in enumerate(runs)]
    _report.table("means", ("", "runs", "excess", "alone", "probed", "outside"), table)
    if not options.forged:
        _report.save("passes", {**came, "rows": rows})
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))  # `support`, as under pytest
    sys.exit(main())
