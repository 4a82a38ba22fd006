"""A rise that stays is a divergence; whatever comes back by itself, or never rose, is not."""

import math
import random
from collections.abc import Callable, Iterable
from itertools import pairwise

import pytest

from lrpilot_controller.core.detectors import DivergenceDetector

SEEDS = range(8)
over_seeds = pytest.mark.parametrize("seed", SEEDS)


def alarms(losses: Iterable[float], lr: Callable[[int], float] | None = None) -> list[int]:
    detector = DivergenceDetector()
    return [
        signal.step
        for step, loss in enumerate(losses)
        for signal in detector.update(step, loss, None, lr(step) if lr else 0.1)
    ]


def descent(steps: int, seed: int, noise: float = 0.05) -> list[float]:
    rng = random.Random(seed)
    return [0.5 + 2.0 / (1 + t / 30) ** 0.7 + rng.gauss(0, noise) for t in range(steps)]


def noisy(losses: Iterable[float], seed: int, noise: float) -> list[float]:
    rng = random.Random(seed)
    return [loss + rng.gauss(0, noise) for loss in losses]


def added(losses: list[float], first: int, bump: Callable[[int], float]) -> list[float]:
    return [loss + (bump(t - first) if t >= first else 0.0) for t, loss in enumerate(losses)]


# -- what must fire ---------------------------------------------------------------------------


@over_seeds
@pytest.mark.parametrize("factor", [1.1, 1.5, 3.0])
def test_a_blow_up_from_the_first_step_on(seed: int, factor: float) -> None:
    rise = [3.0 + 0.02 * factor ** min(t, 200) for t in range(120)]
    found = alarms(noisy(rise, seed, 0.03))
    assert len(found) == 1
    within = math.log(100) / math.log(factor) + 40  # until it is 100 noise sd up, and then some
    assert found[0] <= within


@over_seeds
def test_an_explosion_later_on_fires_within_reports(seed: int) -> None:
    found = alarms(added(descent(400, seed), 300, lambda t: 3.0 * 2.0**t))
    assert len(found) == 1
    assert 300 <= found[0] <= 310


@over_seeds
@pytest.mark.parametrize("height", [0.6, 1.0, 3.0], ids="{} of the range".format)
def test_a_rise_that_stays(seed: int, height: float) -> None:
    found = alarms(added(descent(600, seed), 300, lambda t: 1.7 * height))
    assert len(found) == 1
    assert 310 < found[0] <= 300 + 60 / min(1.0, height)


@over_seeds
def test_a_rise_above_the_start_that_stays_when_there_never_was_a_range(seed: int) -> None:
    found = alarms(noisy([2.0] * 20 + [3.0] * 100, seed, 0.03))
    assert len(found) == 1
    assert 20 < found[0] <= 70


@over_seeds
def test_a_burst_that_ends_at_the_start_level(seed: int) -> None:
    burst = [*descent(300, seed), 50.0, 400.0, 90.0, 20.0, *noisy([2.5] * 200, seed, 0.1)]
    found = alarms(burst)
    assert len(found) == 1
    assert 300 < found[0] < 420


@over_seeds
def test_the_signal_says_what_was_seen(seed: int) -> None:
    detector = DivergenceDetector()
    found = []
    for step, loss in enumerate(added(descent(400, seed), 300, lambda t: 2.0)):
        found += detector.update(step, loss, None, 0.1)
    (signal,) = found
    assert signal.kind == "divergence"
    assert abs(signal.since - 300) <= 3
    assert 0.4 < signal.severity < 0.7
    evidence = signal.evidence
    assert evidence["level"] > evidence["best"] + 1.5
    assert evidence["start"] == pytest.approx(2.5, abs=0.2)
    assert evidence["noise"] == pytest.approx(0.05, rel=0.5)
    assert evidence["rise"] == pytest.approx(1.0, abs=0.4)
    assert evidence["reports"] == pytest.approx(signal.step - signal.since + 1)


# -- an explosion in the first steps, before its noise is known -----------------------------------


# A small net at twenty times its best rate.
BURST = [2.29, 2.26, 2.31, 2.18, 1.9, 2.18, 1.48, 3.24, 4.0, 2.22, 7.02, 2.83, 2.43, 5.43, 2.57]
BURST += [3.4, 4.54, 2.12, 3.64, 2.74, 5.25, 6.82, 3.45, 6.69, 8.9, 3.3, 5.2, 9.1, 4.8, 3.9]


def burnt_out(seed: int) -> list[float]:
    """A burst before anything is known, and then a loss that goes nowhere."""
    return [*BURST, *noisy([2.4] * 200, seed, 0.1)]


@over_seeds
def test_an_early_explosion_that_leaves_nothing_learnt(seed: int) -> None:
    detector = DivergenceDetector()
    found = []
    for step, loss in enumerate(burnt_out(seed)):
        found += detector.update(step, loss, None, 0.1)
    (signal,) = found
    assert signal.step <= 100
    assert 3 <= signal.since <= 35  # when it was at its worst


@over_seeds
@pytest.mark.parametrize(("scale", "offset"), [(1e-6, 0.0), (1e6, 0.0), (1.0, 100.0), (1.0, -3.0)])
def test_an_early_explosion_on_another_scale(seed: int, scale: float, offset: float) -> None:
    losses = burnt_out(seed)
    assert alarms(scale * loss + offset for loss in losses) == alarms(losses)


@over_seeds
def test_an_early_explosion_after_which_the_run_learns(seed: int) -> None:
    learning = [*BURST, *descent(500, seed, 0.1)]
    assert alarms(learning) == []
    slowly = [*BURST, *noisy([2.2 - 0.005 * t for t in range(300)], seed, 0.1)]
    assert alarms(slowly) == []


@over_seeds
def test_what_comes_after_something_was_learnt_has_a_range_to_be_judged_in(seed: int) -> None:
    spiked = added(descent(600, seed), 100, lambda t: 8.0 * math.exp(-t / 10))
    assert alarms(spiked) == []


def test_an_early_explosion_is_told_once_and_not_again_after_a_cut() -> None:
    losses = burnt_out(1)
    (at,) = alarms(losses)
    assert alarms(losses, lambda t: 0.1 if t <= at else 0.01) == [at]
    # The cut came first: what the higher rate did says nothing about the lower one.
    assert alarms(losses, lambda t: 0.1 if t < 40 else 0.01) == []


@over_seeds
def test_losses_that_rise_faster_and_faster_started_at_the_first(seed: int) -> None:
    detector = DivergenceDetector()
    for step, loss in enumerate([2.3, 3.4, 9.0]):
        detector.update(step, loss, None, 0.1)
    assert detector.start == 2.3
    detector = DivergenceDetector()
    for step, loss in enumerate([-1e6, 2.3, 2.4]):  # one bad report is not a start
        detector.update(step, loss, None, 0.1)
    assert detector.start == 2.3


NOISES: dict[str, Callable[[random.Random], float]] = {
    "gaussian": lambda rng: rng.gauss(0, 1),
    "uniform": lambda rng: rng.random(),
    "laplace": lambda rng: rng.expovariate(1) * rng.choice((-1, 1)),
    "log-normal": lambda rng: rng.lognormvariate(0, 1),
    "left-skewed": lambda rng: -rng.lognormvariate(0, 0.7),
}


@pytest.mark.parametrize("noise", NOISES)
def test_healthy_starts_are_left_alone(noise: str) -> None:
    false = 0
    for seed in range(400):
        rng = random.Random(seed)
        fall, tau, bump = rng.choice((0, 3, 10, 30)), rng.choice((20, 60)), rng.choice((0, 0, 0.5))
        false += bool(
            alarms(
                fall * (math.exp(-t / tau) + bump * t / 8 * math.exp(1 - t / 8))
                + NOISES[noise](rng)
                for t in range(100)
            )
        )
    assert false <= 1


# -- one alarm per episode --------------------------------------------------------------------


def test_one_alarm_while_the_loss_stays_up_and_another_after_it_came_back() -> None:
    up, down = [2.5] * 150, [0.8] * 150
    found = alarms(noisy([*descent(300, 1, 0), *up, *down, *up], 1, 0.03))
    assert len(found) == 2
    assert 300 < found[0] < 450
    assert 600 < found[1] < 750


def test_a_cut_that_did_not_help_gets_an_alarm_of_its_own() -> None:
    losses = noisy([*descent(300, 1, 0), *[2.5] * 200], 1, 0.03)
    found = alarms(losses, lambda t: 0.1 if t < 400 else 0.02)
    assert len(found) == 2
    assert 400 < found[1] < 450


def test_small_changes_of_the_rate_open_no_episode() -> None:
    losses = noisy([*descent(300, 1, 0), *[2.5] * 200], 1, 0.03)
    assert len(alarms(losses, lambda t: 0.1 - 0.009 * (t % 2))) == 1


def linear_decay(first: int, last: int) -> Callable[[int], float]:
    return lambda t: 0.1 * min(1.0, max(0.0, (last - t) / (last - first)))


@over_seeds
@pytest.mark.parametrize("height", [0.6, 1.0, 3.0], ids="{} of the range".format)
@pytest.mark.parametrize("at", [310, 450, 540])
def test_a_blow_up_during_a_linear_decay_is_found_as_soon_as_without(
    seed: int, height: float, at: int
) -> None:
    losses = added(descent(600, seed), at, lambda t: 2.0 * height)
    found = alarms(losses, linear_decay(300, 600))
    assert found == alarms(losses)
    assert len(found) == 1
    assert at < found[0] < at + 60


@over_seeds
@pytest.mark.parametrize("shape", ["a half-life of ten steps", "cosine", "stairs of 9 %"])
def test_nor_does_any_other_gradual_decay_wipe_out_the_evidence(seed: int, shape: str) -> None:
    rates: dict[str, Callable[[int], float]] = {
        "a half-life of ten steps": lambda t: 0.1 * 0.5 ** (max(t - 300, 0) / 10),
        "cosine": lambda t: 0.05 * (1 + math.cos(math.pi * t / 600)),
        "stairs of 9 %": lambda t: 0.1 * 0.91 ** (t // 7),
    }
    losses = added(descent(600, seed), 350, lambda t: 2.0)
    assert alarms(losses, rates[shape]) == alarms(losses)


@over_seeds
def test_a_cut_at_once_begins_the_evidence_anew(seed: int) -> None:
    losses = added(descent(600, seed), 300, lambda t: 2.0)
    (first,) = alarms(losses)
    cut = first - 5  # shortly before the alarm
    (late,) = alarms(losses, lambda t: 0.1 if t < cut else 0.05)
    assert late >= cut + (first - 300) - 5
    assert alarms(losses, lambda t: 0.1 if t < cut else 0.095) == [first]


@over_seeds
def test_a_cut_at_once_in_the_middle_of_a_decay_opens_an_episode_and_the_decay_none(
    seed: int,
) -> None:
    decay = linear_decay(0, 900)
    losses = added(descent(800, seed), 300, lambda t: 2.0)
    assert len(alarms(losses, decay)) == 1
    twice = alarms(losses, lambda t: decay(t) if t < 500 else decay(t) / 3)
    assert len(twice) == 2
    assert twice[0] < 500 < twice[1]


def test_a_rate_that_keeps_growing_does_not_blind_it() -> None:
    assert alarms(added(descent(400, 1), 300, lambda t: 0.05 * 1.1**t), lambda t: 1e-6 * 1.1**t)


# -- what must not fire -----------------------------------------------------------------------


@over_seeds
@pytest.mark.parametrize("noise", [0.0, 1e-3, 0.1, 1.0, 10.0])
def test_a_descent_at_any_noise(seed: int, noise: float) -> None:
    assert alarms(descent(1500, seed, noise)) == []


@over_seeds
def test_pure_noise(seed: int) -> None:
    rng = random.Random(seed)
    assert alarms(rng.gauss(0, 1) for _ in range(3000)) == []
    assert alarms(rng.lognormvariate(0, 1) for _ in range(3000)) == []
    assert alarms(float(round(rng.gauss(0, 0.7))) for _ in range(3000)) == []


@pytest.mark.parametrize("value", [0.0, 2.3, -1e6, 1e300])
def test_a_constant_loss(value: float) -> None:
    assert alarms([value] * 500) == []


@over_seeds
def test_a_loss_near_zero(seed: int) -> None:
    rng = random.Random(seed)
    assert alarms(math.exp(-t / 50) + 1e-4 * abs(rng.gauss(0, 1)) for t in range(1500)) == []


@over_seeds
def test_a_negative_loss_that_goes_on_falling_and_one_that_blows_up(seed: int) -> None:
    falling = noisy([-5.0 - 3 * math.log1p(t / 20) for t in range(800)], seed, 0.1)
    assert alarms(falling) == []
    assert len(alarms(added(falling, 600, lambda t: 0.1 * 1.15**t))) == 1


@over_seeds
@pytest.mark.parametrize("size", [100.0, 1e6, -1e6, 1e300, math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("at", [0, 1, 2, 3, 10, 200])
def test_one_bad_batch_of_any_size_at_any_time(seed: int, size: float, at: int) -> None:
    clean = descent(500, seed)
    broken = [*clean[:at], size, *clean[at + 1 :]]
    assert alarms(broken) == []
    (then,) = alarms(added(clean, 400, lambda t: 2.0))
    (now,) = alarms(added(broken, 400, lambda t: 2.0))
    assert abs(then - now) <= 3


@over_seeds
@pytest.mark.parametrize("height", [0.5, 1.0, 3.0], ids="{} of the range".format)
@pytest.mark.parametrize("tau", [3, 20, 60])
def test_a_spike_that_recovers(seed: int, height: float, tau: float) -> None:
    spike = added(descent(900, seed), 300, lambda t: 1.7 * height * math.exp(-t / tau))
    assert alarms(spike) == []


def test_the_steady_decrease_after_a_spike() -> None:
    """pytorch #30873: there a plateau was called while the loss was falling all the time."""
    losses = [1.0 - 0.001 * t for t in range(300)] + [1.6 - 0.004 * t for t in range(500)]
    assert alarms(losses) == []


@over_seeds
def test_a_warm_up_bump(seed: int) -> None:
    bumped = added(descent(400, seed, 0.02), 0, lambda t: 0.8 * t / 15 * math.exp(1 - t / 15))
    assert alarms(bumped) == []


@over_seeds
def test_an_epoch_sawtooth_and_a_cyclical_rate(seed: int) -> None:
    assert alarms(added(descent(1500, seed), 100, lambda t: 0.2 * (t % 100) / 100)) == []
    cycle = added(descent(1500, seed), 0, lambda t: 0.15 * (1 + math.cos(t / 40)))
    assert alarms(cycle, lambda t: 0.1 * (1.1 + math.cos(t / 40))) == []


@over_seeds
def test_a_slowly_wandering_loss_on_its_way_down(seed: int) -> None:
    rng = random.Random(seed)
    wander, losses = 0.0, []
    for t in range(1500):
        wander = 0.95 * wander + rng.gauss(0, 0.05)
        losses.append(-6.0 * t / 1500 + wander + rng.gauss(0, 0.3))
    assert alarms(losses) == []


# -- the level that other parts read ----------------------------------------------------------


def test_the_level_is_unknown_until_the_third_loss() -> None:
    detector = DivergenceDetector()
    for step in range(2):
        detector.update(step, 1.0, None, None)
        assert detector.level is detector.best is detector.start is detector.noise is None
        assert detector.healthy
    detector.update(2, 1.0, None, None)
    assert detector.level == detector.best == detector.start == 1.0
    assert detector.noise == 0.0


@over_seeds
def test_the_level_follows_the_loss_and_healthy_its_rise(seed: int) -> None:
    detector = DivergenceDetector()
    losses = added(descent(600, seed), 400, lambda t: 1.5 if t < 100 else 0.0)
    health = []
    for step, loss in enumerate(losses):
        detector.update(step, loss, None, 0.1)
        health.append(detector.healthy)
        if step == 399:
            assert detector.start == pytest.approx(2.5, abs=0.15)
            assert detector.noise == pytest.approx(0.05, rel=0.4)
            assert detector.level == pytest.approx(0.8, abs=0.1)
            assert detector.best == pytest.approx(0.8, abs=0.1)
    changes = [step for step, (a, b) in enumerate(pairwise(health), 1) if a != b]
    assert len(changes) == 2
    assert 400 < changes[0] < 406
    assert 500 < changes[1] < 530


def test_the_evidence_is_finite_however_small_the_unit() -> None:
    detector = DivergenceDetector()
    losses = [0.0] * 5 + [2.2e-309, 8.6e269, 8.6e269, 0.0, 1.0, 1.2e-38]
    found = [s for k, loss in enumerate(losses) for s in detector.update(k, loss, None, 0.1)]
    assert found
    assert all(0 <= signal.severity <= 1 for signal in found)
    assert all(abs(value) < float("inf") for s in found for value in s.evidence.values())
