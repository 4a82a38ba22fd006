"""Every scheduler of torch, each as its users would build it, for optimizers of any groups.

A momentum-cycling one needs an optimizer that has momentum or betas.
"""

import inspect
from collections.abc import Callable
from typing import Any

from torch.optim import Optimizer, lr_scheduler
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import SWALR

MAX_LR = 0.1
Make = Callable[[Optimizer], Any]


class InverseRoot(LRScheduler):
    """A scheduler that a user wrote, which assigns the LR by itself."""

    def get_lr(self) -> list[Any]:
        """One over the root of the step."""
        return [base / (1 + self.last_epoch) ** 0.5 for base in self.base_lrs]

    def step(self, epoch: int | None = None) -> None:
        """Move on."""
        self.last_epoch += 1
        for group, lr in zip(self.optimizer.param_groups, self.get_lr(), strict=True):
            group["lr"] = lr


class Warmup:
    """A scheduler of another package: not torch's class, and composed in its own way."""

    def __init__(self, optimizer: Optimizer, after: LRScheduler) -> None:
        self.optimizer = optimizer
        self.after_scheduler = after
        self.done = 0

    def step(self) -> None:
        """Rise for three steps, then leave it to the other one."""
        self.done += 1
        if self.done > 3:
            self.after_scheduler.step()
            return
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * self.done / 3

    def state_dict(self) -> dict[str, Any]:
        """Its state."""
        return {"done": self.done, "after": self.after_scheduler.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put it back."""
        self.done = state["done"]
        self.after_scheduler.load_state_dict(state["after"])


def _sequential(o: Optimizer) -> Any:
    warm = lr_scheduler.LinearLR(o, 0.1, total_iters=4)
    return lr_scheduler.SequentialLR(o, [warm, lr_scheduler.CosineAnnealingLR(o, 20)], [4])


def _chained(o: Optimizer) -> Any:
    parts = [lr_scheduler.ExponentialLR(o, 0.95), lr_scheduler.LinearLR(o, 0.2, total_iters=8)]
    return lr_scheduler.ChainedScheduler(parts, o)


def _nested(o: Optimizer) -> Any:
    step, exponential = lr_scheduler.StepLR(o, 3, 0.5), lr_scheduler.ExponentialLR(o, 0.9)
    first = lr_scheduler.ChainedScheduler([_sequential(o), step], o)
    return lr_scheduler.SequentialLR(o, [first, exponential], [9])


def _plateau(o: Optimizer) -> Any:
    return lr_scheduler.ReduceLROnPlateau(o, patience=1, factor=0.7)


SCHEDULERS: dict[str, Make] = {
    "StepLR": lambda o: lr_scheduler.StepLR(o, 3, 0.7),
    "MultiStepLR": lambda o: lr_scheduler.MultiStepLR(o, [2, 5, 11], 0.5),
    "ConstantLR": lambda o: lr_scheduler.ConstantLR(o, 0.3, total_iters=6),
    "LinearLR": lambda o: lr_scheduler.LinearLR(o, 0.1, total_iters=10),
    "ExponentialLR": lambda o: lr_scheduler.ExponentialLR(o, 0.97),
    "PolynomialLR": lambda o: lr_scheduler.PolynomialLR(o, 30, power=2.0),
    "CosineAnnealingLR": lambda o: lr_scheduler.CosineAnnealingLR(o, 10, eta_min=1e-3),
    "CosineAnnealingWarmRestarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 5, 2),
    "LambdaLR": lambda o: lr_scheduler.LambdaLR(o, lambda k: 0.95**k),
    "MultiplicativeLR": lambda o: lr_scheduler.MultiplicativeLR(o, lambda k: 0.98),
    "CyclicLR": lambda o: lr_scheduler.CyclicLR(o, MAX_LR / 10, MAX_LR, step_size_up=6),
    "OneCycleLR": lambda o: lr_scheduler.OneCycleLR(o, MAX_LR, total_steps=40),
    "SequentialLR": _sequential,
    "ChainedScheduler": _chained,
    "ReduceLROnPlateau": _plateau,
    "SWALR": lambda o: SWALR(o, swa_lr=0.02, anneal_epochs=8),
    "nested": _nested,
    "a user's own": InverseRoot,
    "another package's": lambda o: Warmup(o, lr_scheduler.ExponentialLR(o, 0.9)),
}
CYCLES_MOMENTUM = ("CyclicLR", "OneCycleLR")


def of_torch() -> set[str]:
    """The names of all schedulers that this torch has."""
    kinds = [kind for _, kind in inspect.getmembers(lr_scheduler, inspect.isclass)]
    return {
        kind.__name__
        for kind in (*kinds, SWALR)
        if issubclass(kind, LRScheduler) and kind is not LRScheduler and kind.__name__[0] != "_"
    }


def metric(k: int) -> float:
    """What a scheduler that follows a metric is told after step `k`: it has plateaus."""
    return 1.0 / (1 + k // 4)


def step(scheduler: Any, k: int) -> None:
    """Step it after step `k`."""
    if isinstance(scheduler, lr_scheduler.ReduceLROnPlateau):
        scheduler.step(metric(k))
    else:
        scheduler.step()
