"""What a story tells of telemetry that the journal no longer holds sample by sample."""

import math

from lrpilot_controller.core.telemetry import Thinned
from lrpilot_controller.story.curve import CurveSample
from lrpilot_controller.story.model import Thinning


class ThinnedFold:
    """How much was thinned so far, and from which step to which."""

    def __init__(self) -> None:
        self._count = 0
        self._first = 0
        self._last = 0

    @property
    def told(self) -> Thinning | None:
        """What was thinned; None where nothing was."""
        return Thinning(self._count, self._first, self._last) if self._count else None

    def take(self, thinned: Thinned) -> None:
        """More that was thinned."""
        steps = thinned.rows.step
        self._first = min(steps) if not self._count else min(self._first, *steps)
        self._last = max(self._last, *steps)
        self._count += thinned.train


def train_rows(thinned: Thinned, attempt: int) -> list[CurveSample]:
    """The train losses that are left, counted from the first place of the stretch."""
    rows = thinned.rows
    lrs = rows.lrs * len(rows.step) if len(rows.lrs) == 1 else rows.lrs
    return [
        CurveSample(
            thinned.seq[i] - thinned.first_seq,
            attempt,
            rows.step[i],
            rows.loss[i],
            next(iter(lrs[i]), math.nan),
            rows.program[i] != 0,
        )
        for i in range(len(rows.step))
        if not rows.validation[i]
    ]
