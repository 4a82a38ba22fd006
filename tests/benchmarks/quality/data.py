"""Data of the quality benchmark's tasks, none of it downloaded.

scikit-learn's packaged digits, the standard library's own text (the demo's corpus), and synthetic
problems that are drawn anew for every seed.
"""

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from sklearn.datasets import load_digits
from torch import Generator, Tensor

from lrpilot.demo.task import VOCABULARY, texts

Batch = tuple[Tensor, Tensor]

CHARACTERS = VOCABULARY
CONTEXT = 32  # characters per window of text
SIGNAL_LENGTH = 64
SIGNAL_CLASSES = 6

_SPLIT_SEED = 7  # the digits' split is one for all tasks and seeds
_HELD_OUT_DIGITS = 500
_HELD_OUT_WINDOWS = 256
_HELD_OUT_SIGNALS = 600


@dataclass
class Data:
    """Where a task's batches come from, and what it is validated on."""

    stream: Callable[[Generator], Iterator[Batch]]
    held_out: Batch


def seeded(seed: int) -> Generator:
    """Returns a generator of its own: the global random state stays as it is."""
    return torch.Generator().manual_seed(seed)


def digits(
    seed: int, batch: int, *, limit: int | None = None, noise: float = 0.0, image: bool = False
) -> Data:
    """Handwritten digits, 8 x 8 pixels in [-1, 1], in epochs.

    Args:
        seed: Which training labels are noisy.
        batch: Images per batch.
        limit: Train on the first so many images only.
        noise: This share of the training labels is drawn anew; all held-out labels are right.
        image: Inputs of shape (1, 8, 8) in place of (64,).
    """
    images, labels = _digits()
    if image:
        images = images.view(-1, 1, 8, 8)
    held_out = images[:_HELD_OUT_DIGITS], labels[:_HELD_OUT_DIGITS]
    inputs, targets = images[_HELD_OUT_DIGITS:][:limit], labels[_HELD_OUT_DIGITS:][:limit]
    generator = seeded(seed)
    noisy = torch.rand(len(targets), generator=generator) < noise
    targets = torch.where(noisy, torch.randint(10, targets.shape, generator=generator), targets)
    return Data(functools.partial(_epochs, inputs, targets, batch), held_out)


def digits_as_targets(batch: int) -> Data:
    """Handwritten digits less their mean, as inputs and as targets, in epochs."""
    images, _ = _digits()
    images = images - images[_HELD_OUT_DIGITS:].mean(0)
    held_out, inputs = images[:_HELD_OUT_DIGITS], images[_HELD_OUT_DIGITS:]
    return Data(functools.partial(_epochs, inputs, inputs, batch), (held_out, held_out))


def text(batch: int) -> Data:
    """Windows of the standard library's text; the targets are one character later."""
    training, held_out = (codes.unfold(0, CONTEXT + 1, 1) for codes in texts())

    def windows(rows: Tensor) -> Batch:
        return rows[:, :-1], rows[:, 1:]

    def stream(generator: Generator) -> Iterator[Batch]:
        while True:
            yield windows(training[torch.randint(len(training), (batch,), generator=generator)])

    return Data(
        stream, windows(held_out[torch.linspace(0, len(held_out) - 1, _HELD_OUT_WINDOWS).long()])
    )


def matrix_entries(seed: int, batch: int, *, shape: tuple[int, int], rank: int) -> Data:
    """Noisy entries of a low-rank matrix, 40 % of them known, in epochs; held out: exact ones.

    The inputs are (row, column). The factors of the matrix fall from strength 1 to 1/`rank`, and
    its entries have a variance of 1.
    """
    generator = seeded(seed)
    left = torch.randn(shape[0], rank, generator=generator) / torch.arange(1, rank + 1)
    values = left @ torch.randn(rank, shape[1], generator=generator)
    values /= values.std()
    places = torch.cartesian_prod(torch.arange(shape[0]), torch.arange(shape[1]))
    places = places[torch.randperm(len(places), generator=generator)]
    exact = values[places[:, 0], places[:, 1]]
    known = len(places) * 2 // 5
    noisy = exact[:known] + 0.3 * torch.randn(known, generator=generator)
    return Data(
        functools.partial(_epochs, places[:known], noisy, batch),
        (places[known:], exact[known:]),
    )


def ill_conditioned_regression(seed: int, batch: int, *, width: int, noise: float) -> Data:
    """Linear regression with curvatures from 1 down to `width` ** -1.5; every batch is fresh.

    The targets have a variance of 1 plus that of the `noise`; held out: exact ones.
    """
    generator = seeded(seed)
    scales = torch.arange(1, width + 1) ** -0.75
    rotation, _ = torch.linalg.qr(torch.randn(width, width, generator=generator))
    truth = torch.randn(width, generator=generator) / scales.sqrt()
    truth /= (truth * scales).norm()

    def draw(rows: int, deviation: float, generator: Generator) -> Batch:
        features = torch.randn(rows, width, generator=generator) * scales
        errors = torch.randn(rows, generator=generator) * deviation
        return features @ rotation, features @ truth + errors

    def stream(generator: Generator) -> Iterator[Batch]:
        while True:
            yield draw(batch, noise, generator)

    return Data(stream, draw(4000, 0.0, generator))


def signals(seed: int, batch: int, *, count: int) -> Data:
    """Noisy waveforms of six kinds, with random phase, period and size, in epochs."""
    generator = seeded(seed)
    total = count + _HELD_OUT_SIGNALS

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(total, 1, generator=generator)

    time = torch.arange(SIGNAL_LENGTH) / SIGNAL_LENGTH
    cycles, phase = uniform(3, 7), uniform(0, 1)
    angle = 2 * math.pi * (cycles * time + phase)
    waves = torch.stack(
        (
            angle.sin(),
            angle.sin().sign(),
            2 * ((cycles * time + phase) % 1) - 1,
            (angle * (1 + time)).sin(),
            angle.sin() * (-3 * time).exp(),
            angle.sin() * (angle / 4).sin(),
        )
    )
    labels = torch.randint(SIGNAL_CLASSES, (total,), generator=generator)
    inputs = waves[labels, torch.arange(total)] * uniform(0.7, 1.4)
    inputs = (inputs + 0.5 * torch.randn(inputs.shape, generator=generator)).unsqueeze(1)
    return Data(
        functools.partial(_epochs, inputs[:count], labels[:count], batch),
        (inputs[count:], labels[count:]),
    )


@functools.cache
def _digits() -> Batch:
    images, labels = load_digits(return_X_y=True)
    order = torch.randperm(len(images), generator=seeded(_SPLIT_SEED))
    return torch.tensor(images, dtype=torch.float32)[order] / 8 - 1, torch.tensor(labels)[order]


def _epochs(inputs: Tensor, targets: Tensor, batch: int, generator: Generator) -> Iterator[Batch]:
    """Yields epoch after epoch, each in a new order and without its odd rest."""
    while True:
        order = torch.randperm(len(inputs), generator=generator)
        for start in range(0, len(order) - batch + 1, batch):
            rows = order[start : start + batch]
            yield inputs[rows], targets[rows]
