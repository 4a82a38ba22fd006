"""The training jobs whose loss streams `too_high` is judged on, each with three optimizers.

They are the quality benchmark's tasks, halved into a set to design a detector on and one to test it
on. One is replaced: `text_transformer_sgdm` is nearly `text_transformer_adamw`, which would put the
same model on both sides. In its stead the test set has a transformer of another kind.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.quality import data
from benchmarks.quality.tasks import Task, task

OptimizerName = Literal["adamw", "adam", "sgdm"]

SIGNALS_TRANSFORMER = "signals_transformer"
DESIGN = (
    "text_transformer_adamw",
    "digits_vit",
    "text_gru",
    "digits_mlp",
    "matrix_factorization",
    "digits_many_epochs",
)
TEST = (
    "digits_tanh_noisy_labels",
    "digits_conv",
    SIGNALS_TRANSFORMER,
    "digits_autoencoder",
    "noisy_least_squares",
    "signals_conv",
)
OPTIMIZERS: tuple[OptimizerName, ...] = ("adamw", "adam", "sgdm")

# An order of magnitude of the best LR, from which the grid sets out.
_ADAM_LR = 1e-2
_SGD_LR = 1e-1
_DECOUPLED_DECAY = 0.01


class SignalTransformer(nn.Module):
    """Post-norm encoder layers with dropout over 16 pieces of a waveform, their mean classified."""

    def __init__(self, classes: int, width: int = 32, pieces: int = 16) -> None:
        super().__init__()
        self.pieces = nn.Linear(data.SIGNAL_LENGTH // pieces, width)
        self.positions = nn.Parameter(0.02 * torch.randn(pieces, width))
        self.layers = nn.Sequential(
            *(
                nn.TransformerEncoderLayer(width, 4, 2 * width, dropout=0.1, batch_first=True)
                for _ in range(2)
            )
        )
        self.head = nn.Linear(width, classes)

    def forward(self, signals: Tensor) -> Tensor:
        count, width = len(self.positions), self.pieces.in_features
        x = self.pieces(signals.view(-1, count, width)) + self.positions
        logits: Tensor = self.head(self.layers(x).mean(1))
        return logits


def job(name: str, optimizer: OptimizerName, seed: int, steps: int) -> Task:
    """Builds a task with an optimizer that may be another than its own.

    Its own optimizer keeps its weight decay; AdamW has .01 elsewhere, the others none.
    """
    made = _signals_transformer(seed, steps) if name == SIGNALS_TRANSFORMER else None
    made = made or task(name, seed, steps)
    own = made.optimizer_name
    family = "sgdm" if own == "sgd" else own
    if optimizer != family:
        made.weight_decay = _DECOUPLED_DECAY if optimizer == "adamw" else 0.0
        made.lr_scale = _ADAM_LR if optimizer != "sgdm" else _SGD_LR
    if optimizer != own:
        made.optimizer_name = optimizer
    return made


def _signals_transformer(seed: int, steps: int) -> Task:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = SignalTransformer(data.SIGNAL_CLASSES)
    return Task(
        name=SIGNALS_TRANSFORMER,
        seed=seed,
        model=model,
        optimizer_name="adam",
        total_steps=steps,
        lr_scale=3e-3,
        weight_decay=0.0,
        uninformed=float(torch.tensor(data.SIGNAL_CLASSES).log()),
        _data=data.signals(seed, 16, count=1600),
        _criterion=F.cross_entropy,
    )
