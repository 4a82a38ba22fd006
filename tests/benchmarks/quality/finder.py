"""Lightning's LR finder around a task: a real LightningModule, Trainer and Tuner."""

import contextlib
import io
import logging
import tempfile
import warnings
from collections.abc import Iterator

import pytorch_lightning as pl
import torch
from pytorch_lightning.tuner import Tuner
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from .data import Batch
from .tasks import Task


class _Batches(IterableDataset[Batch]):
    def __init__(self, job: Task) -> None:
        self.job = job

    def __iter__(self) -> Iterator[Batch]:
        return self.job.batches()


class _Module(pl.LightningModule):
    def __init__(self, job: Task, lr: float) -> None:
        super().__init__()
        self.model = job.model
        self.job = job
        self.lr = lr

    def training_step(self, batch: Batch, index: int) -> Tensor:
        return self.job.loss(batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return self.job.make_optimizer(self.lr)


def find(job: Task, base_lr: float) -> tuple[float, int]:
    """Returns the LR that it suggests, or the base LR, and the optimizer steps that it took.

    The weights are afterwards what they were before.
    """
    logging.getLogger("pytorch_lightning").setLevel(logging.CRITICAL)
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")
        trainer = pl.Trainer(
            max_steps=job.total_steps,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=folder,
        )
        loader = DataLoader(_Batches(job), batch_size=None)
        with contextlib.redirect_stderr(io.StringIO()):  # its progress bar
            found = Tuner(trainer).lr_find(_Module(job, base_lr), loader, update_attr=False)
        assert found is not None
        suggestion = found.suggestion()
    return suggestion or base_lr, len(found.results["loss"])
