"""A sampler for one factor around a rule: a parabola that noise cannot bend far.

With a few tens of noisy gains per kind of intervention, what is assumed decides more than the
acquisition. Assumed is that the gain is a parabola over the logarithm of the factor, that the rule
is near its top, and how much a factor three times off costs. Then it is Thompson sampling: a
parabola is drawn from what is believed, and its top within the range is tried.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import FloatDistribution
from optuna.samplers import BaseSampler
from optuna.trial import TrialState

if TYPE_CHECKING:
    from collections.abc import Mapping

    from optuna.distributions import BaseDistribution
    from optuna.study import Study
    from optuna.trial import FrozenTrial

_Floats = NDArray[np.float64]

UNIT = float(np.log(3.0))
"""Factors are counted in threes from the rule."""
LEVEL, SLOPE, BEND = (0.0, 0.5), (0.0, 0.3), (-0.25, 0.15)
"""What is believed before the first trial, in gain: mean and standard deviation at the rule, per
three, and per three squared. A gain is within [-1, 1]."""
NOISE, WORTH = 0.2, 4.0
"""The standard deviation of a gain, and how many trials that belief is worth."""
BOLDNESS = 0.5
"""Share of the uncertainty that is drawn: whole, it explores for longer than pays within 200."""
GRID = 81


class QuadraticSampler(BaseSampler):
    """Proposes a factor by a Bayesian parabola around the rule's.

    Args:
        rule: The factor that is believed in at first.
        seed: Of its draws.
    """

    def __init__(self, rule: float, seed: int) -> None:
        self._rule = rule
        self._rng = np.random.default_rng(seed)

    def infer_relative_search_space(
        self, study: "Study", trial: "FrozenTrial"
    ) -> "dict[str, BaseDistribution]":
        """Nothing: each parameter is sampled by itself."""
        return {}

    def sample_relative(
        self, study: "Study", trial: "FrozenTrial", search_space: "Mapping[str, BaseDistribution]"
    ) -> dict[str, Any]:
        """Nothing, either."""
        return {}

    def sample_independent(
        self,
        study: "Study",
        trial: "FrozenTrial",
        param_name: str,
        param_distribution: "BaseDistribution",
    ) -> float:
        """The top of a parabola drawn from what the study's complete trials leave to believe."""
        trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        known = [t for t in trials if param_name in t.params]
        x = np.log(np.array([t.params[param_name] for t in known]) / self._rule) / UNIT
        y = np.array([t.value for t in known], np.float64)
        mean, covariance = believe(x, y)
        drawn = mean + BOLDNESS * np.linalg.cholesky(covariance) @ self._rng.standard_normal(3)
        assert isinstance(param_distribution, FloatDistribution)
        factors = np.geomspace(param_distribution.low, param_distribution.high, GRID)
        places = np.log(factors / self._rule) / UNIT
        return float(factors[np.argmax(drawn[1] * places + drawn[2] * places**2)])


def believe(x: _Floats, y: _Floats) -> tuple[_Floats, _Floats]:
    """Level, slope and bend after these gains `y` at the places `x`: their mean and covariance.

    The noise is estimated from what the parabola leaves over.
    """
    prior = np.array([LEVEL, SLOPE, BEND])
    precision = np.diag(prior[:, 1] ** -2)
    columns = np.stack([np.ones_like(x), x, x**2], axis=1)
    variance = NOISE**2
    for _ in range(3):
        covariance = np.linalg.inv(precision + columns.T @ columns / variance)
        mean = covariance @ (precision @ prior[:, 0] + columns.T @ y / variance)
        rest = y - columns @ mean
        variance = float((WORTH * NOISE**2 + rest @ rest) / (WORTH + len(y)))
    return mean, np.asarray(covariance)
