"""Swings about a level that does not fall are told; what disperses by itself is not."""

import math
import random
from collections.abc import Callable

import pytest

from lrpilot_controller.core.detectors import OscillationDetector
from lrpilot_controller.core.model import SignalKind

from .streams import added, noisy, power_law, signals, steps

over_seeds = pytest.mark.parametrize("seed", range(8))


def oscillations(losses: list[float]) -> list[int]:
    return steps(signals(OscillationDetector(), losses), SignalKind.OSCILLATION)


SWINGS: dict[str, Callable[[int], float]] = {
    "every other step": lambda t: 0.2 * (-1) ** t,
    "a period of seven": lambda t: 0.3 * math.cos(2 * math.pi * t / 7),
    "a period of forty": lambda t: 0.3 * math.cos(2 * math.pi * t / 40),
    "growing": lambda t: min(0.5, 0.001 * t) * math.cos(t / 5),
    "square": lambda t: 0.2 if t // 5 % 2 else -0.2,
}


@over_seeds
@pytest.mark.parametrize("swing", SWINGS)
def test_swings_are_told_within_a_few_windows(seed: int, swing: str) -> None:
    found = oscillations(noisy(added(power_law(1000), 500, SWINGS[swing]), seed))
    assert found
    assert 500 + 64 < found[0] <= 500 + (320 if swing == "growing" else 130)


@over_seeds
def test_noise_that_triples_is_an_oscillation(seed: int) -> None:
    losses = noisy(power_law(500), seed) + noisy(power_law(1000)[500:], seed, 0.06)
    (at,) = oscillations(losses)
    assert 564 < at <= 640


@over_seeds
def test_it_is_told_once_and_again_after_it_had_stopped(seed: int) -> None:
    swing = SWINGS["every other step"]
    losses = added(power_law(1600), 400, lambda t: swing(t) if t < 200 or t >= 800 else 0.0)
    found = oscillations(noisy(losses, seed))
    assert len(found) == 2
    assert found[0] < 600
    assert found[1] > 1200


@over_seeds
def test_the_evidence_is_the_dispersion_and_what_it_was(seed: int) -> None:
    losses = noisy(added(power_law(800), 400, SWINGS["every other step"]), seed)
    (signal,) = signals(OscillationDetector(), losses)
    assert signal.evidence["usual_dispersion"] == pytest.approx(0.04, rel=0.5)
    assert signal.evidence["dispersion"] == pytest.approx(0.4, rel=0.3)
    assert abs(signal.since - 430) <= 32
    assert 0.8 < signal.severity < 1.0


@over_seeds
def test_a_net_that_leaves_its_initial_loss_disperses_by_itself(seed: int) -> None:
    rng = random.Random(seed)
    losses = []
    for t in range(1500):
        learnt = 1 / (1 + math.exp(-(t - 500) / 60))
        losses.append(2.3 - 1.8 * learnt + rng.gauss(0, 0.02 + 0.2 * learnt))
    assert oscillations(losses) == []


@over_seeds
@pytest.mark.parametrize("tail", [5, 30, 80])
def test_a_spike_is_no_oscillation(seed: int, tail: float) -> None:
    losses = added(power_law(1200), 600, lambda t: 1.5 * math.exp(-t / tail))
    assert oscillations(noisy(losses, seed)) == []


@over_seeds
def test_nor_is_a_divergence_or_an_epoch(seed: int) -> None:
    assert oscillations(noisy(added(power_law(900), 600, lambda t: 0.02 * t), seed)) == []
    sawtooth = added(power_law(1500), 100, lambda t: 0.1 * (t % 150) / 150)
    assert oscillations(noisy(sawtooth, seed)) == []


@over_seeds
@pytest.mark.parametrize("sd", [0.01, 0.3])
def test_pure_noise(seed: int, sd: float) -> None:
    rng = random.Random(seed)
    assert oscillations([rng.gauss(1, sd) for _ in range(4000)]) == []
