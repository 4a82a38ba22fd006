"""Measures what a decision did to the loss."""

import math

from lrpilot_controller.core.detectors.level import LIMIT
from lrpilot_controller.core.model import Decision, Outcome, Verdict
from lrpilot_controller.core.state import Stateful

# A change of the level by less than this share of the range is neither better nor worse.
INDIFFERENCE = 0.02
# Weight of the past in the loss's moving average: about the last ten samples.
DECAY = 0.9


class Probation(Stateful):
    """One decision's trial period: `length` finite samples after it was applied.

    `before` is the smoothed loss that the decision started from (of the restored snapshot, for a
    rollback) and `unit` the range or noise that makes a difference of losses a relative gain;
    either may be unknown so early in a run that no level exists, and is then taken from the first
    samples after the decision.
    """

    decision: Decision
    _length: int
    _before: float | None
    _unit: float | None
    _mean: float | None
    _seen: int

    def __init__(
        self, decision: Decision, length: int, before: float | None, unit: float | None
    ) -> None:
        self.decision = decision
        self._length = length
        self._before = before
        self._unit = unit
        self._mean = None
        self._seen = 0

    def update(self, loss: float) -> Outcome | None:
        """Take one train loss; the outcome once the trial period is over."""
        if not math.isfinite(loss):
            return None
        loss = min(max(loss, -LIMIT), LIMIT)  # or the difference of two might overflow
        self._seen += 1
        if self._before is None:
            self._before = loss
        self._mean = loss if self._mean is None else DECAY * self._mean + (1 - DECAY) * loss
        return self._measure() if self._seen >= self._length else None

    def rolled_back(self) -> Outcome:
        """The run blew up again: the worst outcome."""
        return self._outcome(Verdict.ROLLED_BACK, -1.0)

    def unfinished(self) -> Outcome:
        """The run ended, or another decision came, before anything could be said."""
        return self._outcome(Verdict.UNFINISHED, 0.0)

    def _measure(self) -> Outcome:
        assert self._before is not None
        assert self._mean is not None
        fall = self._before - self._mean
        unit = max(self._unit or 0.0, abs(fall))
        gain = fall / unit if unit > 0 else 0.0
        if abs(gain) < INDIFFERENCE:
            return self._outcome(Verdict.UNCHANGED, gain)
        return self._outcome(Verdict.IMPROVED if gain > 0 else Verdict.WORSE, gain)

    def _outcome(self, verdict: Verdict, gain: float) -> Outcome:
        return Outcome(
            decision_id=self.decision.id,
            verdict=verdict,
            gain=min(max(gain, -1.0), 1.0),
            steps=self._seen,
            loss_before=self._before,
            loss_after=self._mean,
        )
