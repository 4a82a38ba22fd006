"""A plateau is flat by a test of equivalence, a slow descent is none; a straight one is slow."""

import math
import random

import pytest

from lrpilot_controller.core.detectors import TrendDetector
from lrpilot_controller.core.model import SignalKind

from .streams import added, exponential, noisy, power_law, signals, steps

over_seeds = pytest.mark.parametrize("seed", range(8))


def plateaus(losses: list[float], lr=None) -> list[int]:  # type: ignore[no-untyped-def]
    return steps(signals(TrendDetector(), losses, lr), SignalKind.PLATEAU)


def too_low(losses: list[float], lr=None) -> list[int]:  # type: ignore[no-untyped-def]
    return steps(signals(TrendDetector(), losses, lr), SignalKind.TOO_LOW)


# -- plateaus ----------------------------------------------------------------------------------


@over_seeds
@pytest.mark.parametrize("noise", [1e-4, 0.01, 0.02])
@pytest.mark.parametrize("onset", [400, 1000])
def test_a_descent_that_ends_is_told_before_half_of_its_time_has_passed_again(
    seed: int, noise: float, onset: int
) -> None:
    descent = power_law(onset)
    found = plateaus(noisy(descent + [descent[-1]] * onset, seed, noise))
    assert found
    assert onset < found[0] <= 1.6 * onset


@over_seeds
@pytest.mark.parametrize("exponent", [0.2, 0.5, 0.7])
@pytest.mark.parametrize("noise", [1e-4, 0.01, 0.1])
def test_a_power_law_never_is(seed: int, exponent: float, noise: float) -> None:
    assert plateaus(noisy(power_law(3000, exponent), seed, noise)) == []


@over_seeds
def test_the_steady_decrease_after_a_spike(seed: int) -> None:
    """pytorch #30873: there a plateau was called while the loss was falling all the time."""
    falling = [1.0 - 0.0005 * t for t in range(300)] + [1.6 - 0.001 * t for t in range(900)]
    assert plateaus(noisy(falling, seed, 0.005)) == []


@over_seeds
@pytest.mark.parametrize("offset", [-5.0, -0.5])
def test_negative_losses(seed: int, offset: float) -> None:
    """pytorch #47513, #38622: with a relative threshold an improvement below zero was none."""
    falling = [loss + offset for loss in power_law(1500)]
    assert plateaus(noisy(falling, seed, 0.01)) == []
    flat = [*falling[:600], *[falling[600]] * 600]
    assert plateaus(noisy(flat, seed, 0.01))


def test_no_plateau_is_early_by_one_report() -> None:
    """pytorch #119763: a patience that is off by one. Here a signal falls on a window's end."""
    losses = noisy(power_law(400) + [power_law(400)[-1]] * 400, 1, 0.005)
    (at,) = plateaus(losses)
    assert plateaus(losses[:at]) == []
    assert plateaus(losses[: at + 1]) == [at]


@over_seeds
def test_improvements_that_shrink_for_ever_end_in_a_plateau(seed: int) -> None:
    """nequip #326: every tiny improvement reset the patience, and no plateau was ever called."""
    shrinking = exponential(2000, tau=80)
    found = plateaus(noisy(shrinking, seed, 1e-3))
    assert found
    assert found[0] < 1300


@over_seeds
def test_it_is_told_once_and_again_after_a_descent(seed: int) -> None:
    first = power_law(500)
    flat = first[-1]
    second = [flat - 0.3 * (1 - math.exp(-t / 150)) for t in range(1500)]
    found = plateaus(noisy([*first, *[flat] * 500, *second], seed, 0.01))
    assert len(found) == 2
    assert found[0] < 1000
    assert found[1] > 1300


@over_seeds
def test_a_plateau_that_goes_on_for_long_is_the_same_one(seed: int) -> None:
    """By and by all that it is compared with lies in it, and a hair's breadth is a descent."""
    first = power_law(500)
    flat = [first[-1] - (1e-6 if t > 6000 else 0.0) for t in range(12000)]
    assert len(plateaus([*first, *flat])) == 1
    assert len(plateaus(noisy([*first, *flat], seed, 0.01))) == 1


def test_a_cut_of_the_rate_begins_a_new_trend() -> None:
    first = power_law(600)
    after = [first[-1] - 0.1 * (1 - math.exp(-t / 80)) for t in range(900)]
    losses = [*first, *[first[-1]] * 500, *after]
    found = [
        plateaus(noisy(losses, seed, 0.003), lambda step: 0.1 if step < 1100 else 0.01)
        for seed in range(8)
    ]
    assert all(600 < at[0] < 1100 for at in found)
    # Where all of a descent lies in the first of its time, noise may hide its end for good.
    assert sum(len(at) == 2 and at[1] > 1160 for at in found) >= 7


@over_seeds
def test_heavy_noise_hides_a_plateau_and_makes_none(seed: int) -> None:
    rng = random.Random(seed)
    assert plateaus([loss * rng.lognormvariate(0, 1) for loss in power_law(1500)]) == []


@over_seeds
def test_one_bad_batch_moves_no_plateau(seed: int) -> None:
    losses = noisy(power_law(500) + [power_law(500)[-1]] * 500, seed, 0.01)
    found = plateaus(losses)
    broken = list(losses)
    broken[250] *= 100
    assert plateaus(broken) == found
    broken[250] = math.nan
    assert [abs(a - b) <= 1 for a, b in zip(plateaus(broken), found, strict=True)]


def test_the_evidence_can_be_checked() -> None:
    losses = noisy(power_law(500) + [power_law(500)[-1]] * 500, 0, 0.01)
    (signal,) = signals(TrendDetector(), losses)
    seen = signal.evidence
    assert abs(seen["descent"]) + seen["doubt"] < 0.2 * seen["descent_before"]
    assert seen["level"] == pytest.approx(power_law(500)[-1], abs=0.01)
    assert signal.since == pytest.approx(signal.step - seen["reports"], abs=1)


@over_seeds
def test_where_the_epoch_is_known_its_sawtooth_hides_no_plateau(seed: int) -> None:
    descent = power_law(600)
    flat = [*descent, *[descent[-1]] * 1200]
    sawtooth = noisy(added(flat, 0, lambda t: 0.06 * (t % 90) / 90), seed, 0.005)
    known = TrendDetector(steps_per_epoch=90)
    found = steps(signals(known, sawtooth), SignalKind.PLATEAU)
    assert found
    assert 600 < found[0] < 1400
    falling = noisy(added(power_law(2000), 0, lambda t: 0.06 * (t % 90) / 90), seed, 0.005)
    assert steps(signals(TrendDetector(steps_per_epoch=90), falling), SignalKind.PLATEAU) == []


@pytest.mark.parametrize("epoch", [None, 0, 1, 7, 32, 33, 256, 257, 10**9])
def test_any_epoch_length_will_do(epoch: int | None) -> None:
    losses = noisy([*power_law(800), *[power_law(800)[-1]] * 1600], 1, 0.005)
    assert steps(signals(TrendDetector(epoch), losses), SignalKind.PLATEAU)


# -- too low -----------------------------------------------------------------------------------


@over_seeds
def test_a_straight_descent_is_too_slow(seed: int) -> None:
    found = too_low(noisy([2.3 - 1e-4 * t for t in range(1500)], seed, 0.003))
    assert len(found) == 1
    assert found[0] < 800


@over_seeds
@pytest.mark.parametrize("exponent", [0.2, 0.5, 1.0])
def test_a_power_law_is_not(seed: int, exponent: float) -> None:
    assert too_low(noisy(power_law(2000, exponent), seed, 0.003)) == []


@over_seeds
def test_nor_is_noise_or_a_flat_loss(seed: int) -> None:
    assert too_low(noisy([1.0] * 2000, seed, 0.1)) == []
    assert too_low([1.0] * 2000) == []


@over_seeds
def test_nothing_is_said_of_a_warm_up(seed: int) -> None:
    """A loss that falls in a straight line, or faster, while the rate rises proves nothing."""
    losses = noisy([2.3 - 1e-4 * t for t in range(400)], seed, 0.003)
    assert too_low(losses, lambda step: 1e-4 * (1 + step)) == []


@over_seeds
def test_a_raise_begins_anew(seed: int) -> None:
    slow = [2.3 - 1e-4 * t for t in range(600)]
    losses = noisy([*slow, *added([slow[-1]] * 900, 0, lambda t: -3e-4 * t)], seed, 0.003)
    assert len(too_low(losses, lambda step: 0.001 if step < 600 else 0.003)) == 2
