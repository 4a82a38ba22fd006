"""A snapshot and a restore of 100 million parameters under AdamW, against a plain copy.

The plain copy moves the same bytes between two tensors. All three are timed in turn, in rounds,
from the second time on: the first touches memory that the system has yet to give. One thread
copies: with more, each tensor ends in a barrier, and on a busy machine all of these together cost
more than the copies; the plain copy has only one. It fails where the 95 % interval of a median
ratio lies above 1.3, where two slots take more than two copies, or where their size was not told
before. Needs 8 GiB of free memory, and says so where there is less.
"""

import logging
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tests.benchmarks._report import middle, save, table
from tests.benchmarks.overhead import interval
from torch import nn

from lrpilot.torch.live import LiveTensors
from lrpilot.torch.memory import GIB, free_bytes, gib, size_of
from lrpilot.torch.slots import Slots
from support.training import quiet_threads

WIDTH, DEPTH = 1024, 96  # 100.8 million parameters
ROUNDS = 9
NEEDED_GIB = 8
LIMIT = 1.3


class Told(logging.Handler):
    """What LRPilot said, and how much memory the process had then."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.lines: list[tuple[str, int]] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        self.lines.append((record.getMessage(), resident()))


def main() -> dict[str, Any]:
    """Run it: one minute."""
    free = free_bytes(torch.device("cpu"))[0]
    if free < NEEDED_GIB * GIB:
        print(f"snapshots: {gib(free)} of memory are free, {NEEDED_GIB} GiB are needed: left out")
        return {}
    quiet_threads()
    told, log = Told(), logging.getLogger("lrpilot")
    log.addHandler(told)
    log.setLevel(logging.INFO)
    try:
        return run(told)
    finally:
        log.removeHandler(told)


def run(told: Told) -> dict[str, Any]:
    """Measure, print and keep."""
    model, optimizer = job()
    slots, before = Slots(model, [optimizer]), resident()
    size = size_of(LiveTensors(model, [optimizer]).tensors().values())
    for slot in (0, 1):
        slots.save(slot)
    taken = (resident() - before) / size
    said_first = bool(told.lines) and told.lines[0][1] - before < 0.01 * size
    source = torch.ones(size // 4)
    to = torch.zeros(size // 4)
    calls: dict[str, Callable[[], object]] = {
        "copy": lambda: to.copy_(source),
        "snapshot": lambda: slots.save(0),
        "restore": lambda: slots.restore(0, rng=True),
    }
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            begin = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - begin)
    ratios = {
        name: interval([a / b for a, b in zip(times[name], times["copy"], strict=True)], middle)
        for name in ("snapshot", "restore")
    }
    table(
        f"AdamW, {sum(p.numel() for p in model.parameters()):,} parameters, {gib(size)}",
        ("what", "median ms", "of a plain copy", "95 % low", "high"),
        [
            (name, 1000 * middle(took), *ratios.get(name, (1.0, 1.0, 1.0)))
            for name, took in times.items()
        ],
    )
    print(f"memory of two slots: {taken:.2f} copies; told before: {told.lines[0][0]}")
    results = save(
        "snapshots",
        {
            "gib": round(size / GIB, 3),
            "rounds": ROUNDS,
            "threads": torch.get_num_threads(),
            "ms": {name: [round(1000 * t, 1) for t in took] for name, took in times.items()},
            "ratio_95": ratios,
            "copies_of_memory": round(taken, 3),
            "told": told.lines[0][0],
            "told_before": said_first,
        },
    )
    slow = [name for name, (_, low, _) in ratios.items() if low > LIMIT]
    if slow or taken > 2.02 or not said_first:
        sys.exit(f"slow: {slow}; {taken:.2f} copies of memory; told before: {said_first}")
    return results


def job() -> tuple[nn.Module, torch.optim.Optimizer]:
    """A model after one step, gradients let go of, as at a step boundary."""
    model = nn.Sequential(*(nn.Linear(WIDTH, WIDTH) for _ in range(DEPTH)))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 1e-3)
    optimizer.step()
    optimizer.zero_grad()
    return model, optimizer


def resident() -> int:
    """Bytes of memory that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
