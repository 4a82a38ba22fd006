"""A loop that is guarded by a `PilotLR`, and schedules to compose it with."""

from collections.abc import Callable
from typing import Any

import torch
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    SequentialLR,
    StepLR,
)

from lrpilot.torch import PilotLR

LR = 0.1


class PilotedLoop:
    """Gives its losses to a `PilotLR`, and steps it or what it is composed in."""

    def __init__(
        self,
        compose: Callable[[torch.optim.Optimizer, Callable[..., PilotLR]], Any] | None = None,
        **keywords: Any,
    ) -> None:
        torch.manual_seed(0)
        self.model = torch.nn.Linear(4, 4)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=LR, momentum=0.9)
        keywords = {"model": self.model, "total_steps": 250, "run": "r"} | keywords

        def make(**more: Any) -> PilotLR:
            self.pilot_lr = PilotLR(self.optimizer, **keywords | more)
            return self.pilot_lr

        self.scheduler: Any = compose(self.optimizer, make) if compose else make()

    def train(self, steps: int = 1, loss: float | None = None) -> list[float]:
        """The LRs that the steps ran at."""
        ran = []
        for _ in range(steps):
            value = self.model(torch.ones(3, 4)).square().mean()
            self.optimizer.zero_grad()
            value.backward()
            self.pilot_lr.observe(value if loss is None else loss)
            ran.append(self.lr)
            self.optimizer.step()
            self.scheduler.step()
        return ran

    @property
    def lr(self) -> float:
        return float(self.optimizer.param_groups[0]["lr"])

    @property
    def weights(self) -> list[torch.Tensor]:
        return [p.detach().clone() for p in self.model.parameters()]


NATIVE: dict[str, Callable[[torch.optim.Optimizer], Any]] = {
    "exponential": lambda o: ExponentialLR(o, 0.97),
    "cosine": lambda o: CosineAnnealingLR(o, 15),
    "step": lambda o: StepLR(o, 3, 0.5),
    "lambda": lambda o: LambdaLR(o, lambda k: 1 / (k + 1)),
    "sequential": lambda o: SequentialLR(
        o, [LinearLR(o, 0.1, total_iters=3), ExponentialLR(o, 0.9)], [3]
    ),
}


def native_curve(make: Callable[[torch.optim.Optimizer], Any], steps: int) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=LR)
    scheduler, curve = make(optimizer), []
    for _ in range(steps):
        curve.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return curve
