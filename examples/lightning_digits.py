"""A Lightning run with an LR far too high and the usual callbacks: alone, and under LRPilot.

Run it as it stands: `python examples/lightning_digits.py`. Nothing is downloaded; seconds on a CPU.
"""

import logging
import tempfile
import warnings

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping, LearningRateMonitor, ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lrpilot.lightning import LRControllerCallback

EPOCHS = 15
LR = 20.0  # 2 is right here; from 6 on the loss overflows
Batch = tuple[Tensor, Tensor]


def squared_error(scores: Tensor, labels: Tensor) -> Tensor:
    """Overflows where the LR is too high; cross-entropy would only stop learning."""
    return nn.functional.mse_loss(scores, nn.functional.one_hot(labels, 10).float())


class Digits(pl.LightningModule):
    """A small network for scikit-learn's digits."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(64, 256), nn.GELU(), nn.Linear(256, 10))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        loss = squared_error(self.net(batch[0]), batch[1])
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        scores = self.net(batch[0])
        self.log("val_loss", squared_error(scores, batch[1]))
        self.log("val_right", (scores.argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=LR, momentum=0.9)


def train(folder: str, guards: list[pl.Callback]) -> None:
    """Train from the same weights in the same order, with `guards` first among the callbacks."""
    pl.seed_everything(0, verbose=False)
    images, labels = load_digits(return_X_y=True)
    data = TensorDataset(torch.tensor(images, dtype=torch.float32) / 16, torch.tensor(labels))
    train_set, val_set = torch.utils.data.random_split(data, [1500, len(data) - 1500])
    checkpoint = ModelCheckpoint(folder, monitor="val_loss")
    # By default EarlyStopping ends a run at the first non-finite validation, before it is rolled
    # back; it still ends one that has brought nothing new for five epochs.
    patience = EarlyStopping("val_loss", patience=5, check_finite=False)
    usual = [LearningRateMonitor("step"), patience, checkpoint]
    trainer = pl.Trainer(
        max_epochs=EPOCHS,
        callbacks=[*guards, *usual],
        logger=CSVLogger(folder),
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    loaders = DataLoader(train_set, 64, shuffle=True), DataLoader(val_set, 512)
    trainer.fit(Digits(), *loaders)
    metrics = trainer.callback_metrics
    print(
        f"{'under LRPilot' if guards else 'alone'}: {trainer.current_epoch} epochs, "
        f"val_loss {metrics['val_loss']:.4f}, {metrics['val_right']:.1%} of unseen digits right"
    )


torch.set_num_threads(1)
warnings.filterwarnings("ignore", module="pytorch_lightning")  # advice on workers
logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
with tempfile.TemporaryDirectory() as folder:
    train(folder, [])
    guard = LRControllerCallback(project="digits")
    train(folder, [guard])
assert guard.pilot is not None
for told in guard.pilot.decisions:
    before, after = told.lrs_before[0], told.lrs_after[0]
    print(f"  step {told.applied_step}: {told.action}, LR {before:.3g} -> {after:.3g}")
