"""A small classification whose learning rate is searched, and the loop that trains it."""

import itertools
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch

import lrpilot
from benchmarks.quality.data import Batch
from benchmarks.quality.tasks import Task, task
from lrpilot.pilot import Pilot

STEPS = 400


@dataclass
class Digits:
    """A model that learns digits, and an optimizer; the same seed gives the same bits."""

    task: Task
    optimizer: torch.optim.Optimizer

    def step(self, batch: Batch) -> torch.Tensor:
        """One optimizer step; its loss."""
        self.optimizer.zero_grad()
        loss = self.task.loss(batch)
        loss.backward()
        self.optimizer.step()
        return loss

    def batches(self) -> Iterable[Batch]:
        """Without end, from the first one in each call."""
        return self.task.batches()

    def epoch(self, batches: int = 50) -> list[Batch]:
        """The first few, as a loader that ends."""
        return list(itertools.islice(self.batches(), batches))

    def loss(self) -> float:
        """Over unseen digits. About .09 after 400 steps at a good LR; log 10 without training."""
        return self.task.validate()


def digits(factor: float = 1.0, seed: int = 0) -> Digits:
    """A job at `factor` times a good learning rate. It blows up from about 10 times on."""
    made = task("digits_mlp", seed)
    return Digits(made, made.make_optimizer(made.lr_scale * factor))


def attach(one: Digits, address: str, run: str, **options: object) -> Pilot:
    """`lrpilot.attach`, for a run that is searched."""
    settings: dict[str, object] = {"total_steps": STEPS, "search": True, "connect_timeout": 30.0}
    return lrpilot.attach(
        one.optimizer,
        model=one.task.model,
        address=address,
        run=run,
        **(settings | options),  # type: ignore[arg-type]
    )


def train(
    one: Digits,
    pilot: Pilot,
    steps: int = STEPS,
    *,
    pause_s: float = 0.0,
    after_step: Callable[[int], None] = lambda k: None,
) -> None:
    """The loop of any user; `pause_s` stands in for the time that a real step takes."""
    for batch in itertools.islice(pilot.batches(one.batches()), steps):
        pilot.step(one.step(batch))
        after_step(pilot.step_count)
        if pilot.should_stop:
            return
        if pause_s:
            time.sleep(pause_s)
