"""The validation loss must rise, clearly and for a while, and the training loss must not."""

import random
from collections.abc import Callable

import pytest

from lrpilot_controller.core.detectors import OverfitDetector
from lrpilot_controller.core.model import Signal

from .streams import noisy, power_law

over_seeds = pytest.mark.parametrize("seed", range(8))
EVERY = 25


def watch(train: list[float], val: Callable[[int], float]) -> list[Signal]:
    detector, found = OverfitDetector(), []
    for step, loss in enumerate(train):
        found += detector.update(step, loss, val(step) if step % EVERY == 0 else None, 0.1)
    return found


@over_seeds
def test_a_validation_loss_that_turns_while_the_training_loss_falls(seed: int) -> None:
    rng, train = random.Random(seed), noisy(power_law(2000), seed)
    best = power_law(800)[-1]

    def val(step: int) -> float:
        turned = max(0.0, 4e-4 * (step - 800))
        return max(power_law(step + 1)[-1], best) + turned + rng.gauss(0, 0.01)

    (signal,) = watch(train, val)
    assert 900 < signal.step <= 1300
    assert 500 <= signal.since <= 950
    assert signal.evidence["validation"] > signal.evidence["best_validation"]
    assert signal.evidence["train"] < signal.evidence["train_at_best"]


@over_seeds
def test_where_both_rise_it_is_no_overfitting(seed: int) -> None:
    both = [loss + max(0.0, 1e-3 * (t - 800)) for t, loss in enumerate(power_law(1600))]
    assert watch(noisy(both, seed), lambda step: both[step]) == []


@over_seeds
def test_where_both_fall_it_is_none(seed: int) -> None:
    rng = random.Random(seed)
    train = power_law(2000)
    assert watch(noisy(train, seed), lambda step: train[step] + rng.gauss(0.1, 0.05)) == []


@over_seeds
def test_a_validation_loss_that_only_wavers(seed: int) -> None:
    rng = random.Random(seed)
    train = [1.0 - 1e-4 * t for t in range(3000)]
    assert watch(train, lambda step: 1.2 + rng.gauss(0, 0.05)) == []


def test_without_a_training_loss_nothing_can_be_said() -> None:
    detector = OverfitDetector()
    for step in range(0, 2000, EVERY):
        assert not detector.update(step, None, 1.0 + 1e-3 * step, 0.1)


def test_the_smallest_rise_there_is_means_nothing() -> None:
    """Less than what a noise or a gain could be reckoned from."""
    detector = OverfitDetector()
    for step in range(60):
        loss = 0.0 if step < 6 else 5e-324
        assert not detector.update(step, 1.0 - 0.01 * step, loss, 0.1)
