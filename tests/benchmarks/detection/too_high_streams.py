"""Records loss streams of real trainings at right and at wrong learning rates, as data.

`python -m tests.benchmarks.detection.too_high_streams [--out FILE] [--jobs N]` records what is
missing in FILE (default: `too_high_streams.npz` beside this module) and can be interrupted.

Each stream is a training at a constant multiple of the best LR of its task and optimizer, or, under
the schedule `warmup_cosine`, at the best LR with a linear warm-up of 5 % and a cosine to 0. The
best LR is the one with the lowest held-out loss after `GRID_STEPS` steps at a constant rate, on
seed 100, on a grid of half decades that is followed to both sides until the loss rises; equal
losses are told apart by the mean train loss of the last tenth.

FILE is a NumPy archive of three arrays. `train` holds the train losses of all streams one after
the other (float32, as they were: NaN and infinities included), `val` the held-out losses likewise,
and `meta` one JSON text: `{"best": {TASK: {OPTIMIZER: {"lr", "grid"}}}, "streams": [{"task",
"optimizer", "multiple", "seed", "peak_lr", "schedule", "uninformed", "train_count", "val_count"}]}`
in the order of the losses. `load` puts it all together again.
"""

import argparse
import io
import itertools
import json
import math
import multiprocessing
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.quality import oracle
from benchmarks.quality.peers import seeded
from benchmarks.quality.tasks import DESIGN_SEED, Task

from .too_high_tasks import DESIGN, OPTIMIZERS, TEST, OptimizerName, job

FILE = Path(__file__).with_name("too_high_streams.npz")

STEPS = 500  # the T of every stream
SHORT_STEPS = 250  # as much as is recorded at the multiples of `SHORT`
GRID_STEPS = 400
VALIDATION_EVERY = 50
LOST_AFTER = 20  # non-finite losses in a row
SAVE_EVERY_S = 300.0

MULTIPLES = (0.3, 1.0, 3.0, 10.0, 30.0)
SHORT = (10.0, 30.0)
SEEDS = (1, 2, 3, 4, 5)
SCHEDULES = {"constant": oracle.constant, "warmup_cosine": oracle.cosine}
HALF_DECADE = math.sqrt(10)
LOWEST, HIGHEST = 1e-5, 1e3  # of any grid

Stream = dict[str, Any]  # what `load` documents
Best = dict[str, Any]  # "lr" and "grid": [lr, held-out loss or None, train loss or None]


@dataclass
class Archive:
    """What has been recorded so far."""

    best: dict[str, dict[str, Best]] = field(default_factory=dict)
    streams: list[Stream] = field(default_factory=list)


def load(path: Path = FILE) -> list[Stream]:
    """Returns the streams.

    Each has `task`, `optimizer`, `multiple`, `seed`, `schedule`, `peak_lr`, `uninformed` (held-out
    loss of who knows nothing), `lr` (array: the LR used by each step), `train` (the loss of each
    step, before its update) and `val` (held-out loss by the number of steps done).
    """
    return open_archive(path).streams


def open_archive(path: Path = FILE) -> Archive:
    """Reads an archive; an empty one where there is no file."""
    if not path.exists():
        return Archive()
    with np.load(path) as file:
        meta = json.loads(str(file["meta"]))
        train, val = file["train"], file["val"]
    streams, at, val_at = [], 0, 0
    for kept in meta["streams"]:
        count, val_count = kept.pop("train_count"), kept.pop("val_count")
        factor = SCHEDULES[kept["schedule"]]
        lr = np.array([kept["peak_lr"] * factor(step, STEPS) for step in range(count)])
        held_out = val[val_at : val_at + val_count].tolist()
        by_step = {(i + 1) * VALIDATION_EVERY: loss for i, loss in enumerate(held_out)}
        losses = train[at : at + count].tolist()
        streams.append(kept | {"lr": lr, "train": losses, "val": by_step})
        at, val_at = at + count, val_at + val_count
    return Archive(meta["best"], streams)


def save(archive: Archive, path: Path = FILE) -> None:
    """Writes an archive, in one move."""
    described = []
    for stream in archive.streams:
        kept = {key: stream[key] for key in stream if key not in ("lr", "train", "val")}
        counts = {"train_count": len(stream["train"]), "val_count": len(stream["val"])}
        described.append(kept | counts)
    losses = [np.asarray(stream["train"], np.float32) for stream in archive.streams]
    held_out = [np.asarray([*stream["val"].values()], np.float32) for stream in archive.streams]
    told = json.dumps({"best": archive.best, "streams": described}, allow_nan=False)
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        meta=np.array(told),
        train=np.concatenate([np.empty(0, np.float32), *losses]),
        val=np.concatenate([np.empty(0, np.float32), *held_out]),
    )
    fresh = path.with_suffix(".part")
    fresh.write_bytes(buffer.getvalue())
    fresh.replace(path)


def train(made: Task, lr: float, schedule: str, record: int) -> tuple[list[float], list[float]]:
    """Trains a new task for `record` of its steps; returns train and held-out losses.

    It ends early where `LOST_AFTER` losses in a row are not finite.
    """
    factor = SCHEDULES[schedule]
    optimizer = made.make_optimizer(lr)
    losses: list[float] = []
    held_out: list[float] = []
    with seeded(made):
        made.model.train()
        for step, batch in enumerate(itertools.islice(made.batches(), record)):
            for group in optimizer.param_groups:
                group["lr"] = lr * factor(step, made.total_steps)
            loss = made.loss(batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            if (step + 1) % VALIDATION_EVERY == 0:
                held_out.append(made.validate())
            last = losses[-LOST_AFTER:]
            if len(last) == LOST_AFTER and not any(map(math.isfinite, last)):
                break
    return losses, held_out


def find_best(name: str, optimizer: OptimizerName) -> Best:
    """The best constant LR on the design seed, and the grid that says so."""
    tried: dict[int, tuple[float, float]] = {}
    scale = job(name, optimizer, DESIGN_SEED, GRID_STEPS).lr_scale

    def lr_of(place: int) -> float:
        return float(f"{scale * HALF_DECADE**place:.4g}")

    def judge(place: int) -> None:
        made = job(name, optimizer, DESIGN_SEED, GRID_STEPS)
        losses, held_out = train(made, lr_of(place), "constant", GRID_STEPS)
        tail = losses[-GRID_STEPS // 10 :]
        ended = len(losses) == GRID_STEPS and all(map(math.isfinite, tail))
        final = held_out[-1] if ended and math.isfinite(held_out[-1]) else math.inf
        tried[place] = final, float(np.mean(tail)) if ended else math.inf

    for place in (-1, 0, 1):
        judge(place)
    while True:
        best = min(tried, key=lambda place: tried[place])
        open_sides = {best - 1, best + 1} - set(tried)
        if not open_sides:
            break
        for place in open_sides:
            if not LOWEST < lr_of(place) < HIGHEST:
                raise RuntimeError(f"{name} with {optimizer}: no best LR within the grid's limits")
            judge(place)
    grid = [[lr_of(place), *map(_number, tried[place])] for place in sorted(tried)]
    return {"lr": lr_of(best), "grid": grid}


def _number(loss: float) -> float | None:
    return float(f"{loss:.6g}") if math.isfinite(loss) else None


Recorded = tuple["Unit", Best, list[Stream]]


@dataclass(frozen=True)
class Unit:
    """What one process does at a time; `best` is None where it is not known yet."""

    task: str
    optimizer: OptimizerName
    cells: tuple[tuple[float, str, int], ...]  # multiple, schedule, seed
    best: Best | None


def record(unit: Unit) -> Recorded:
    """Carries a unit out, on one thread."""
    torch.set_num_threads(1)
    best = unit.best or find_best(unit.task, unit.optimizer)
    streams = []
    for multiple, schedule, seed in unit.cells:
        made = job(unit.task, unit.optimizer, seed, STEPS)
        lr = best["lr"] * multiple
        length = SHORT_STEPS if multiple in SHORT else STEPS
        losses, held_out = train(made, lr, schedule, length)
        streams.append(
            {
                "task": unit.task,
                "optimizer": unit.optimizer,
                "multiple": multiple,
                "seed": seed,
                "peak_lr": lr,
                "schedule": schedule,
                "uninformed": made.uninformed,
                "lr": np.array([lr * SCHEDULES[schedule](i, STEPS) for i in range(len(losses))]),
                "train": losses,
                "val": {(i + 1) * VALIDATION_EVERY: loss for i, loss in enumerate(held_out)},
            }
        )
    return unit, best, streams


def missing(archive: Archive, seeds: Sequence[int]) -> Iterator[Unit]:
    """What is to be recorded of these seeds."""
    kept = {
        (s["task"], s["optimizer"], s["multiple"], s["schedule"], s["seed"])
        for s in archive.streams
    }
    wanted = [(multiple, "constant") for multiple in MULTIPLES] + [(1.0, "warmup_cosine")]
    for name, optimizer in itertools.product(DESIGN + TEST, OPTIMIZERS):
        cells = tuple(
            (multiple, schedule, seed)
            for seed in seeds
            for multiple, schedule in wanted
            if (name, optimizer, multiple, schedule, seed) not in kept
        )
        if cells:
            yield Unit(name, optimizer, cells, archive.best.get(name, {}).get(optimizer))


def main(arguments: Sequence[str] | None = None) -> None:
    """Records what is missing."""
    parser = argparse.ArgumentParser(description="loss streams at right and wrong LRs")
    parser.add_argument("--out", type=Path, default=FILE)
    parser.add_argument("--jobs", type=int, default=2, help="processes, of one thread each")
    options = parser.parse_args(arguments)
    archive = open_archive(options.out)
    begin = saved = time.perf_counter()
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.jobs, mp_context=spawn) as pool:
        for unit, best, streams in _recorded(archive, pool):
            archive.best.setdefault(unit.task, {})[unit.optimizer] = best
            archive.streams += streams
            now = time.perf_counter()
            told = f"{unit.task}, {unit.optimizer}, best {best['lr']:g}: {len(streams)} streams"
            print(f"{told} ({now - begin:.0f} s)", flush=True)
            if now - saved > SAVE_EVERY_S:
                save(archive, options.out)
                saved = now
    archive.streams.sort(key=_place)
    save(archive, options.out)


def _recorded(archive: Archive, pool: ProcessPoolExecutor) -> Iterator[Recorded]:
    # Two seeds of everything first; by the time of the others, each best LR is known.
    for seeds in (SEEDS[:2], SEEDS[2:]):
        units = list(missing(archive, seeds))
        for future in as_completed([pool.submit(record, unit) for unit in units]):
            yield future.result()


def _place(stream: Stream) -> tuple[int, int, str, float, int]:
    return (
        (DESIGN + TEST).index(stream["task"]),
        OPTIMIZERS.index(stream["optimizer"]),
        stream["schedule"],
        stream["multiple"],
        stream["seed"],
    )


if __name__ == "__main__":
    main()
