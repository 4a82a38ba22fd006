"""Tiny Lightning fits whose daemon is a fake."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from inspect import signature
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import CSVLogger
from torch.utils.data import DataLoader, TensorDataset

from lrpilot.lightning import LRControllerCallback
from lrpilot.pilot import Pilot
from lrpilot.testing import FakeDaemon
from lrpilot.torch.options import Options
from lrpilot_proto.v1 import model_pb2

LR = 0.05
ROWS, BATCH = 64, 8

# What Lightning says by itself: advice on workers, GPUs and log folders.
QUIET = [
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


class Module(pl.LightningModule):
    """A small regression with dropout and, by default, a cosine schedule per step.

    `decide_at` holds what the daemon sends, by the number of batches trained on before.
    """

    def __init__(self, scheduler: str | None = "cosine", decide_at: dict[int, Any] | None = None):
        super().__init__()
        self.net = torch.nn.Sequential(
            torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Dropout(0.2), torch.nn.Linear(8, 1)
        )
        self.lr = LR
        self.scheduler = scheduler
        self.decide_at = decide_at or {}
        self.daemon: FakeDaemon | None = None
        self.seen_lrs: list[float] = []  # of the first group, before each batch
        self.losses: list[float] = []
        self.weights: list[list[torch.Tensor]] = []  # before each batch

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        self.weights.append([p.detach().clone() for p in self.parameters()])
        self.seen_lrs.append(float(self.trainer.optimizers[0].param_groups[0]["lr"]))
        if self.daemon is not None and (decision := self.decide_at.get(len(self.losses))):
            self.daemon.decide(decision)

    def loss(self, batch: Any) -> torch.Tensor:
        return (self.net(batch[0]) - batch[1]).square().mean()

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = self.loss(batch)
        self.log("train_loss", loss)
        self.losses.append(loss.item())
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", self.loss(batch))

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.log("test_loss", self.loss(batch))

    def predict_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return self.net(batch[0])

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=self.lr, momentum=0.9)
        if self.scheduler is None:
            return optimizer
        made: Any = {
            "cosine": lambda: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 40),
            "exponential": lambda: torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9),
        }[self.scheduler]()
        return [optimizer], [{"scheduler": made, "interval": "step"}]


def rows() -> TensorDataset:
    """The same each time."""
    x = torch.randn(ROWS, 4, generator=torch.Generator().manual_seed(1))
    return TensorDataset(x, x.sum(1, keepdim=True))


class Fits:
    """Runs fits, and keeps what they logged."""

    def __init__(self, folder: Path, daemon: FakeDaemon) -> None:
        self.folder = folder
        self.daemon = daemon
        self.logged: list[tuple[int, dict[str, float]]] = []

    def trainer(self, callbacks: list[Any], **settings: Any) -> pl.Trainer:
        """A trainer of four epochs of eight batches, unless told otherwise."""
        logger = CSVLogger(self.folder)
        kept = logger.log_metrics

        def log_metrics(metrics: dict[str, Any], step: int | None = None) -> None:
            self.logged.append((step or 0, dict(metrics)))
            kept(metrics, step)

        logger.log_metrics = log_metrics  # type: ignore[assignment]
        return pl.Trainer(
            **{
                "max_epochs": 4,
                "accelerator": "cpu",
                "logger": logger,
                "log_every_n_steps": 1,
                "enable_progress_bar": False,
                "enable_model_summary": False,
                "enable_checkpointing": False,
                "callbacks": callbacks,
            }
            | settings
        )

    def train(
        self, trainer: pl.Trainer, module: pl.LightningModule, resume: str | None = None
    ) -> None:
        """Fit a module, in one order of batches."""
        if isinstance(module, Module):
            module.daemon = self.daemon
        pl.seed_everything(7, verbose=False)
        how: dict[str, Any] = {"ckpt_path": resume} if resume else {}
        if resume and "weights_only" in signature(pl.Trainer.fit).parameters:  # since 2.6
            how["weights_only"] = False
        trainer.fit(module, DataLoader(rows(), BATCH, shuffle=True), DataLoader(rows(), 32), **how)

    def fit(
        self,
        module: pl.LightningModule,
        callbacks: list[Any] | None = None,
        resume: str | None = None,
        **settings: Any,
    ) -> pl.Trainer:
        """A trainer that has fitted a module."""
        trainer = self.trainer(callbacks or [], **settings)
        self.train(trainer, module, resume)
        return trainer


@contextmanager
def connected(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fits]:
    """Fits whose callbacks find a fake daemon, in one thread: they are too small for two."""
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    daemon = FakeDaemon()
    monkeypatch.setattr(Options, "_connect", lambda _: daemon)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield Fits(folder, daemon)
    torch.set_num_threads(threads)


def seeded(scheduler: str | None = "cosine", decide_at: dict[int, Any] | None = None) -> Module:
    """A module, the same each time."""
    pl.seed_everything(3, verbose=False)
    return Module(scheduler, decide_at)


def pilot_of(callback: LRControllerCallback) -> Pilot:
    """The pilot of a callback that has one."""
    assert callback.pilot is not None
    return callback.pilot


def scale(factor: float) -> model_pb2.Plan:
    """A plan that scales the native LR from here on."""
    segment = model_pb2.Segment(
        shape="SHAPE_CONSTANT", start=0, end=1, start_value=factor, end_value=factor
    )
    return model_pb2.Plan(kind="PLAN_KIND_SCALE", segments=[segment])


def rollback(factor: float, decision_id: int = 1) -> model_pb2.Decision:
    """Back to the start, at the native LR times a factor."""
    return model_pb2.Decision(
        id=decision_id, action="ACTION_ROLLBACK", restore_snapshot=1, plan=scale(factor)
    )


def cut(factor: float, decision_id: int = 1) -> model_pb2.Decision:
    """The native LR times a factor, from where training is."""
    return model_pb2.Decision(id=decision_id, action="ACTION_CUT", plan=scale(factor))


def release(decision_id: int = 2) -> model_pb2.Decision:
    """The native LR again."""
    return model_pb2.Decision(id=decision_id, action="ACTION_RELEASE", release=True)
