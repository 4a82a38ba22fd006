"""A small loop under a pilot whose daemon is the test."""

from collections.abc import Callable
from typing import Any

import torch

from lrpilot.pilot import Pilot
from lrpilot.plan import Bounds
from lrpilot.run import RunInfo
from lrpilot.testing import FakeDaemon
from lrpilot.torch.losses import TorchLosses
from lrpilot.torch.trainer import TorchTrainer
from lrpilot_proto.v1 import model_pb2

LR = 0.1


class Loop:
    """A tiny training loop under a pilot whose daemon is the test."""

    def __init__(
        self,
        *,
        mode: str = "auto",
        scheduler: Callable[[torch.optim.Optimizer], Any] | None = None,
        state: dict[str, Any] | None = None,
        lrs: tuple[float, ...] = (LR,),
        total_steps: int | None = 250,
    ) -> None:
        torch.manual_seed(0)
        self.model = torch.nn.ModuleList(torch.nn.Linear(4, 4) for _ in lrs)
        groups = [
            {"params": list(part.parameters()), "lr": lr}
            for part, lr in zip(self.model, lrs, strict=True)
        ]
        self.optimizer = torch.optim.SGD(groups, momentum=0.9)
        self.scheduler = scheduler(self.optimizer) if scheduler else None
        self.daemon = FakeDaemon()
        trainer = TorchTrainer(
            self.optimizer, self.model, schedulers=[self.scheduler] if self.scheduler else []
        )
        info = RunInfo("p", "r", "a", mode=mode, total_steps=total_steps)
        self.pilot = Pilot(
            trainer, self.daemon, info, TorchLosses(), lambda base: Bounds(base * 1e-4, base)
        )
        if state is not None:
            self.pilot.load_state_dict(state)
        self.pilot.start()

    def train(self, steps: int = 1, loss: float | None = None) -> None:
        for _ in range(steps):
            x = torch.ones(3, 4)
            out = sum((part(x).square().mean() for part in self.model), torch.zeros(()))
            self.optimizer.zero_grad()
            out.backward()
            self.optimizer.step()
            if self.scheduler:
                self.scheduler.step()
            self.pilot.step(out if loss is None else loss)

    @property
    def weights(self) -> list[torch.Tensor]:
        return [p.detach().clone() for p in self.model.parameters()]


def cut(factor: float, **fields: Any) -> model_pb2.Decision:
    """A decision that scales the native LR by `factor`."""
    plan = model_pb2.Plan(
        kind="PLAN_KIND_SCALE",
        segments=[
            model_pb2.Segment(
                shape="SHAPE_CONSTANT", start=0, end=1, start_value=factor, end_value=factor
            )
        ],
    )
    return model_pb2.Decision(
        **{"id": 1, "action": "ACTION_CUT", "reason": "because", "plan": plan} | fields
    )


def rollback(snapshot: int, factor: float = 0.5, **fields: Any) -> model_pb2.Decision:
    return cut(factor, action="ACTION_ROLLBACK", restore_snapshot=snapshot, **fields)
