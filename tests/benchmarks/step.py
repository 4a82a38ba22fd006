"""What one `pilot.step` costs the training thread on a CPU.

Three lines to the daemon (one that keeps nothing, the real agent with a real daemon, none), losses
as floats and as tensors, 1 and 8 param groups, with and without a plan in force. Blocks of calls,
interleaved, best and median of seven: the machine's other work comes on top of the best.
"""

import logging
import tempfile
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tests.benchmarks._report import middle, save, table
from tests.benchmarks.reference import reference_us

import lrpilot
from lrpilot.client.base import Item, Transport
from lrpilot.pilot import Pilot
from lrpilot.plan import Bounds
from lrpilot.run import RunInfo
from lrpilot.testing import FakeDaemon
from lrpilot.torch.losses import TorchLosses
from lrpilot.torch.trainer import TorchTrainer
from lrpilot_proto.v1 import model_pb2
from support.daemon import Daemon
from support.training import quiet_threads

CALLS = 1000
ROUNDS = 7
LR = 0.1
GROUPS = (1, 8)
DELIVERY_S = 3.0


class NullDaemon(FakeDaemon):
    """Takes samples as the real agent does, with one append, and forgets them."""

    def __init__(self) -> None:
        super().__init__()
        self._kept: deque[Item] = deque(maxlen=100)
        self._append = self._kept.append

    def push(self, item: Item) -> None:
        """Keep the last hundred."""
        self._append(item)


@dataclass
class Cell:
    """One combination, and the blocks that were timed."""

    line: str
    loss: str
    groups: int
    plan: bool
    pilot: Pilot
    losses: list[Any]
    before: Callable[[], None] | None = None
    blocks_us: list[float] | None = None

    def run(self) -> None:
        """Time one block of calls."""
        step = self.pilot.step
        if self.before is not None:
            took = self._one_by_one(step, self.before)
        else:
            begin = time.perf_counter_ns()
            for loss in self.losses:
                step(loss)
            took = time.perf_counter_ns() - begin
        self.blocks_us = [*(self.blocks_us or []), took / 1000 / len(self.losses)]
        deliver(self.pilot)

    def _one_by_one(self, step: Callable[[Any], None], before: Callable[[], None]) -> int:
        took = 0
        for loss in self.losses:
            before()
            begin = time.perf_counter_ns()
            step(loss)
            took += time.perf_counter_ns() - begin
        return took

    def figures(self) -> dict[str, Any]:
        """As data."""
        assert self.blocks_us
        return {
            "line": self.line,
            "loss": self.loss,
            "groups": self.groups,
            "plan": self.plan,
            "best_us": round(min(self.blocks_us), 3),
            "median_us": round(middle(self.blocks_us), 3),
        }


def main() -> dict[str, Any]:
    """Run it: half a minute."""
    quiet_threads()
    logging.getLogger("lrpilot").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory(prefix="lrp") as folder:
        daemon = Daemon(Path(folder))
        daemon.start()
        try:
            cells = _cells(daemon.address)
            for cell in cells:  # not counted: the first calls open the session
                cell.run()
                cell.blocks_us = None
            references = []
            for _ in range(ROUNDS):
                references.append(reference_us(1))
                for cell in cells:
                    cell.run()
            for cell in cells:
                cell.pilot.close()
        finally:
            daemon.kill()
    rows = [cell.figures() for cell in cells]
    reference = min(references)
    for row in rows:
        row["references"] = round(row["best_us"] / reference, 3)
    table(
        f"pilot.step, us per call (reference loop: {reference:.2f} us)",
        ("line", "loss", "groups", "plan", "best", "median", "x ref"),
        [
            (r["line"], r["loss"], r["groups"], "scale" if r["plan"] else "-", r["best_us"],
             r["median_us"], r["references"])
            for r in rows
        ],
    )  # fmt: skip
    return save("step", {"calls_per_block": CALLS, "rounds": ROUNDS, "cells": rows})


def _cells(address: str) -> list[Cell]:
    numbers = [1.0 - 0.001 * (k % 100) for k in range(CALLS)]
    tensors = [torch.tensor(number, requires_grad=True) for number in numbers]
    cells = []
    for groups in GROUPS:
        for kind, losses in (("float", numbers), ("tensor", tensors)):
            for planned in (False, True):
                cells.append(Cell("null", kind, groups, planned, _null(groups, planned), losses))
                name = f"step-{kind}-{groups}-{planned}"
                pilot = _real(groups, planned, address, name)
                cells.append(Cell("agent", kind, groups, planned, pilot, losses))
            model, optimizer = _job(groups)
            inert = _pilot(TorchTrainer(optimizer, model), None)
            cells.append(Cell("inert", kind, groups, False, inert, losses))
        cells.append(_scheduled(groups, numbers))
    return cells


def _pilot(trainer: TorchTrainer, transport: Transport | None) -> Pilot:
    run = RunInfo("bench", "run", "attempt")
    return Pilot(trainer, transport, run, TorchLosses(), lambda base: Bounds(1e-6, base))


def _null(groups: int, planned: bool) -> Pilot:
    model, optimizer = _job(groups)
    pilot = _pilot(TorchTrainer(optimizer, model), NullDaemon())
    pilot.start()
    if planned:
        _scale(pilot)
    return pilot


def _real(groups: int, planned: bool, address: str, run: str) -> Pilot:
    model, optimizer = _job(groups)
    pilot = lrpilot.attach(optimizer, model=model, address=address, project="bench", run=run)
    pilot.start()
    if planned:
        _scale(pilot)
    return pilot


def _scheduled(groups: int, losses: list[Any]) -> Cell:
    """The user's scheduler moves the LR before every step, and a plan scales what it says."""
    model, optimizer = _job(groups)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda k: 1 / (1 + 1e-4 * k))
    pilot = _pilot(TorchTrainer(optimizer, model, schedulers=[scheduler]), NullDaemon())
    pilot.start()
    _scale(pilot)
    return Cell("null, LR moves", "float", groups, True, pilot, losses, scheduler.step)


def _job(groups: int) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    model = torch.nn.ModuleList(torch.nn.Linear(4, 4) for _ in range(groups))
    return model, torch.optim.SGD([{"params": part.parameters()} for part in model], lr=LR)


def _scale(pilot: Pilot) -> None:
    """Put a constant factor in force, as a decision of the daemon would."""
    half = model_pb2.Plan(
        kind="PLAN_KIND_SCALE",
        segments=[
            model_pb2.Segment(
                shape="SHAPE_CONSTANT", start=0, end=1, start_value=0.5, end_value=0.5
            )
        ],
    )
    pilot.step(1.0)
    inbox = pilot._transport.inbox  # type: ignore[union-attr]
    inbox.append(model_pb2.Decision(id=1, action="ACTION_PLAN", plan=half))
    pilot.step(1.0)
    assert pilot.lrs[0] == LR / 2


def deliver(pilot: Pilot) -> None:
    """Until the daemon has what was handed in: no block pays for another one's samples."""
    transport = pilot._transport
    deadline = time.monotonic() + DELIVERY_S
    while transport is not None and transport.status.unacked and time.monotonic() < deadline:
        time.sleep(0.01)
