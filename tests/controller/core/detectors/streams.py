"""Loss streams for the tests of detectors, and the steps at which one speaks."""

import math
import random
from collections.abc import Callable, Iterable

from lrpilot_controller.core.detectors import Detector
from lrpilot_controller.core.model import Signal, SignalKind


def signals(
    detector: Detector, losses: Iterable[float], lr: Callable[[int], float] | None = None
) -> list[Signal]:
    """Everything that the detector says of these training losses."""
    found: list[Signal] = []
    for step, loss in enumerate(losses):
        found += detector.update(step, loss, None, lr(step) if lr else 0.1)
    return found


def steps(found: Iterable[Signal], kind: SignalKind) -> list[int]:
    """The steps of the signals of one kind."""
    return [signal.step for signal in found if signal.kind is kind]


def noisy(losses: Iterable[float], seed: int, noise: float = 0.02) -> list[float]:
    """With Gaussian noise."""
    rng = random.Random(seed)
    return [loss + rng.gauss(0, noise) for loss in losses]


def power_law(count: int, exponent: float = 0.5, floor: float = 0.5) -> list[float]:
    """The usual descent, from 2.5 down."""
    return [floor + 2.0 / (1 + t / 20) ** exponent for t in range(count)]


def added(losses: list[float], first: int, bump: Callable[[int], float]) -> list[float]:
    """With `bump(steps since first)` from `first` on."""
    return [loss + (bump(t - first) if t >= first else 0.0) for t, loss in enumerate(losses)]


def exponential(count: int, tau: float = 60.0, floor: float = 0.5) -> list[float]:
    """A descent that ends at its floor."""
    return [floor + 2.0 * math.exp(-t / tau) for t in range(count)]
