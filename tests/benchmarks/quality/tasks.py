"""The quality benchmark's twelve tasks: `task(name, seed)` builds one, `TASKS` names them.

A seed fixes the initial weights, the order of the batches and, where there are any, the label noise
or the synthetic problem itself.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from . import data, models
from .data import Batch, Data

OptimizerName = Literal["sgd", "sgdm", "adam", "adamw"]

DESIGN_SEED = 100  # the one on which sizes and `lr_scale` were chosen; never an evaluation seed


@dataclass
class Task:
    """One seeded training job.

    Dropout draws from the global random state: a caller who wants to repeat a run seeds it.

    Attributes:
        lr_scale: Order of magnitude of the best LR.
        uninformed: Held-out loss of the predictor that knows nothing: a uniform guess, or zero.
    """

    name: str
    seed: int
    model: nn.Module
    optimizer_name: OptimizerName
    total_steps: int
    lr_scale: float
    weight_decay: float
    uninformed: float
    _data: Data
    _criterion: Callable[[Tensor, Tensor], Tensor]

    def make_optimizer(self, lr: float) -> torch.optim.Optimizer:
        """Returns a new optimizer over the model's parameters."""
        parameters = self.model.parameters()
        match self.optimizer_name:
            case "sgd":
                return torch.optim.SGD(parameters, lr, weight_decay=self.weight_decay)
            case "sgdm":
                return torch.optim.SGD(parameters, lr, momentum=0.9, weight_decay=self.weight_decay)
            case "adam":
                return torch.optim.Adam(parameters, lr)
            case "adamw":
                return torch.optim.AdamW(parameters, lr, weight_decay=self.weight_decay)

    def batches(self) -> Iterator[Batch]:
        """Yields training batches without end, from the first one on in each call."""
        return self._data.stream(data.seeded(self.seed))

    def loss(self, batch: Batch) -> Tensor:
        """Returns the mean loss on a batch, with a graph for backward."""
        inputs, targets = batch
        return self._criterion(self.model(inputs), targets)

    @torch.no_grad()
    def validate(self) -> float:
        """Returns the mean held-out loss in eval mode; modes and random state stay as they are."""
        modes = [(module, module.training) for module in self.model.modules()]
        self.model.eval()
        try:
            return self.loss(self._data.held_out).item()
        finally:
            for module, training in modes:
                module.training = training


@dataclass
class _Recipe:
    """How to build a task; `classes` is 0 where the loss is a squared error."""

    model: Callable[[], nn.Module]
    data: Callable[[int], Data]
    optimizer: OptimizerName
    steps: int
    lr_scale: float
    classes: int = 0
    weight_decay: float = 0.0


_MATRIX = (120, 100)
_FEATURES = 64

_RECIPES = {
    "digits_mlp": _Recipe(
        model=lambda: models.mlp(64, 128, 128, 10, activation=nn.ReLU),
        data=lambda seed: data.digits(seed, 32),
        optimizer="sgd",
        steps=1000,
        lr_scale=0.3,
        classes=10,
    ),
    # 20 % of the training labels are drawn anew.
    "digits_tanh_noisy_labels": _Recipe(
        model=lambda: models.mlp(64, 96, 96, 96, 10, activation=nn.Tanh),
        data=lambda seed: data.digits(seed, 64, noise=0.2),
        optimizer="sgdm",
        steps=800,
        lr_scale=0.03,
        classes=10,
        weight_decay=1e-4,
    ),
    "digits_conv": _Recipe(
        model=lambda: models.image_conv_net(10),
        data=lambda seed: data.digits(seed, 32, image=True),
        optimizer="sgdm",
        steps=800,
        lr_scale=0.03,
        classes=10,
    ),
    "digits_vit": _Recipe(
        model=lambda: models.PatchTransformer(10, width=32, heads=4, layers=2),
        data=lambda seed: data.digits(seed, 16, image=True),
        optimizer="adamw",
        steps=600,
        lr_scale=3e-3,
        classes=10,
        weight_decay=0.05,
    ),
    "text_transformer_adamw": _Recipe(
        model=lambda: models.CharTransformer(
            data.CHARACTERS, data.CONTEXT, width=32, heads=4, layers=2, activation=nn.GELU
        ),
        data=lambda seed: data.text(8),
        optimizer="adamw",
        steps=600,
        lr_scale=1e-2,
        classes=data.CHARACTERS,
        weight_decay=0.1,
    ),
    "text_transformer_sgdm": _Recipe(
        model=lambda: models.CharTransformer(
            data.CHARACTERS, data.CONTEXT, width=32, heads=2, layers=2, activation=nn.ReLU
        ),
        data=lambda seed: data.text(8),
        optimizer="sgdm",
        steps=800,
        lr_scale=0.3,
        classes=data.CHARACTERS,
    ),
    "text_gru": _Recipe(
        model=lambda: models.CharGRU(data.CHARACTERS, embedding=32, width=48),
        data=lambda seed: data.text(8),
        optimizer="adam",
        steps=500,
        lr_scale=1e-2,
        classes=data.CHARACTERS,
    ),
    "digits_autoencoder": _Recipe(
        model=lambda: models.mlp(64, 96, 12, 96, 64, activation=nn.Tanh),
        data=lambda seed: data.digits_as_targets(32),
        optimizer="adam",
        steps=1000,
        lr_scale=1e-2,
    ),
    "matrix_factorization": _Recipe(
        model=lambda: models.Factors(*_MATRIX, rank=6),
        data=lambda seed: data.matrix_entries(seed, 128, shape=_MATRIX, rank=4),
        optimizer="sgdm",
        steps=1500,
        lr_scale=0.3,
    ),
    "noisy_least_squares": _Recipe(
        model=lambda: models.Linear(_FEATURES),
        data=lambda seed: data.ill_conditioned_regression(seed, 8, width=_FEATURES, noise=2.0),
        optimizer="sgd",
        steps=1500,
        lr_scale=0.3,
    ),
    # 20 batches an epoch: 50 epochs; 30 % of the training labels are drawn anew.
    "digits_many_epochs": _Recipe(
        model=lambda: models.mlp(
            64, 48, 48, 48, 10, activation=nn.ReLU, batch_norm=True, dropout=0.2
        ),
        data=lambda seed: data.digits(seed, 32, limit=640, noise=0.3),
        optimizer="adamw",
        steps=1000,
        lr_scale=1e-2,
        classes=10,
        weight_decay=0.01,
    ),
    "signals_conv": _Recipe(
        model=lambda: models.signal_conv_net(data.SIGNAL_CLASSES),
        data=lambda seed: data.signals(seed, 16, count=1600),
        optimizer="sgdm",
        steps=800,
        lr_scale=0.1,
        classes=data.SIGNAL_CLASSES,
        weight_decay=1e-4,
    ),
}

TASKS = tuple(_RECIPES)


def own_steps(name: str) -> int:
    """A task's own length."""
    return _RECIPES[name].steps


def task(name: str, seed: int, steps: int | None = None) -> Task:
    """Builds a task; the global random state is left as it was.

    Args:
        name: One of `TASKS`.
        seed: Of the weights, the batches and the problem.
        steps: A length other than the task's own.
    """
    recipe = _RECIPES[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = recipe.model()
    source = recipe.data(seed)
    if recipe.classes:
        uninformed = math.log(recipe.classes)
    else:
        uninformed = source.held_out[1].square().mean().item()
    return Task(
        name=name,
        seed=seed,
        model=model,
        optimizer_name=recipe.optimizer,
        total_steps=steps or recipe.steps,
        lr_scale=recipe.lr_scale,
        weight_decay=recipe.weight_decay,
        uninformed=uninformed,
        _data=source,
        _criterion=_cross_entropy if recipe.classes else F.mse_loss,
    )


def _cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(logits.flatten(0, -2), targets.flatten())
