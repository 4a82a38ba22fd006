"""A small regression whose learning rate has a sharp edge, and loops that train it."""

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

import lrpilot
from lrpilot.pilot import Pilot
from support.daemon import ENOUGH_S

GOOD_LR = 0.05
FEATURES, ROWS, BATCH = 8, 256, 16


@dataclass
class Job:
    """A model, its optimizer and its data; the same seed gives the same bits."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    inputs: Tensor
    targets: Tensor
    order: torch.Generator

    def update(self) -> Tensor:
        """One optimizer step on the next batch; its loss."""
        rows = torch.randint(0, ROWS, (BATCH,), generator=self.order)
        loss = nn.functional.mse_loss(self.model(self.inputs[rows]), self.targets[rows])
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss

    def loss(self) -> float:
        """The loss over all data."""
        with torch.no_grad():
            return float(nn.functional.mse_loss(self.model(self.inputs), self.targets))

    def weights(self) -> list[Tensor]:
        """A copy of the parameters."""
        return [parameter.detach().clone() for parameter in self.model.parameters()]

    def spoil(self) -> None:
        """What a blow-up leaves: parameters that never give a finite loss again."""
        with torch.no_grad():
            for parameter in self.model.parameters():
                parameter.fill_(float("nan"))


def job(factor: float = 1.0, seed: int = 0) -> Job:
    """A job at `factor` times a good learning rate. It diverges from about 10 times on."""
    torch.manual_seed(seed)
    inputs = torch.randn(ROWS, FEATURES)
    targets = inputs @ torch.randn(FEATURES, 1) + 0.1 * torch.randn(ROWS, 1)
    model = nn.Sequential(nn.Linear(FEATURES, 16), nn.Linear(16, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=GOOD_LR * factor, momentum=0.5)
    return Job(model, optimizer, inputs, targets, torch.Generator().manual_seed(seed))


def attach(one: Job, address: str, run: str, **options: Any) -> Pilot:
    """`lrpilot.attach`, for a guarded run."""
    options = {"search": False, "total_steps": None, **options}
    return lrpilot.attach(one.optimizer, model=one.model, address=address, run=run, **options)


def train(
    one: Job,
    pilot: Pilot | None,
    steps: Iterable[int],
    *,
    pause_s: float = 0.0,
    before_step: Callable[[int], None] = lambda k: None,
) -> None:
    """The loop of any user; `pause_s` stands in for the time that a real step takes."""
    for k in steps:
        before_step(k)
        loss = one.update()
        if pilot is not None:
            pilot.step(loss)
            if pilot.should_stop:
                return
        if pause_s:
            time.sleep(pause_s)


def same(a: Iterable[Tensor], b: Iterable[Tensor]) -> bool:
    """Whether two sets of weights are equal to the last bit."""
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def quiet_threads() -> None:
    """One thread: this model is small, and other processes of the test want to run."""
    torch.set_num_threads(1)
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def train_until(
    one: Job,
    pilot: Pilot,
    condition: Callable[[], Any],
    *,
    pause_s: float = 0.001,
    timeout_s: float = ENOUGH_S,
) -> int:
    """Train on until something happened; the steps that it took."""
    deadline = time.monotonic() + timeout_s
    steps = 0
    while not condition() and not pilot.should_stop:
        assert time.monotonic() < deadline, f"it did not happen; {pilot.summary()}"
        train(one, pilot, range(1), pause_s=pause_s)
        steps += 1
    return steps


def rollbacks(pilot: Pilot) -> int:
    """Rollbacks that were applied."""
    return pilot.summary().rollbacks
