"""One real training for each signal, as the catalogue of signals (`controller/SIGNALS.md`) shows.

Nearly all are streams of the corpora beside this module. None of those overfits, so one run that
does is kept in `overfit.csv`; `python -m tests.benchmarks.detection.examples` trains it anew.
"""

import csv
import itertools
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn import ReLU
from torch.nn.functional import cross_entropy

from benchmarks.quality import data
from benchmarks.quality.models import mlp
from lrpilot_controller.core.model import SignalKind
from lrpilot_controller.streams import Reading, csv_rows

from . import judge, too_high_streams

OVERFIT = Path(__file__).with_name("overfit.csv")
STEPS, VALIDATED_EVERY = 600, 10
SEED, BATCH, LR = 0, 100, 2e-3
IMAGES, WRONG_LABELS = 300, 0.2


@dataclass(frozen=True)
class Example:
    """A stream that shows a signal.

    Attributes:
        name: Of its picture, without the suffix.
        kind: The signal.
        told: What was trained.
        readings: All that the detectors are shown, from the run's start on.
        first: The first step that is drawn.
        last: The last one.
        top: The highest loss that is drawn as it is; None for the highest of all.
        validated: Whether the validation losses matter here.
    """

    name: str
    kind: SignalKind
    told: str
    readings: tuple[Reading, ...]
    first: int
    last: int
    top: float | None = None
    validated: bool = False

    @property
    def shown(self) -> list[Reading]:
        """What of it is drawn."""
        return [r for r in self.readings if self.first <= r.step <= self.last]


def examples() -> tuple[Example, ...]:
    """All of them, in the order of the catalogue."""
    return (
        Example(
            "nonfinite",
            SignalKind.NONFINITE,
            "matrix factorization, SGD with momentum at three times its best LR",
            _of_an_lr("matrix_factorization", "sgdm", 3.0),
            0,
            72,
            top=20.0,
        ),
        Example(
            "divergence",
            SignalKind.DIVERGENCE,
            "MLP on letters, SGD: at step 1200 the LR became ten times higher",
            _of_the_corpus("real-letter_mlp-sgd-x1-jump10"),
            1100,
            1350,
            top=8.0,
        ),
        Example(
            "spike",
            SignalKind.SPIKE,
            "MLP on digits, SGD with momentum at its best constant LR",
            _of_an_lr("digits_mlp", "sgdm", 1.0),
            200,
            499,
        ),
        Example(
            "oscillation",
            SignalKind.OSCILLATION,
            "small regression, Adam: at step 1080 the LR became 30 times higher",
            _of_the_corpus("real-ts_reg-adam-x1-jump30"),
            900,
            1799,
            top=2.0,
        ),
        Example(
            "too_high",
            SignalKind.TOO_HIGH,
            "transformer on waveforms, Adam at ten times its best LR",
            _of_an_lr("signals_transformer", "adam", 10.0),
            0,
            249,
        ),
        Example(
            "too_high_raise",
            SignalKind.TOO_HIGH,
            "MLP on letters, SGD with momentum: at step 700 the LR became 100 times higher",
            _of_the_corpus("real-letter_mlp-mom-x0.2-jump100"),
            500,
            1000,
        ),
        Example(
            "plateau",
            SignalKind.PLATEAU,
            "autoencoder of digits, Adam at its best constant LR",
            _of_an_lr("digits_autoencoder", "adam", 1.0),
            0,
            499,
        ),
        Example(
            "too_low",
            SignalKind.TOO_LOW,
            "MLP on letters, SGD at a fifth of a good LR",
            _of_the_corpus("real-letter_mlp-sgd-x0.2"),
            0,
            600,
        ),
        Example(
            "overfit",
            SignalKind.OVERFIT,
            f"MLP on {IMAGES} digits, {WRONG_LABELS:.0%} of their labels wrong, Adam",
            tuple(csv_rows(OVERFIT.read_bytes().splitlines(keepends=True))),
            0,
            STEPS - 1,
            validated=True,
        ),
    )


def _of_the_corpus(name: str) -> tuple[Reading, ...]:
    stream = next(s for s in judge.corpus() if s["id"] == name)
    columns = (stream[part] for part in ("train", "val", "lr"))
    return tuple(
        Reading(step, train, val, lr)
        for step, (train, val, lr) in enumerate(zip(*columns, strict=True))
    )


def _of_an_lr(task: str, optimizer: str, multiple: float) -> tuple[Reading, ...]:
    wanted = {
        "task": task,
        "optimizer": optimizer,
        "multiple": multiple,
        "schedule": "constant",
        "seed": too_high_streams.SEEDS[0],
    }
    stream = next(s for s in too_high_streams.load() if wanted.items() <= s.items())
    return tuple(
        Reading(step, train, stream["val"].get(step + 1), float(lr))
        for step, (train, lr) in enumerate(zip(stream["train"], stream["lr"], strict=True))
    )


def train() -> Iterable[Reading]:
    """Trains the run that overfits; about a second."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        model = mlp(64, 128, 10, activation=ReLU)
    digits = data.digits(SEED, BATCH, limit=IMAGES, noise=WRONG_LABELS)
    inputs, targets = digits.held_out
    optimizer = torch.optim.Adam(model.parameters(), LR)
    batches = digits.stream(data.seeded(SEED))
    for step, (images, labels) in enumerate(itertools.islice(batches, STEPS)):
        loss = cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        val = None
        if (step + 1) % VALIDATED_EVERY == 0:
            with torch.no_grad():
                val = cross_entropy(model(inputs), targets).item()
        yield Reading(step, loss.item(), val, LR)


def main() -> int:
    """Writes `overfit.csv`."""
    torch.set_num_threads(1)
    with OVERFIT.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("step", "train_loss", "val_loss", "lr"))
        for r in train():
            val = "" if r.val_loss is None else f"{r.val_loss:.6g}"
            writer.writerow((r.step, f"{r.train_loss:.6g}", val, r.lr))
    return 0


if __name__ == "__main__":
    sys.exit(main())
