"""The first LR that answers: found in a few steps, from a base that is wrong by many orders."""

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrpilot_controller.core.search.job import Family, Job, Prober
from lrpilot_controller.core.search.probe import Phase, Probe, Result, held
from lrpilot_controller.core.search.reference import Reference
from lrpilot_controller.core.search.response import respond
from support.simulated import Bowl, Simulated, drive

REFERENCE = Reference((2.0, 2.2, 1.8, 2.1, 1.9, 2.0), level=2.0, noise=0.1)


def prober(base: float, *, low: float = 1e-12, high: float = 1e9, replay: bool = True) -> Prober:
    return Prober(Job(base, low, high, Family.PLAIN, 1000, 400, replay))


def linear(gain: float, edge: float = math.inf) -> Callable[[Probe], Result]:
    """A job whose loss falls by `gain` times the LR and step, in units of noise; up to an edge."""

    def answer(probe: Probe) -> Result:
        if probe.lr > edge:
            return Result((2.0, 50.0), "loss_cap")
        falls = (0.1 * gain * probe.lr * step for step in range(6))
        return Result(tuple(b - f for b, f in zip(REFERENCE.losses, falls, strict=True)))

    return answer


def found(
    answer: Callable[[Probe], Result], base: float, **more: object
) -> tuple[float, list[Probe]]:
    return drive(respond(prober(base, **more), REFERENCE), answer)  # type: ignore[arg-type]


def fall(gain: float, lr: float) -> float:
    """The mean fall of the last four of the six steps, in units of noise."""
    return 3.5 * gain * lr


@given(st.floats(-6, 6), st.floats(-3, 2))
def test_it_extrapolates_to_a_fall_that_is_clearly_seen(gain: float, off: float) -> None:
    lr, probes = found(linear(10**gain), 10 ** (off - gain))
    seen = fall(10**gain, lr)
    assert seen > 0.45 or len(probes) == 6
    assert seen <= max(0.55, fall(10**gain, 10 ** (off - gain)) * 1.01)


def test_a_far_one_is_measured_again_on_the_way() -> None:
    lr, probes = found(linear(1.0), 1e-4)
    assert fall(1.0, lr) == pytest.approx(0.5)
    tried = [probe.lr for probe in probes]
    assert len(tried) > 1
    assert all(b <= 30 * a * (1 + 1e-9) for a, b in itertools.pairwise(tried))


def test_after_a_blow_up_it_cuts_far_below() -> None:
    lr, probes = found(linear(1.0, edge=0.5), 100.0)
    assert probes[1].lr == pytest.approx(0.1)
    assert lr < 0.5
    lr, probes = found(linear(1.0, edge=1e-4), 100.0)
    assert [probe.lr for probe in probes[:4]] == pytest.approx([100, 0.1, 3e-3, 9e-5])
    assert lr > 9e-5  # from where it extrapolates; the range test sees whether that is too far


def test_where_nothing_is_measurable_it_goes_up_by_large_strides() -> None:
    lr, probes = found(linear(1.0), 1e-9)
    assert probes[1].lr == pytest.approx(3e-7)
    assert lr > 1e4 * probes[0].lr
    # A loss that no LR moves: the highest LR, and an end.
    lr, probes = found(linear(0.0), 1e-9, high=1.0)
    assert lr == 1.0
    assert len(probes) == 6


def test_a_rise_is_answered_by_a_lower_one() -> None:
    _, probes = found(linear(-1.0), 1.0)  # rises by 3.5 noise
    assert probes[1].lr == pytest.approx(0.1)


def test_a_small_rise_is_the_transient_of_the_first_steps() -> None:
    lr, probes = found(linear(-1.0), 0.1)
    assert lr == 0.1
    assert len(probes) == 1


def test_what_lowers_the_loss_is_safe() -> None:
    one = prober(0.01)
    drive(respond(one, REFERENCE), linear(1.0))
    assert one.safe is not None
    assert one.safe > 0
    other = prober(0.01)
    drive(respond(other, REFERENCE), linear(-1.0))
    assert other.safe is None


def test_its_probes_are_short_alike_and_capped() -> None:
    _, probes = found(linear(1.0, edge=0.5), 100.0)
    for probe in probes:
        assert probe.phase is Phase.RESPONSE
        assert probe.length == 6
        assert probe.stop.loss_cap == pytest.approx(2.2 + 8 * 0.1)


@given(st.lists(st.floats(), min_size=6, max_size=6), st.floats(-9, 9), st.booleans())
def test_it_ends_within_the_bounds(losses: list[float], base: float, replay: bool) -> None:
    lr, probes = found(lambda _: Result(tuple(losses)), 10**base, low=1e-6, high=1e3, replay=replay)
    assert 1e-6 <= lr <= 1e3
    assert len(probes) <= 6
    assert all(1e-6 <= probe.lr <= 1e3 for probe in probes)


# -- without replayed batches


def test_unpaired_a_base_that_does_no_harm_is_taken_as_it_is() -> None:
    lr, probes = found(linear(1.0), 0.01, replay=False)
    assert (lr, len(probes)) == (0.01, 1)


def test_unpaired_a_base_that_does_harm_is_cut() -> None:
    lr, probes = found(linear(1.0, edge=0.5), 100.0, replay=False)
    assert lr == pytest.approx(0.1)
    assert len(probes) == 2
    lr, _ = found(linear(-2.0), 1.0, replay=False)
    assert lr < 1.0


@pytest.mark.parametrize("seed", range(10))
def test_unpaired_the_noise_of_other_batches_is_no_harm(seed: int) -> None:
    rng = np.random.default_rng(seed)

    def answer(probe: Probe) -> Result:
        return Result(tuple(2.0 + 0.1 * rng.standard_normal(6)))

    assert found(answer, 0.01, replay=False)[0] == 0.01


# -- on simulated jobs


@pytest.mark.parametrize("factor", [1e-6, 1e-3, 1.0, 1e3, 1e6])
@pytest.mark.parametrize("family", list(Family))
def test_from_any_base_the_loss_answers_a_little(family: Family, factor: float) -> None:
    bowl = Bowl(family, 0.3)
    trainer = Simulated(bowl)
    seen = trainer(Probe(Phase.REFERENCE, 0.0, held(0.0, 6), 6)).losses
    spread = float(np.std(seen, ddof=1))
    reference = Reference(seen, float(np.mean(seen)), spread)
    lr, _ = drive(respond(prober(0.3 * factor), reference), trainer)
    assert 1e-3 < lr < 3.0
