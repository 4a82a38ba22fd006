"""Who proposes a factor: within the range, the rule first, the same for the same seed."""

import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrpilot_controller.tuning.quadratic import believe
from lrpilot_controller.tuning.samplers import Past, Range, Sampler, propose

RULE = Range(1 / 3, 1 / 9, 0.9)


def noisy(best: float, count: int, noise: float = 0.15, seed: int = 0) -> list[Past]:
    """What factors all over the range brought, where `best` is the best one."""
    rng = random.Random(seed)
    factors = [math.exp(rng.uniform(math.log(RULE.low), math.log(RULE.high))) for _ in range(count)]
    return [Past(f, 0.5 - math.log10(f / best) ** 2 + rng.gauss(0, noise)) for f in factors]


@pytest.mark.parametrize("sampler", Sampler)
def test_the_rule_comes_first(sampler: Sampler) -> None:
    assert propose(sampler, RULE, [], 1) == pytest.approx(RULE.rule)


@pytest.mark.parametrize("sampler", [s for s in Sampler if s is not Sampler.GP])
@pytest.mark.parametrize("count", [1, 4, 9, 30])
def test_whatever_is_known_it_stays_in_the_range_and_hangs_on_the_seed_alone(
    sampler: Sampler, count: int
) -> None:
    past = noisy(1 / 3, count)
    found = [propose(sampler, RULE, past, seed) for seed in (7, 7, 8)]
    assert all(RULE.low * 0.999999 <= factor <= RULE.high * 1.000001 for factor in found)
    assert found[0] == found[1] != found[2]


@pytest.mark.parametrize("sampler", [Sampler.QUADRATIC, Sampler.TPE, Sampler.CMAES])
@pytest.mark.parametrize("best", [RULE.low, RULE.high])
def test_it_goes_to_the_half_of_the_range_that_is_better(sampler: Sampler, best: float) -> None:
    past = noisy(best, 60)
    off = [abs(math.log(propose(sampler, RULE, past, seed) / best)) for seed in range(11)]
    assert sorted(off)[5] < math.log(RULE.high / RULE.low) / 2


def test_what_another_rule_tried_is_left_out() -> None:
    past = noisy(1 / 3, 12)
    strange = [*past[:6], Past(1.5, 1.0), Past(0.01, 1.0), *past[6:]]
    for sampler in (Sampler.QUADRATIC, Sampler.TPE):
        assert propose(sampler, RULE, strange, 3) == propose(sampler, RULE, past, 3)


@given(
    st.lists(st.tuples(st.floats(RULE.low, RULE.high), st.floats(-1, 1)), min_size=1, max_size=300),
    st.integers(0, 2**32 - 1),
)
def test_a_parabola_that_anything_is_fitted_to_stays_in_the_range(
    past: list[tuple[float, float]], seed: int
) -> None:
    factor = propose(Sampler.QUADRATIC, RULE, [Past(*one) for one in past], seed)
    assert RULE.low * 0.999999 <= factor <= RULE.high * 1.000001


def test_what_it_believes_becomes_what_it_sees() -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, 400)
    y = 0.3 + 0.2 * x - 0.4 * x**2 + 0.1 * rng.standard_normal(400)
    mean, covariance = believe(x, y)
    assert mean == pytest.approx([0.3, 0.2, -0.4], abs=0.05)
    assert np.all(np.sqrt(np.diag(covariance)) < 0.05)


def test_one_gain_that_is_far_off_does_not_move_it_from_the_rule() -> None:
    x = np.linspace(-0.5, 0.5, 20)
    calm, _ = believe(x, 0.4 - 0.25 * x**2)
    shaken, _ = believe(np.append(x, 0.5), np.append(0.4 - 0.25 * x**2, -1.0))
    assert abs(calm[1]) < 0.01
    assert abs(shaken[1]) / (2 * abs(shaken[2])) < 0.5  # its top, in threes from the rule
