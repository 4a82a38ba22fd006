"""Manual optimization in Lightning: two optimizers a thousand times too slow, alone and searched.

Run it as it stands: `python examples/lightning_manual.py`. Nothing is downloaded; seconds on a CPU.
"""

import logging
import warnings

import pytorch_lightning as pl
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lrpilot.lightning import LRControllerCallback

EPOCHS = 25
LR = 1e-5
Batch = tuple[Tensor, Tensor]


class Digits(pl.LightningModule):
    """A small network for scikit-learn's digits, whose halves have an optimizer each."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.body = nn.Sequential(nn.Linear(64, 256), nn.GELU())
        self.head = nn.Linear(256, 10)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        loss = nn.functional.cross_entropy(self.head(self.body(batch[0])), batch[1])
        optimizers = self.optimizers()
        assert isinstance(optimizers, list)
        for optimizer in optimizers:
            optimizer.zero_grad()
        self.manual_backward(loss)
        for optimizer in optimizers:
            optimizer.step()
        return loss  # LRPilot: or name a logged one, LRControllerCallback(loss="train_loss")

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        scores = self.head(self.body(batch[0]))
        self.log("val_loss", nn.functional.cross_entropy(scores, batch[1]))
        self.log("val_right", (scores.argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        return [torch.optim.AdamW(part.parameters(), lr=LR) for part in (self.body, self.head)]


def train(guards: list[pl.Callback]) -> None:
    """Train from the same weights in the same order."""
    pl.seed_everything(0, verbose=False)
    images, labels = load_digits(return_X_y=True)
    data = TensorDataset(torch.tensor(images, dtype=torch.float32) / 16, torch.tensor(labels))
    train_set, val_set = torch.utils.data.random_split(data, [1500, len(data) - 1500])
    trainer = pl.Trainer(
        max_epochs=EPOCHS,
        callbacks=guards,
        logger=False,
        accelerator="cpu",
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Digits(), DataLoader(train_set, 64, shuffle=True), DataLoader(val_set, 512))
    metrics = trainer.callback_metrics
    print(
        f"{'under LRPilot' if guards else 'alone'}: "
        f"val_loss {metrics['val_loss']:.4f}, {metrics['val_right']:.1%} of unseen digits right"
    )


torch.set_num_threads(1)
warnings.filterwarnings("ignore", module="pytorch_lightning")  # advice on workers
logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
train([])
search = LRControllerCallback(project="lightning-manual", search=True)
train([search])
assert search.pilot is not None
found = search.pilot.decisions[-1]
print(f"  step {found.applied_step}: {found.action}, LR {LR:.3g} -> {found.lrs_after[0]:.3g}")
