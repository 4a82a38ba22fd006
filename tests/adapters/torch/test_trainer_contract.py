"""The torch adapter passes the contract suite with every optimizer that keeps its promises."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from lrpilot.testing import Rig, TrainerContract
from lrpilot.torch.slots import Slots
from lrpilot.torch.trainer import TorchTrainer
from support.moved import Locks, moved

Make = Callable[[list[dict[str, object]]], torch.optim.Optimizer | list[torch.optim.Optimizer]]

OPTIMIZERS: dict[str, Make] = {
    "sgd": lambda groups: torch.optim.SGD(groups),
    "sgd-momentum": lambda groups: torch.optim.SGD(groups, momentum=0.9),
    "sgd-nesterov": lambda groups: torch.optim.SGD(groups, momentum=0.9, nesterov=True),
    "sgd-dampening": lambda groups: torch.optim.SGD(groups, momentum=0.9, dampening=0.5),
    "nadam": lambda groups: torch.optim.NAdam(groups),
    "adam": lambda groups: torch.optim.Adam(groups),
    "adam-amsgrad": lambda groups: torch.optim.Adam(groups, amsgrad=True),
    "adamw": lambda groups: torch.optim.AdamW(groups),
    "rmsprop": lambda groups: torch.optim.RMSprop(groups, momentum=0.5),
    "adagrad": lambda groups: torch.optim.Adagrad(groups),
    "two optimizers": lambda groups: [torch.optim.AdamW(groups[:1]), torch.optim.SGD(groups[1:])],
}


def build(make: Make, snapshots: Callable[..., Slots] = Slots) -> Rig:
    torch.manual_seed(3)
    body = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3))
    model = nn.Sequential(body, nn.Linear(16, 1))
    optimizer = make(
        [
            {"params": list(body.parameters()), "lr": 0.02, "name": "body"},
            {"params": list(model[1].parameters()), "lr": 0.05, "name": "head"},
        ]
    )
    optimizers = optimizer if isinstance(optimizer, list) else [optimizer]
    data = torch.Generator().manual_seed(5)
    batches = [torch.randn(12, 8, generator=data) for _ in range(80)]
    asked: list[bool] = []

    def step(i: int) -> float:
        x = batches[i]
        for one in optimizers:
            one.zero_grad()
        loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
        loss.backward()
        for one in optimizers:
            one.step()
        return loss.item()

    trainer = TorchTrainer(
        optimizer, model, request_stop=lambda: asked.append(True), snapshots=snapshots
    )
    return Rig(trainer, step, lambda: torch.rand(()).item(), lambda: bool(asked))


@pytest.mark.parametrize("name", OPTIMIZERS, scope="class")
class TestTorchTrainer(TrainerContract):
    @pytest.fixture(autouse=True)
    def _choose(self, name: str) -> None:
        self.make = OPTIMIZERS[name]

    def rig(self) -> Rig:
        return build(self.make)


class TestSnapshotsOnTheHost(TrainerContract):
    """As a GPU's lie there."""

    def rig(self) -> Rig:
        return build(OPTIMIZERS["adamw"], moved(Locks()))
