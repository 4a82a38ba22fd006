"""What a patient person would reach: the best of ten full runs per task and seed, kept as data.

`python -m tests.benchmarks.quality.oracle [--seeds SEED ...] [--steps N] [TASK ...]`
writes `oracle/<task>.json`, with `--steps` `oracle/<task>-<N>.json`, and continues where it was
interrupted.
"""

import argparse
import json
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from .tasks import TASKS, Task, own_steps, task

Search = dict[str, Any]  # what `search` returns

FOLDER = Path(__file__).parent / "oracle"
SEEDS = (1, 2, 3, 4, 5)  # none of them was used to design anything
DESIGN_SEEDS = (100, 101)
LONG = 5000  # steps of the long form
LONG_SEEDS = (1, 2, 3)
LONG_TASKS = (
    "digits_conv",
    "text_transformer_adamw",
    "noisy_least_squares",
    "matrix_factorization",
)
MULTIPLES = tuple(10**half for half in (-1.0, -0.5, 0.0, 0.5, 1.0))  # of a task's `lr_scale`
WARM_UP = 0.05


def constant(step: int, total: int) -> float:
    """The factor on the LR before 0-based `step`: always 1."""
    return 1.0


def cosine(step: int, total: int) -> float:
    """The factor on the LR before 0-based `step`: a linear warm-up of 5 %, then a cosine to 0."""
    rise = math.ceil(WARM_UP * total)
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / (total - rise)))


SCHEDULES: dict[str, Callable[[int, int], float]] = {"cosine": cosine, "constant": constant}


def train(job: Task, schedule: str, lr: float) -> float:
    """Trains a new task to its end; returns its held-out loss, infinite if a loss was not finite.

    The global random state, from which dropout draws, is seeded and afterwards put back.
    """
    optimizer = job.make_optimizer(lr)
    factor = SCHEDULES[schedule]
    batches = job.batches()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(job.seed)
        job.model.train()
        for step in range(job.total_steps):
            for group in optimizer.param_groups:
                group["lr"] = lr * factor(step, job.total_steps)
            loss = job.loss(next(batches))
            if not math.isfinite(loss.item()):
                return math.inf
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    final = job.validate()
    return final if math.isfinite(final) else math.inf


def other_seed(seed: int, *, long: bool = False) -> int:
    """The seed whose best LR a run of `seed` knows: the next one of its kind, in a circle.

    Of the design seeds the long form has one, which knows that of the first evaluation seed.
    """
    if seed in DESIGN_SEEDS and long:
        return LONG_SEEDS[0]
    kind = DESIGN_SEEDS if seed in DESIGN_SEEDS else LONG_SEEDS if long else SEEDS
    return kind[(kind.index(seed) + 1) % len(kind)]


def excess(final: float, oracle: float, uninformed: float) -> float:
    """Normalized excess loss: 0 is the oracle (below it is better), 1 has learned nothing.

    Non-finite and worse than uninformed count as 1.
    """
    if not math.isfinite(final) or final >= uninformed:
        return 1.0
    return (final - oracle) / (uninformed - oracle)


def search(name: str, seed: int, steps: int | None = None) -> Search:
    """Runs the grid for one seed; `best` is the run with the lowest final held-out loss."""
    grid = []
    for schedule in SCHEDULES:
        for multiple in MULTIPLES:
            job = task(name, seed, steps)
            lr = job.lr_scale * multiple
            loss = train(job, schedule, lr)
            grid.append(
                {"schedule": schedule, "lr": lr, "loss": loss if math.isfinite(loss) else None}
            )
    finite = [run for run in grid if run["loss"] is not None]
    best = min(finite, key=lambda run: run["loss"])  # type: ignore[arg-type,return-value]
    return {"uninformed": job.uninformed, "best": best, "grid": grid}


def load(name: str, folder: Path = FOLDER, *, steps: int | None = None) -> dict[str, Any]:
    """Returns what is kept of a task: its settings and, under `seeds`, a `search` by seed.

    A length other than the task's own has a file of its own.
    """
    path = _path(folder, name, steps)
    if not path.exists():
        job = task(name, 0, steps)
        return {
            "task": name,
            "optimizer": job.optimizer_name,
            "steps": job.total_steps,
            "lr_scale": job.lr_scale,
            "torch": torch.__version__,
            "seeds": {},
        }
    kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return kept


def _path(folder: Path, name: str, steps: int | None) -> Path:
    return folder / (f"{name}.json" if steps in (None, own_steps(name)) else f"{name}-{steps}.json")


def save(kept: dict[str, Any], folder: Path = FOLDER) -> None:
    """Writes what is kept of a task, in one move."""
    folder.mkdir(exist_ok=True)
    path = _path(folder, kept["task"], kept["steps"])
    fresh = path.with_suffix(".part")
    fresh.write_text(json.dumps(kept, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    fresh.replace(path)


def main(arguments: Sequence[str] | None = None) -> None:
    """Fills in what is missing."""
    parser = argparse.ArgumentParser(description="oracle grids of the quality benchmark")
    parser.add_argument("tasks", nargs="*", metavar="TASK", help=f"of {', '.join(TASKS)}")
    parser.add_argument("--seeds", nargs="+", type=int, default=SEEDS)
    parser.add_argument("--steps", type=int, help="a length other than the task's own")
    options = parser.parse_args(arguments)
    if unknown := set(options.tasks) - set(TASKS):
        parser.error(f"no task {', '.join(sorted(unknown))}")
    torch.set_num_threads(1)
    for name in options.tasks or TASKS:
        kept = load(name, steps=options.steps)
        for seed in options.seeds:
            if str(seed) in kept["seeds"]:
                continue
            begin = time.perf_counter()
            kept["seeds"][str(seed)] = search(name, seed, options.steps)
            save(kept)
            best = kept["seeds"][str(seed)]["best"]
            print(
                f"{name}, seed {seed}: {best['loss']:.4f} with {best['schedule']} {best['lr']:.3g},"
                f" {time.perf_counter() - begin:.0f} s",
                flush=True,
            )


if __name__ == "__main__":
    main()
