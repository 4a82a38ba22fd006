"""Two ranks of DDP in Lightning at an LR far too high: alone, then found and guarded by LRPilot.

Run it as it stands: `python examples/lightning_ddp.py`. Lightning starts it a second time for the
other rank. Nothing is downloaded; under a minute on a CPU.
"""

import logging
import warnings

import pytorch_lightning as pl
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lrpilot.lightning import LRControllerCallback

STEPS = 300
LR = 20.0  # 2 is right here; from 6 on the loss overflows
Batch = tuple[Tensor, Tensor]


class Digits(pl.LightningModule):
    """A small network for scikit-learn's digits."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(64, 256), nn.GELU(), nn.Linear(256, 10))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        wanted = nn.functional.one_hot(batch[1], 10).float()
        return nn.functional.mse_loss(self.net(batch[0]), wanted)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        right = (self.net(batch[0]).argmax(1) == batch[1]).float().mean()
        self.log("val_right", right, sync_dist=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=LR, momentum=0.9)


def train(guards: list[LRControllerCallback]) -> None:
    """Train from the same weights in the same order."""
    pl.seed_everything(0, verbose=False)
    images, labels = load_digits(return_X_y=True)
    data = TensorDataset(torch.tensor(images, dtype=torch.float32) / 16, torch.tensor(labels))
    train_set, val_set = torch.utils.data.random_split(data, [1500, len(data) - 1500])
    trainer = pl.Trainer(
        max_steps=STEPS,
        callbacks=[*guards],
        strategy="ddp",
        accelerator="cpu",
        devices=2,
        check_val_every_n_epoch=5,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    # Each rank draws half of every 64.
    loaders = DataLoader(train_set, 32, shuffle=True), DataLoader(val_set, 512)
    trainer.fit(module := Digits(), *loaders)
    trainer.validate(module, loaders[1], verbose=False)
    # Every rank prints its own: the two lines are equal. Each with its end of line in one piece,
    # else the ranks would print into each other's lines where Python does not buffer its output.
    print(
        f"{'under LRPilot' if guards else 'alone'}, rank {trainer.global_rank}: "
        f"weights {sum(p.double().sum().item() for p in module.parameters()):.12g}, "
        f"{trainer.callback_metrics['val_right']:.1%} of unseen digits right\n",
        end="",
        flush=True,
    )


torch.set_num_threads(1)
warnings.filterwarnings("ignore", module="pytorch_lightning")  # advice on workers
logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
if __name__ == "__main__":
    train([])
    train([LRControllerCallback(project="examples", search=True)])
