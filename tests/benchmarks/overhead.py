"""What a guarded training loop loses to LRPilot, end to end: real daemon, snapshots, agent thread.

Equal jobs in one process, raw loops and Lightning fits, in blocks: guarded, alone, and alone once
more, which shows what the machine's noise makes of nothing. The order within each round is drawn
at random; each block begins once the agent is idle. The trainer has one core, its agent's thread
included, and the daemon another. A block's time is divided by that of the same round's lone
block. Given are the median and the mean of these ratios, with 95 % bootstrap intervals. It fails
where the interval of a median lies above 2 %.
"""

import logging
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from tests.benchmarks._fits import Fit
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
LIMIT_PCT = 2.0

Step = Callable[[], None]
Block = Callable[[], float]


def main() -> dict[str, Any]:
    """Run it: five minutes."""
    quiet_threads()
    for name in ("lrpilot", "pytorch_lightning", "lightning.pytorch"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory(prefix="lrp") as folder:
        daemon = Daemon(Path(folder))
        with pinned(1):
            daemon.start()
        try:
            with pinned(0):
                loops = [raw(target, daemon.address) for target in TARGETS_MS]
                loops += [lightning(target, daemon.address) for target in TARGETS_MS]
        finally:
            daemon.kill()
    table(
        f"time of a guarded loop over a lone one ({ROUNDS} paired blocks of {BLOCK_S} s)",
        ("loop", "step ms", "median +%", "95 % low", "high", "mean +%", "noise %", "low", "high"),
        [
            (r["loop"], r["step_ms"], *r["pilot"]["median_95_pct"], r["pilot"]["mean_95_pct"][0],
             *r["noise"]["median_95_pct"])
            for r in loops
        ],
    )  # fmt: skip
    results = save("overhead", {"rounds": ROUNDS, "block_s": BLOCK_S, "loops": loops})
    if over := [r for r in loops if r["pilot"]["median_95_pct"][1] > LIMIT_PCT]:
        names = ", ".join(f"{r['loop']} at {r['step_ms']} ms" for r in over)
        sys.exit(f"LRPilot costs more than {LIMIT_PCT:g} %: {names}")
    return results


def raw(target_ms: float, address: str) -> dict[str, Any]:
    """Raw loops at about `target_ms` per step."""
    rows, calls = rows_for(target_ms), calls_for(target_ms)
    pilot_step, pilot = guarded(rows, address, f"overhead-{target_ms:g}ms")
    steps: dict[str, Step] = {
        "alone": _loop(rows, None), "again": _loop(rows, None), "pilot": pilot_step,
    }  # fmt: skip
    blocks: dict[str, Block] = {
        name: lambda step=step: block(step, calls)  # type: ignore[misc]
        for name, step in steps.items()
    }
    found = measure("raw", blocks, calls, lambda: pilot)
    pilot.close()
    return found


def lightning(target_ms: float, address: str) -> dict[str, Any]:
    """Lightning fits of the same jobs; what Lightning itself takes comes on top."""
    rows, calls = rows_for(target_ms), calls_for(target_ms)
    fits: dict[str, Fit] = {}
    for name in ("alone", "again", "pilot"):
        model, _, inputs, targets = _job(rows)
        keywords: dict[str, Any] = {}
        if name == "pilot":
            run = f"overhead-lightning-{target_ms:g}ms"
            keywords = {"address": address, "project": "bench", "run": run}
        fits[name] = Fit(model, LR, (inputs, targets), calls, **keywords)
    blocks = {name: fit.block for name, fit in fits.items()}
    found = measure("Lightning", blocks, calls, lambda: fits["pilot"].pilot)
    for fit in fits.values():
        fit.end()
    return found


def measure(
    loop: str, blocks: dict[str, Block], calls: int, pilot: Callable[[], Pilot | None]
) -> dict[str, Any]:
    """Blocks of `calls` steps in turn, in rounds."""
    times: dict[str, list[float]] = {name: [] for name in blocks}
    order, rng = list(blocks), random.Random(0)
    for number in range(ROUNDS + 1):
        rng.shuffle(order)
        for name in order:
            if (one := pilot()) is not None:
                deliver(one)
            took = blocks[name]()
            if number:  # the first round warms up
                times[name].append(took)
    one = pilot()
    assert one is not None
    return {
        "loop": loop,
        "step_ms": round(1000 * middle(times["alone"]) / calls, 3),
        "steps_per_block": calls,
        "pilot": compare(times["pilot"], times["alone"], calls),
        "noise": compare(times["again"], times["alone"], calls),
        "snapshots": one.summary().snapshots,
    }


def block(step: Step, calls: int) -> float:
    begin = time.perf_counter()
    for _ in range(calls):
        step()
    return time.perf_counter() - begin


def calls_for(target_ms: float) -> int:
    return max(10, round(BLOCK_S * 1000 / target_ms))


def compare(ours: list[float], theirs: list[float], calls: int) -> dict[str, Any]:
    """Differences in percent and microseconds per step, paired by round."""
    pct = [100 * (a / b - 1) for a, b in zip(ours, theirs, strict=True)]
    us = [1e6 * (a - b) / calls for a, b in zip(ours, theirs, strict=True)]
    return {
        "median_95_pct": interval(pct, middle),
        "mean_95_pct": interval(pct, statistics.fmean),
        "median_95_us_per_step": interval(us, middle),
        "all_pct": [round(value, 2) for value in pct],
    }


def interval(values: list[float], of: Callable[[Sequence[float]], float]) -> list[float]:
    """A statistic, and where it lies in 95 % of resamples."""
    rng = random.Random(1)
    drawn = [of(rng.choices(values, k=len(values))) for _ in range(RESAMPLES)]
    bounds = (of(values), percentile(drawn, 0.025), percentile(drawn, 0.975))
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
