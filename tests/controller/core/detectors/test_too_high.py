"""A jump that the run does not make good, in its first steps or after a raise of the rate."""

import math

import pytest

from lrpilot_controller.core.detectors import TooHighDetector
from lrpilot_controller.core.model import SignalKind

from .streams import added, noisy, power_law, signals, steps

over_seeds = pytest.mark.parametrize("seed", range(8))

# A character transformer under AdamW at thirty times its best rate: 4.6, up to 21, down to 3.0.
TRANSFORMER = [4.62, 5.28, 9.9, 21.0, 10.4, 6.44, 5.41, 5.02, 5.15, 5.18, 4.52, 3.79, 3.57]


def too_high(losses: list[float], lr=None) -> list[int]:  # type: ignore[no-untyped-def]
    return steps(signals(TooHighDetector(), losses, lr), SignalKind.TOO_HIGH)


@over_seeds
def test_a_jump_that_settles_at_a_bad_level(seed: int) -> None:
    losses = TRANSFORMER + noisy([3.0] * 400, seed, 0.25)
    suspected, confirmed = signals(TooHighDetector(), losses)
    assert suspected.step < 100
    assert suspected.severity < 0.5
    assert confirmed.step < 200
    assert confirmed.severity > 0.5
    assert confirmed.evidence["peak"] == pytest.approx(15.7, abs=0.1)


@over_seeds
def test_in_a_short_run_it_is_confirmed_after_a_third(seed: int) -> None:
    losses = TRANSFORMER + noisy([3.0] * 400, seed, 0.25)
    _, confirmed = signals(TooHighDetector(total_steps=500), losses)
    assert confirmed.step < 167


@over_seeds
@pytest.mark.parametrize("peak", [19.0, 1e6, 5e299])
def test_a_run_that_has_learnt_need_not_make_good_any_jump(seed: int, peak: float) -> None:
    learnt = [0.1 + 2.4 * math.exp(-t / 25) for t in range(400)]
    losses = noisy([2.5, 2.6, peak, peak, 3.0, *learnt], seed, 0.02)
    assert all(signal.severity < 0.5 for signal in signals(TooHighDetector(), losses))


@over_seeds
def test_what_is_made_good_after_a_hundred_reports_is_not_confirmed(seed: int) -> None:
    rough = [2.3, 2.6, 3.4, 3.1, 2.8, *[2.3] * 75, *[max(0.8, 2.3 - 0.02 * t) for t in range(300)]]
    found = signals(TooHighDetector(), noisy(rough, seed, 0.05))
    assert all(signal.severity < 0.5 for signal in found)


@over_seeds
@pytest.mark.parametrize(("scale", "offset"), [(1e-6, 0.0), (1e6, 0.0), (1.0, 100.0), (1.0, -3.0)])
def test_on_another_scale(seed: int, scale: float, offset: float) -> None:
    losses = TRANSFORMER + noisy([3.0] * 400, seed, 0.25)
    assert too_high([scale * loss + offset for loss in losses]) == too_high(losses)


@pytest.mark.parametrize("peak", [21.0, 1e6, 1e20, 1e300])
def test_a_suspicion_is_no_more_however_high_the_jump(peak: float) -> None:
    """A squared error may jump by twenty orders of magnitude and come back."""
    losses = [4.62, *[peak * 0.5**t for t in range(3)], *noisy([3.0] * 200, 0, 0.25)]
    suspected, confirmed = signals(TooHighDetector(), losses)
    assert suspected.severity < 0.5 <= confirmed.severity


def test_an_explosion_into_nan_is_one_at_the_second_of_them() -> None:
    """SGD with momentum at ten times its best rate."""
    assert too_high([4.62, 4.02, 9.9, 9.63, 134.0, 4150.0, 1.3e5, *[math.nan] * 5]) == [8]
    assert too_high([math.nan] * 20) == []  # the rate need not be at fault
    assert too_high([2.3, 2.2, 2.1, math.nan, 2.0, math.nan, 1.9]) == []


@over_seeds
def test_a_warm_up_bump_is_made_good(seed: int) -> None:
    bump = added(power_law(400), 0, lambda t: 0.8 * t / 10 * math.exp(1 - t / 10))
    assert too_high(noisy(bump, seed)) == []


@over_seeds
@pytest.mark.parametrize("noise", [0.01, 0.1, 0.5])
def test_hard_tasks_are_left_alone(seed: int, noise: float) -> None:
    assert too_high(noisy([2.3 - 1e-4 * t for t in range(500)], seed, noise)) == []
    assert too_high(noisy(power_law(500), seed, noise)) == []


def test_pure_noise_is_rarely_taken_for_it() -> None:
    false = sum(bool(too_high(noisy([2.3] * 200, seed, 0.1))) for seed in range(400))
    assert false <= 12  # 3 %


def test_what_the_run_does_later_is_not_its_business() -> None:
    assert too_high(added(noisy(power_law(600), 1), 300, lambda t: 3.0)) == []


@over_seeds
def test_after_a_cut_in_the_first_steps_it_judges_the_lower_rate(seed: int) -> None:
    losses = TRANSFORMER + noisy(power_law(400, floor=1.0), seed)
    assert too_high(losses, lambda step: 0.3 if step < 13 else 0.03) == []


@over_seeds
def test_a_schedule_in_short_stairs_does_not_make_first_steps_for_ever(seed: int) -> None:
    detector = TooHighDetector()
    doubts = []
    for step, loss in enumerate(noisy(power_law(1500), seed)):
        assert not detector.update(step, loss, None, 0.85 ** (step // 50))
        doubts.append(detector.doubtful)
    assert not any(doubts[500:])


# -- after a raise --------------------------------------------------------------------------------


def raised(step: int) -> float:
    return 0.1 if step < 500 else 1.0


@over_seeds
@pytest.mark.parametrize("rise", [0.1, 0.5, 5.0])
def test_a_loss_that_lies_higher_after_a_raise(seed: int, rise: float) -> None:
    losses = noisy(added(power_law(900), 500, lambda t: rise), seed)
    (signal,) = signals(TooHighDetector(), losses, raised)
    assert signal.step == 503 if rise > 0.1 else 503 <= signal.step <= 530
    assert signal.since == 500
    assert signal.evidence["healthy_lr"] == 0.1
    assert signal.evidence["lr"] == 1.0


@over_seeds
def test_a_raise_that_does_no_harm(seed: int) -> None:
    assert too_high(noisy(power_law(900), seed), raised) == []
    faster = added(power_law(900), 500, lambda t: -0.002 * min(t, 100))
    assert too_high(noisy(faster, seed), raised) == []


@over_seeds
def test_where_the_run_has_been_healthy_is_nowhere_new(seed: int) -> None:
    """Warm restarts: the loss rises with the rate each time, as it must."""
    rates = [0.05 * (1 + math.cos(math.pi * (step % 200) / 200)) for step in range(1000)]
    losses = added(power_law(1000), 200, lambda t: 0.2 * math.exp(-(t % 200) / 40))
    assert too_high(noisy(losses, seed), lambda step: rates[step]) == []


@over_seeds
def test_a_spike_after_a_raise_is_none(seed: int) -> None:
    losses = noisy(power_law(900), seed)
    losses[500 + 5 * seed] += 10.0
    losses[501 + 5 * seed] += 10.0
    assert too_high(losses, raised) == []


@over_seeds
def test_a_rate_found_too_high_is_no_healthy_one_until_the_loss_is_back(seed: int) -> None:
    detector = TooHighDetector()
    losses = added(power_law(1600), 500, lambda t: 5.0 if t < 400 else 0.0)
    healthy = []
    found = []
    for step, loss in enumerate(noisy(losses, seed)):
        found += detector.update(step, loss, None, raised(step))
        healthy.append(detector.raised_from)
    assert len(found) == 1
    assert set(healthy[:500]) == {None}
    assert set(healthy[500:900]) == {0.1}
    assert set(healthy[920:]) == {None}
