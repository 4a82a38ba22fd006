"""Well-tuned runs, and the same runs with a learning rate that jumps on the way.

A run follows the schedule and the LR that the quality benchmark's oracle found best for its own
task and seed: it is as well tuned as ten full runs can make it.
"""

import random
from dataclasses import dataclass
from typing import Any

import torch
from torch.optim.lr_scheduler import LambdaLR

from benchmarks.quality import oracle
from benchmarks.quality.tasks import Task, own_steps, task

TASKS = (
    "text_transformer_adamw",
    "digits_vit",
    "text_gru",
    "digits_mlp",
    "digits_conv",
    "signals_conv",
    "matrix_factorization",
    "digits_many_epochs",
)
SEEDS = oracle.SEEDS
UNTOUCHED = 1.0
JUMPS = (10.0, 100.0)
FACTORS = (UNTOUCHED, *JUMPS)
JUMP_FROM, JUMP_TO = 0.2, 0.7  # of the run


@dataclass(frozen=True)
class Scenario:
    """One run of a user: from step `jump` on, the LR is `factor` times what it should be.

    Attributes:
        lr: The peak of the tuned schedule.
        schedule: One of the oracle's.
        best: The oracle's held-out loss.
    """

    name: str
    seed: int
    factor: float
    lr: float
    schedule: str
    steps: int
    jump: int
    best: float

    def job(self) -> Task:
        """A new task."""
        return task(self.name, self.seed, self.steps)

    def rate(self, step: int) -> float:
        """The factor on `lr` at a 0-based step."""
        tuned = oracle.SCHEDULES[self.schedule](step, self.steps)
        return tuned * self.factor if step >= self.jump else tuned

    def scheduler(self, optimizer: torch.optim.Optimizer) -> LambdaLR:
        """The user's scheduler, of an optimizer that was made with `lr`."""
        return LambdaLR(optimizer, self.rate)


def scenario(name: str, seed: int, factor: float) -> Scenario:
    """The run of a task and seed; it jumps at the same step whatever the factor.

    Raises:
        KeyError: The oracle has not this seed.
    """
    best: dict[str, Any] = oracle.load(name)["seeds"][str(seed)]["best"]
    steps = own_steps(name)
    place = random.Random(f"{name}/{seed}").uniform(JUMP_FROM, JUMP_TO)
    return Scenario(
        name=name,
        seed=seed,
        factor=factor,
        lr=best["lr"],
        schedule=best["schedule"],
        steps=steps,
        jump=round(place * steps),
        best=best["loss"],
    )
