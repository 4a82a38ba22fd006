"""Losses that are not numbers any more: one alone is noted, two in a row are a divergence."""

from collections.abc import Sequence
from math import isfinite
from typing import Final

from lrpilot_controller.core.detectors.base import NO_SIGNALS, SlotState
from lrpilot_controller.core.model import Signal, SignalKind

STREAK: Final = 2
"""Reports in a row that make it certain: one NaN is often one bad batch (mixed precision skips the
step), while parameters that have become NaN never give a finite loss again."""

NOTED: Final = 0.3
"""Severity of a single one, and of any in a validation, which may overflow by itself."""


class NonFiniteDetector(SlotState):
    """Notes a NaN or infinite loss, and calls a streak of two a divergence.

    The second non-finite training loss in a row gives `nonfinite` (severity 1) and `divergence` at
    the same step; the rest of the streak gives nothing. Steps without a report do not end a streak,
    a finite loss does. Non-finite validation losses are noted in the same rhythm, but never become
    a divergence: the training loss is the witness for that.
    """

    name = "nonfinite"
    __slots__ = ("_since", "_streak", "_val_since", "_val_streak")
    _state = ("streak", "since", "val_streak", "val_since")

    def __init__(self) -> None:
        self._streak = 0
        self._since = 0
        self._val_streak = 0
        self._val_since = 0

    def update(
        self, step: int, train_loss: float | None, val_loss: float | None, lr: float | None
    ) -> Sequence[Signal]:
        """Takes one report; see `Detector.update`."""
        signals = NO_SIGNALS
        if train_loss is not None:
            if not isfinite(train_loss):
                signals = self._train(step)
            elif self._streak:
                self._streak = 0
        if val_loss is not None:
            if not isfinite(val_loss):
                signals = (*signals, *self._validation(step))
            elif self._val_streak:
                self._val_streak = 0
        return signals

    def _train(self, step: int) -> tuple[Signal, ...]:
        if self._streak >= STREAK:
            return NO_SIGNALS  # known since the second one; also keeps the counter bounded
        self._streak += 1
        if self._streak == 1:
            self._since = step
        evidence = {"count": float(self._streak)}
        if self._streak < STREAK:
            return (Signal(SignalKind.NONFINITE, step, self._since, NOTED, evidence),)
        return (
            Signal(SignalKind.NONFINITE, step, self._since, 1.0, evidence),
            Signal(SignalKind.DIVERGENCE, step, self._since, 1.0, evidence),
        )

    def _validation(self, step: int) -> tuple[Signal, ...]:
        if self._val_streak >= STREAK:
            return NO_SIGNALS
        self._val_streak += 1
        if self._val_streak == 1:
            self._val_since = step
        evidence = {"count": float(self._val_streak), "validation": 1.0}
        return (Signal(SignalKind.NONFINITE, step, self._val_since, NOTED, evidence),)
