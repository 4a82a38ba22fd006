"""Who proposes the next factor: samplers of Optuna behind one small port, and one of our own.

A sampler sees one study in memory: what a factor brought in earlier interventions of one kind. It
keeps nothing from one question to the next, so that a restarted daemon asks as the old one did.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial

FACTOR = "factor"


class Sampler(StrEnum):
    """The samplers, by their names in the configuration."""

    QUADRATIC = "quadratic"  # a parabola around the rule
    TPE = "tpe"
    CMAES = "cmaes"  # needs the package of that name
    GP = "gp"  # needs torch and scipy


@dataclass(frozen=True, slots=True)
class Range:
    """Where a factor may lie, and the rule's; both ends belong to it."""

    rule: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Past:
    """What a factor brought: its gain within [-1, 1]."""

    factor: float
    gain: float


def propose(sampler: Sampler, within: Range, past: Sequence[Past], seed: int) -> float:
    """The factor to try next; the rule's where nothing is known.

    Args:
        sampler: Who is asked.
        within: Where it may lie.
        past: Of the same kind of intervention, oldest first. What lies outside of the range was
            decided under another rule, and is left out.
        seed: The same one, with the same past, gives the same factor.

    Raises:
        ImportError: Optuna, or what the sampler needs beside it, is not installed.
        Exception: Whatever the sampler raises.
    """
    import optuna
    from optuna.distributions import FloatDistribution
    from optuna.trial import create_trial

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    maker = _MAKERS[sampler]
    known = [one for one in past if within.low <= one.factor <= within.high][-maker.most :]
    space = {FACTOR: FloatDistribution(within.low, within.high, log=True)}
    trials = [
        create_trial(params={FACTOR: one.factor}, distributions=dict(space), value=one.gain)
        for one in known
    ]
    made = maker.make(seed, within, trials)
    study = optuna.create_study(direction="maximize", sampler=made)
    study.add_trials(trials)
    if not known:
        study.enqueue_trial({FACTOR: within.rule})
    return float(study.ask(dict(space)).params[FACTOR])


@dataclass(frozen=True, slots=True)
class _Maker:
    """How to make a sampler.

    Attributes:
        make: of a seed, the range, and the trials that the study begins with.
        most: it is shown so many of the newest; its time grows with their number.
    """

    make: "Callable[[int, Range, Sequence[FrozenTrial]], BaseSampler]"
    most: int


_STARTUP = 5  # trials before which Optuna's own samplers draw at random
_WARM = 10  # CMA-ES begins from the best tenth of them


def _quadratic(seed: int, within: Range, trials: "Sequence[FrozenTrial]") -> "BaseSampler":
    from lrpilot_controller.tuning.quadratic import QuadraticSampler

    return QuadraticSampler(within.rule, seed)


def _tpe(seed: int, within: Range, trials: "Sequence[FrozenTrial]") -> "BaseSampler":
    from optuna.samplers import TPESampler

    return TPESampler(seed=seed, n_startup_trials=_STARTUP)


def _cmaes(seed: int, within: Range, trials: "Sequence[FrozenTrial]") -> "BaseSampler":
    from optuna.exceptions import ExperimentalWarning
    from optuna.samplers import CmaEsSampler, RandomSampler

    # What it began from is not kept between questions: it begins from the past, each time.
    warnings.filterwarnings("ignore", ".*source_trials", category=ExperimentalWarning)
    if len(trials) < _WARM:
        return RandomSampler(seed=seed)
    return CmaEsSampler(seed=seed, source_trials=list(trials))


def _gp(seed: int, within: Range, trials: "Sequence[FrozenTrial]") -> "BaseSampler":
    from optuna.samplers import GPSampler

    return GPSampler(seed=seed, n_startup_trials=_STARTUP)


_MAKERS = {
    Sampler.QUADRATIC: _Maker(_quadratic, 500),
    Sampler.TPE: _Maker(_tpe, 500),
    Sampler.CMAES: _Maker(_cmaes, 500),
    Sampler.GP: _Maker(_gp, 100),  # a tenth of a second with a hundred, seconds with a thousand
}
