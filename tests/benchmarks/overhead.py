"""What a guarded training loop loses to LRPilot, end to end: real daemon, snapshots, agent thread.

Three loops over equal jobs in one process, in blocks: guarded, alone, and alone once more, which
shows what the machine's noise makes of nothing. The order within each round is drawn at random;
each block begins once the agent is idle. The trainer has one core, its agent's thread included,
and the daemon another. Given is the mean over rounds of the relative difference of a block's time
to that of the same round's lone block, with a 95 % bootstrap interval.
"""

import logging
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tests.benchmarks._fleet import pinned
from tests.benchmarks._report import middle, percentile, save, table
from tests.benchmarks.step import deliver
from torch import nn

import lrpilot
from lrpilot.pilot import Pilot
from support.daemon import Daemon
from support.training import quiet_threads

TARGETS_MS = (1.0, 10.0)
ROUNDS = 30
BLOCK_S = 0.6  # over two flush intervals: a block pays for its own flushes
WIDTH, DEPTH = 64, 3
LR = 1e-3
RESAMPLES = 5000

Step = Callable[[], None]


def main() -> dict[str, Any]:
    """Run it: three minutes."""
    quiet_threads()
    logging.getLogger("lrpilot").setLevel(logging.ERROR)
    rows = []
    with tempfile.TemporaryDirectory(prefix="lrp") as folder:
        daemon = Daemon(Path(folder))
        with pinned(1):
            daemon.start()
        try:
            with pinned(0):
                rows = [measure(target, daemon.address) for target in TARGETS_MS]
        finally:
            daemon.kill()
    table(
        f"time of a guarded loop against a lone one ({ROUNDS} paired blocks of {BLOCK_S} s)",
        ("step ms", "difference %", "95 % low", "high", "median %", "noise %", "low", "high"),
        [
            (r["step_ms"], *r["pilot"]["mean_95_pct"], r["pilot"]["median_pct"],
             *r["noise"]["mean_95_pct"])
            for r in rows
        ],
    )  # fmt: skip
    return save("overhead", {"rounds": ROUNDS, "block_s": BLOCK_S, "loops": rows})


def measure(target_ms: float, address: str) -> dict[str, Any]:
    """The three loops at about `target_ms` per step."""
    rows = rows_for(target_ms)
    alone, again = _loop(rows, None), _loop(rows, None)
    pilot_step, pilot = guarded(rows, address, f"overhead-{target_ms:g}ms")
    loops: dict[str, Step] = {"alone": alone, "again": again, "pilot": pilot_step}
    calls = max(10, round(BLOCK_S * 1000 / target_ms))
    times: dict[str, list[float]] = {name: [] for name in loops}
    order, rng = list(loops), random.Random(0)
    for number in range(ROUNDS + 1):
        rng.shuffle(order)
        for name in order:
            deliver(pilot)
            took = block(loops[name], calls)
            if number:  # the first round warms up
                times[name].append(took)
    summary = pilot.summary()
    pilot.close()
    return {
        "step_ms": round(1000 * middle(times["alone"]) / calls, 3),
        "steps_per_block": calls,
        "pilot": compare(times["pilot"], times["alone"], calls),
        "noise": compare(times["again"], times["alone"], calls),
        "snapshots": summary.snapshots,
    }


def block(step: Step, calls: int) -> float:
    begin = time.perf_counter()
    for _ in range(calls):
        step()
    return time.perf_counter() - begin


def compare(ours: list[float], theirs: list[float], calls: int) -> dict[str, Any]:
    """Differences in percent and microseconds per step, paired by round."""
    pct = [100 * (a / b - 1) for a, b in zip(ours, theirs, strict=True)]
    us = [1e6 * (a - b) / calls for a, b in zip(ours, theirs, strict=True)]
    return {
        "mean_95_pct": interval(pct),
        "mean_95_us_per_step": interval(us),
        "median_pct": round(middle(pct), 2),
        "all_pct": [round(value, 2) for value in pct],
    }


def interval(values: list[float]) -> list[float]:
    """The mean, and where it lies in 95 % of resamples."""
    rng = random.Random(1)
    means = [statistics.fmean(rng.choices(values, k=len(values))) for _ in range(RESAMPLES)]
    bounds = (statistics.fmean(values), percentile(means, 0.025), percentile(means, 0.975))
    return [round(value, 2) for value in bounds]


def rows_for(target_ms: float) -> int:
    """The batch size at which a step takes about so long here."""
    rows = 16
    while rows < 1 << 16:
        step = _loop(rows, None)
        block(step, 5)
        took = min(block(step, 5) for _ in range(3)) / 5
        if 1000 * took >= 0.8 * target_ms:
            return rows
        rows = round(rows * min(2.0, max(1.1, target_ms / (1000 * took))))
    return rows


def _job(rows: int) -> tuple[nn.Module, torch.optim.Optimizer, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for _ in range(DEPTH):
        layers += [nn.Linear(WIDTH, WIDTH), nn.Tanh()]
    model = nn.Sequential(*layers, nn.Linear(WIDTH, 1))
    inputs = torch.randn(rows, WIDTH)
    return model, torch.optim.SGD(model.parameters(), lr=LR), inputs, inputs.sum(1, keepdim=True)


def _loop(rows: int, pilot: Pilot | None, job: Any = None) -> Step:
    model, optimizer, inputs, targets = job or _job(rows)

    def step() -> None:
        loss = nn.functional.mse_loss(model(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if pilot is not None:
            pilot.step(loss)

    return step


def guarded(rows: int, address: str, run: str) -> tuple[Step, Pilot]:
    job = _job(rows)
    model, optimizer = job[:2]
    pilot = lrpilot.attach(optimizer, model=model, address=address, project="bench", run=run)
    return _loop(rows, pilot, job), pilot
