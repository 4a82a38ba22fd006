"""Trainings with Hugging Face's Trainer whose daemon is a fake, or an engine."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import Trainer, TrainerCallback, TrainingArguments

from lrpilot.huggingface import LRControllerCallback
from lrpilot.pilot import Pilot
from lrpilot.testing import FakeDaemon
from lrpilot.torch.options import Options
from lrpilot_proto.v1 import model_pb2

LR = 0.01
ROWS, BATCH = 64, 8

Weights = dict[str, torch.Tensor]


class Net(nn.Module):
    """A small regression with dropout; keeps the losses of its training."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Dropout(0.2), nn.Linear(8, 1))
        self.losses: list[float] = []

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        loss = (self.net(x) - labels).square().mean()
        if self.training:
            self.losses.append(loss.item())
        return {"loss": loss, "logits": labels}


def rows(count: int = ROWS) -> list[dict[str, torch.Tensor]]:
    source = torch.Generator().manual_seed(1)
    x = torch.randn(count, 4, generator=source)
    noise = 0.1 * torch.randn(count, 1, generator=source)
    return [
        {"x": one, "labels": one.sum(0, keepdim=True).sin() + n}
        for one, n in zip(x, noise, strict=True)
    ]


def weights(module: nn.Module) -> Weights:
    """Parameters as they are: `state_dict` would ask for the run's own."""
    return {name: one.detach().clone() for name, one in module.named_parameters()}


def same(one: Weights, other: Weights) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


class Hand(TrainerCallback):  # type: ignore[misc]
    """Lets the daemon decide before certain steps, and notes the LR that each step has."""

    def __init__(self, daemon: FakeDaemon, decide_at: dict[int, Any]) -> None:
        self.daemon, self.decide_at = daemon, decide_at
        self.lrs: list[float] = []

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.lrs.append(kwargs["optimizer"].param_groups[0]["lr"])
        if decision := self.decide_at.get(state.global_step):
            self.daemon.decide(decision)


class Run:
    """A training that ended."""

    def __init__(self, trainer: Trainer, callback: LRControllerCallback | None, hand: Hand) -> None:
        self.trainer, self.callback, self.lrs = trainer, callback, hand.lrs
        self.weights = weights(trainer.model)

    @property
    def pilot(self) -> Pilot:
        assert self.callback is not None
        assert self.callback.pilot is not None
        return self.callback.pilot

    def logged(self, name: str) -> list[float]:
        return [entry[name] for entry in self.trainer.state.log_history if name in entry]


class Runs:
    """Runs trainings whose daemon is a fake, or an engine."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.daemon: Any = FakeDaemon()
        monkeypatch.setattr(Options, "_connect", lambda _: self.daemon)

    def trainer(
        self, net: nn.Module, callbacks: list[Any], kind: type[Trainer] = Trainer, **settings: Any
    ) -> Trainer:
        others = {
            name: settings.pop(name)
            for name in ("optimizers", "compute_metrics")
            if name in settings
        }
        if "eval_dataset" not in others:
            others["eval_dataset"] = settings.pop("eval_dataset", rows(32))
        arguments = TrainingArguments(
            **{
                "output_dir": str(self.folder),
                "use_cpu": True,
                "report_to": "none",
                "disable_tqdm": True,
                "log_level": "error",
                "dataloader_pin_memory": False,
                "logging_steps": 1,
                "save_strategy": "no",
                "per_device_train_batch_size": BATCH,
                "num_train_epochs": 2,
                "learning_rate": LR,
            }
            | settings
        )
        return kind(net, arguments, train_dataset=rows(), callbacks=callbacks, **others)

    def run(
        self,
        callback: LRControllerCallback | None,
        *others: TrainerCallback,
        net: nn.Module | None = None,
        decide_at: dict[int, Any] | None = None,
        resume: Path | None = None,
        first: tuple[TrainerCallback, ...] = (),
        scheduler: Callable[[Any], Any] | None = None,
        **settings: Any,
    ) -> Run:
        net = net or Net()
        if scheduler is not None:
            optimizer = torch.optim.SGD(net.parameters(), lr=LR, momentum=0.9)
            settings["optimizers"] = (optimizer, scheduler(optimizer))
        hand = Hand(self.daemon, decide_at or {})
        ours = [] if callback is None else [callback]
        trainer = self.trainer(net, [*first, *ours, hand, *others], **settings)
        trainer.train(resume_from_checkpoint=str(resume) if resume else None)
        return Run(trainer, callback, hand)


def scale(factor: float, number: int = 1, **fields: Any) -> model_pb2.Decision:
    segment = model_pb2.Segment(
        shape="SHAPE_CONSTANT", start=0, end=1, start_value=factor, end_value=factor
    )
    plan = model_pb2.Plan(kind="PLAN_KIND_SCALE", segments=[segment])
    return model_pb2.Decision(**{"id": number, "action": "ACTION_CUT", "plan": plan} | fields)


def release(number: int) -> model_pb2.Decision:
    return model_pb2.Decision(id=number, action="ACTION_RELEASE", release=True)
