"""The contract of the trainer port, in a Trainer's own loop."""

import queue
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn
from transformers import Trainer, TrainerCallback

from lrpilot.huggingface import LRControllerCallback
from lrpilot.testing import Rig, TrainerContract
from support.hugging import Runs


class Still:
    """A scheduler that leaves the LRs to whoever writes them."""

    def step(self) -> None:
        """Nothing."""

    def get_last_lr(self) -> list[float]:
        return [0.0]


class Told(TrainerCallback):  # type: ignore[misc]
    def __init__(self, heard: "queue.Queue[Any]") -> None:
        self.heard = heard

    def on_step_end(self, *_: Any, model: Any, **__: Any) -> None:
        self.heard.put(model.losses[-1])


class Deep(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.body = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3))
        self.head = nn.Linear(16, 1)
        self.losses: list[float] = []

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        loss = (self.head(self.body(x)) - x.sum(1, keepdim=True)).square().mean()
        self.losses.append(loss.item())
        return {"loss": loss}


class Loop:
    """A Trainer's own loop in a thread, which waits for the number of each batch."""

    def __init__(self, training: Runs) -> None:
        self.asked: queue.Queue[int | None] = queue.Queue()
        self.heard: queue.Queue[Any] = queue.Queue()
        asked, heard = self.asked, self.heard
        source = torch.Generator().manual_seed(5)
        batches = [torch.randn(12, 8, generator=source) for _ in range(80)]

        class Asking(Trainer):  # type: ignore[misc]
            def get_train_dataloader(self) -> Any:
                return self

            def __iter__(self) -> Iterator[Any]:
                heard.put("ready")
                while (i := asked.get()) is not None:
                    yield {"x": batches[i]}

        model = Deep()
        optimizer = torch.optim.AdamW(
            [
                {"params": list(model.body.parameters()), "lr": 0.02, "name": "body"},
                {"params": list(model.head.parameters()), "lr": 0.05, "name": "head"},
            ]
        )
        self.callback = LRControllerCallback(mode="off")  # the contract's pilots are its own
        self.trainer = training.trainer(
            model,
            [self.callback, Told(heard)],
            kind=Asking,
            optimizers=(optimizer, Still()),
            max_steps=10_000,
            logging_strategy="no",
            max_grad_norm=0.0,
            logging_nan_inf_filter=False,
        )
        self.thread = threading.Thread(target=self._train, daemon=True)
        self.thread.start()
        assert heard.get(timeout=60) == "ready"
        torch.manual_seed(9)

    def _train(self) -> None:
        try:
            self.trainer.train()
        except BaseException as error:
            self.heard.put(error)

    def step(self, i: int) -> float:
        self.asked.put(i)
        loss = self.heard.get(timeout=60)
        if isinstance(loss, BaseException):
            raise loss
        return float(loss)

    def end(self) -> None:
        self.trainer.control.should_training_stop = True
        self.asked.put(None)
        self.thread.join(60)


class TestHuggingFaceTrainer(TrainerContract):
    @pytest.fixture(autouse=True)
    def _loops(self, training: Runs) -> Iterator[None]:
        self.training = training
        self.loops: list[Loop] = []
        yield
        for loop in self.loops:
            loop.end()

    def rig(self) -> Rig:
        loop = Loop(self.training)
        self.loops.append(loop)
        assert loop.callback.pilot is not None
        return Rig(
            loop.callback.pilot._trainer,
            loop.step,
            lambda: torch.rand(()).item(),
            lambda: bool(loop.trainer.control.should_training_stop),
        )
