"""The detectors on the development corpus: F1 of each signal, delays, false alarms, invariance.

The corpus and its scorer are vendored as they are (`corpus/README.md`: provenance, labels, rules).
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from lrpilot_controller.core.detectors import Detectors

from .corpus import score

Stream = dict[str, Any]
Events = dict[str, list[tuple[str, int]]]
"""By the stream's id: kinds of signals, and the steps at which they were raised."""

DRAWS = 4000
LEVEL = 0.90  # of the interval whose lower end is told
MOVES: dict[str, Callable[[float], float]] = {
    "x1e-6": lambda loss: loss * 1e-6,
    "x1e6": lambda loss: loss * 1e6,
    "+100": lambda loss: loss + 100.0,
    "-3": lambda loss: loss - 3.0,
}


@dataclass(frozen=True)
class Verdict:
    """How well one kind of signal is told.

    Attributes:
        low: Lower end of the bootstrap interval of F1, over streams.
        delay: Median, in time scales of the stream (plateau: in steps to the onset).
        false_alarms: Per 1000 steps, in streams without a truth of the kind.
    """

    kind: str
    precision: float
    recall: float
    f1: float
    low: float
    delay: float
    false_alarms: float


class Scored:
    """`Detectors` as the scorer wants them."""

    def __init__(self) -> None:
        self._detectors = Detectors()

    def update(
        self,
        step: int,
        train_loss: float | None = None,
        val_loss: float | None = None,
        lr: float | None = None,
    ) -> list[tuple[str, int]]:
        """Takes one report; kinds and steps of the signals."""
        found = self._detectors.update(step, train_loss, val_loss, lr)
        return [(signal.kind.value, signal.step) for signal in found]


@cache
def corpus() -> list[Stream]:
    """The 168 streams of the development half."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # the scorer leaves a file to be collected
        streams: list[Stream] = score.load("dev")
    return streams


def events(streams: Sequence[Stream]) -> Events:
    """What the detectors say of each stream."""
    found: Events = score.run(Scored, streams)[0]
    return found


def moved(move: Callable[[float], float]) -> list[Stream]:
    """The corpus with every loss moved."""

    def all_of(losses: list[float | None]) -> list[float | None]:
        return [None if loss is None else move(loss) for loss in losses]

    return [s | {"train": all_of(s["train"]), "val": all_of(s["val"])} for s in corpus()]


def verdicts(found: Events) -> list[Verdict]:
    """One for each kind of signal that the corpus has truths of."""
    scored = score.score(found, corpus())
    return [_verdict(kind, scored[kind], found) for kind in score.KINDS]


def _verdict(kind: str, scored: dict[str, Any], found: Events) -> Verdict:
    judged = [s for s in corpus() if s["source"] != "real" or kind == "divergence"]
    counts = np.array([score.match(s, found[s["id"]], kind)[:3] for s in judged])
    picks = np.random.default_rng(0).integers(len(judged), size=(DRAWS, len(judged)))
    hits, false, missed = counts[picks].sum(axis=1).T
    f1 = 2 * hits / np.maximum(2 * hits + false + missed, 1)
    return Verdict(
        kind,
        scored["P"],
        scored["R"],
        scored["F1"],
        float(np.quantile(f1, (1 - LEVEL) / 2)),
        scored["rel_delay"],
        scored["fa_per_1k"],
    )


def same_share(found: Events, elsewhere: Events) -> float:
    """The share of streams with the same events in both."""
    return sum(found[name] == elsewhere[name] for name in found) / len(found)
