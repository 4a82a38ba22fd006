"""Detectors: each watches a run's losses for one family of signals; `Detectors` runs them all.

A detector is one file with one class that has the shape of `base.Detector`, and one line in the
entry-point group `lrpilot.detectors`.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from lrpilot_controller.core.detectors.base import Detector
from lrpilot_controller.core.detectors.divergence import DivergenceDetector
from lrpilot_controller.core.detectors.nonfinite import NonFiniteDetector
from lrpilot_controller.core.detectors.oscillation import OscillationDetector
from lrpilot_controller.core.detectors.overfit import OverfitDetector
from lrpilot_controller.core.detectors.spike import SpikeDetector
from lrpilot_controller.core.detectors.too_high import TooHighDetector
from lrpilot_controller.core.detectors.trend import TrendDetector
from lrpilot_controller.core.model import Signal

__all__ = [
    "Detector",
    "Detectors",
    "DivergenceDetector",
    "NonFiniteDetector",
    "OscillationDetector",
    "OverfitDetector",
    "SpikeDetector",
    "TooHighDetector",
    "TrendDetector",
]


class Detectors:
    """All detectors of one run, as one.

    Args:
        total_steps: The run's length where it is known: a short one is judged sooner.
        steps_per_epoch: The epoch's length where it is known: windows then hold whole epochs.
        extra: Detectors of plugins; they see each report after the built-in ones.

    Raises:
        ValueError: Two detectors have the same name.
    """

    def __init__(
        self,
        total_steps: int | None = None,
        steps_per_epoch: int | None = None,
        extra: Iterable[Detector] = (),
    ) -> None:
        self.total_steps = total_steps
        self.steps_per_epoch = steps_per_epoch
        self._divergence = DivergenceDetector()
        self._spike = SpikeDetector()
        self._too_high = TooHighDetector(total_steps)
        self._oscillation = OscillationDetector()
        self._detectors: tuple[Detector, ...] = (
            NonFiniteDetector(),
            self._divergence,
            self._spike,
            self._too_high,
            self._oscillation,
            TrendDetector(steps_per_epoch),
            OverfitDetector(),
            *extra,
        )
        self._updates = tuple(detector.update for detector in self._detectors)
        if len(set(self.names)) < len(self.names):
            raise ValueError(f"detectors must have different names: {', '.join(self.names)}")

    def update(
        self,
        step: int,
        train_loss: float | None = None,
        val_loss: float | None = None,
        lr: float | None = None,
    ) -> list[Signal]:
        """Takes one report; see `Detector.update`."""
        signals: list[Signal] = []
        for update in self._updates:
            found = update(step, train_loss, val_loss, lr)
            if found:
                signals += found
        return signals

    @property
    def level(self) -> float | None:
        """The smoothed current training loss; None until known, as are the next three."""
        return self._divergence.level

    @property
    def best(self) -> float | None:
        """The best smoothed level of the run."""
        return self._divergence.best

    @property
    def start(self) -> float | None:
        """The initial level."""
        return self._divergence.start

    @property
    def noise(self) -> float | None:
        """Standard deviation of one training loss around its trend."""
        return self._divergence.noise

    @property
    def healthy(self) -> bool:
        """Whether the level is within the best one plus .15 of the range (or 1.5 noise sd)."""
        return self._divergence.healthy

    def healthy_at(self, loss: float) -> bool:
        """Whether all is well at this loss. The level does not see one that is no number: it would
        prove a state of NaN."""
        return math.isfinite(loss) and self.healthy

    def worthy(self, loss: float) -> bool:
        """Whether the state is worth going back to: not above the start, nor after a jump that is
        not made good, while the first steps are judged."""
        return self.healthy_at(loss) and not self.doubtful and (self.gained or not self.watching)

    @property
    def unit(self) -> float | None:
        """What makes a difference of losses relative: the range so far, or else the noise."""
        if self.start is None or self.best is None:
            return None
        return max(self.start - self.best, self.noise or 0.0)

    @property
    def watching(self) -> bool:
        """Whether the run's first steps are still being judged: at most 192 reports."""
        return self._divergence.watching

    @property
    def gained(self) -> bool:
        """Whether the run's slow level is not above its start; True until known."""
        return self._divergence.gained

    @property
    def spiking(self) -> bool:
        """Whether a spike is on: no time to judge a learning rate by."""
        return self._spike.on

    @property
    def doubtful(self) -> bool:
        """Whether the run has yet to make good a jump in its first steps: 192 reports at most."""
        return self._too_high.doubtful

    @property
    def raised_from(self) -> float | None:
        """The highest healthy rate, where it was raised far above that within 64 reports, or was
        found too high since and the loss is still up; else None."""
        return self._too_high.raised_from

    @property
    def raised_at(self) -> int | None:
        """The step of that raise."""
        return self._too_high.raised_at

    @property
    def names(self) -> tuple[str, ...]:
        """Of all detectors, in the order in which they see a report."""
        return tuple(detector.name for detector in self._detectors)

    def state_dict(self) -> dict[str, Any]:
        """The states of all detectors by name, as plain JSON values."""
        return {detector.name: detector.state_dict() for detector in self._detectors}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes back to a state that `state_dict` gave.

        Raises:
            ValueError: The state is of another set of detectors.
        """
        if set(state) != set(self.names):
            raise ValueError(f"a state of {sorted(state)}, but these are {sorted(self.names)}")
        for detector in self._detectors:
            detector.load_state_dict(state[detector.name])
