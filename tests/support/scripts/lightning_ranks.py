"""A fit of Lightning on two ranks, one of them late: a search, then weights that are lost.

Arguments: address, run, folder. Each rank saves `<rank>.pt`: the LR of every step, its weights, and
what was decided.
"""

import sys
import time
import warnings
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lrpilot.lightning import LRControllerCallback
from support.training import BATCH, job, quiet_threads

STEPS, SPOILED = 300, 200


class Regression(pl.LightningModule):
    """`support.training.job`, at a rate that is far too high."""

    def __init__(self) -> None:
        super().__init__()
        self.job = job(50)
        self.net = self.job.model

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        time.sleep(0.01 if self.global_step % 7 == self.global_rank else 0.002)
        return nn.functional.mse_loss(self.net(batch[0]), batch[1])

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self.log("val_loss", nn.functional.mse_loss(self.net(batch[0]), batch[1]))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return self.job.optimizer


class Look(pl.Callback):
    """Notes the LRs, loses the weights once, and tells at the end."""

    def __init__(self, guard: LRControllerCallback, folder: Path) -> None:
        self.guard, self.folder = guard, folder
        self.lrs: list[float] = []

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == SPOILED:
            module.job.spoil()

    def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
        self.lrs.append(trainer.optimizers[0].param_groups[0]["lr"])
        if trainer.is_global_zero and trainer.global_step == 20:  # amid a program, on one rank
            torch.save(module.state_dict(), self.folder / "looked.pt")

    def on_train_end(self, trainer: Any, module: Any) -> None:
        pilot = self.guard.pilot
        assert pilot is not None
        told = {"lrs": self.lrs, "weights": module.job.weights(), "decisions": pilot.decisions}
        torch.save(told, self.folder / f"{trainer.global_rank}.pt")


def main(address: str, run: str, folder: Path) -> None:
    """Fit; Lightning starts this script again for the other rank."""
    quiet_threads()
    warnings.simplefilter("ignore")
    module = Regression()
    data = TensorDataset(module.job.inputs, module.job.targets)
    guard = LRControllerCallback(run=run, address=address, search=True, connect_timeout=60)
    trainer = pl.Trainer(
        max_steps=STEPS,
        callbacks=[guard, Look(guard, folder)],
        accelerator="cpu",
        devices=2,
        strategy="ddp",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        check_val_every_n_epoch=4,
    )
    trainer.fit(module, DataLoader(data, BATCH, shuffle=True), DataLoader(data, 64))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
