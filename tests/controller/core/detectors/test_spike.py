"""What stands out is told at once and once; noise never is, whatever its tail."""

import math
import random

import pytest

from lrpilot_controller.core.detectors import SpikeDetector
from lrpilot_controller.core.model import SignalKind

from .streams import added, noisy, power_law, signals, steps

over_seeds = pytest.mark.parametrize("seed", range(8))


def spikes(losses: list[float]) -> list[int]:
    return steps(signals(SpikeDetector(), losses), SignalKind.SPIKE)


@over_seeds
@pytest.mark.parametrize("height", [1.0, 10.0, 1e6])
def test_one_bad_batch_is_told_with_its_report(seed: int, height: float) -> None:
    losses = noisy(power_law(600), seed)
    losses[300] += height
    assert spikes(losses) == [300]


@over_seeds
@pytest.mark.parametrize("tail", [3, 20, 60])
def test_a_spike_that_comes_back_slowly_is_one(seed: int, tail: float) -> None:
    losses = noisy(added(power_law(900), 400, lambda t: 1.5 * math.exp(-t / tail)), seed)
    assert spikes(losses) == [400]


@over_seeds
def test_a_spike_that_rises_over_a_few_reports_is_one(seed: int) -> None:
    losses = noisy(added(power_law(900), 400, lambda t: min(t, 8) * 0.2 * math.exp(-t / 40)), seed)
    (at,) = spikes(losses)
    assert 400 <= at <= 410


@over_seeds
def test_two_spikes_are_two_also_where_the_second_is_smaller(seed: int) -> None:
    losses = noisy(power_law(900), seed)
    losses[300] += 5.0
    losses[340] += 0.8
    assert spikes(losses) == [300, 340]


@over_seeds
def test_it_is_on_until_it_is_back(seed: int) -> None:
    detector = SpikeDetector()
    losses = noisy(added(power_law(600), 300, lambda t: 2.0 * 0.5 ** (t / 10)), seed)
    on = []
    for step, loss in enumerate(losses):
        detector.update(step, loss, None, 0.1)
        on.append(detector.on)
    assert not any(on[:300])
    assert all(on[300:308])
    assert not any(on[350:])


@over_seeds
@pytest.mark.parametrize("noise", ["gaussian", "log-normal", "laplace"])
def test_noise_is_no_spike(seed: int, noise: str) -> None:
    rng = random.Random(seed)
    draw = {
        "gaussian": lambda: rng.gauss(0, 0.1),
        "log-normal": lambda: 0.2 * rng.lognormvariate(0, 0.7),
        "laplace": lambda: 0.1 * rng.expovariate(1) * rng.choice((-1, 1)),
    }[noise]
    assert len(spikes([loss + draw() for loss in power_law(3000)])) <= 1


@over_seeds
def test_a_small_rise_matters_to_nobody(seed: int) -> None:
    losses = noisy(power_law(900), seed, noise=0.001)
    losses[500] += 0.1  # a hundred noise sd, and a twentieth of what the run has gained
    assert spikes(losses) == []


@over_seeds
def test_what_happens_all_the_time_is_no_spike_any_more(seed: int) -> None:
    losses = noisy(power_law(2400), seed)
    for step in range(600, 2400, 20):
        losses[step] += 2.0
    assert spikes(losses)[-1] < 600 + 8 * 32


@over_seeds
def test_a_series_of_spikes_is_told_once(seed: int) -> None:
    losses = noisy(power_law(1200), seed)
    for step in range(600, 1200, 5):
        losses[step] += 2.0
    assert spikes(losses) == [600]


def test_a_constant_loss_and_the_last_digit_of_a_float32() -> None:
    assert spikes([2.3] * 500) == []
    assert spikes([2.3 * (1 + 2**-23 * (step % 7 == 0)) for step in range(500)]) == []


@over_seeds
def test_a_loss_that_stays_up_is_a_spike_no_more(seed: int) -> None:
    """Other data, say: what waits for the end of a spike must not wait for ever."""
    detector = SpikeDetector()
    losses = noisy(added(power_law(1200), 300, lambda t: 0.8), seed)
    losses[900] += 5.0
    on = []
    found = []
    for step, loss in enumerate(losses):
        found += detector.update(step, loss, None, 0.1)
        on.append(detector.on)
    assert on[300]
    assert not any(on[500:900])
    assert steps(found, SignalKind.SPIKE) == [300, 900]
