"""Oscillation: the loss swings wider than it did, about a level that does not fall.

The dispersion of a window of reports around its own line, against the middle one of the windows
before. Two things look alike and are not meant. The loss of single batches disperses more by itself
as a net leaves its initial loss: only windows that lie beyond half of what the run has gained are
comparable. And a spike or a divergence lifts a whole window: a swing comes back to where the loss
was.
"""

from collections.abc import Sequence
from typing import Final

from lrpilot_controller.core.detectors.base import NO_SIGNALS, SlotState
from lrpilot_controller.core.detectors.windows import (
    ROUNDING,
    WINDOW,
    Windows,
    line,
    median,
    middle,
)
from lrpilot_controller.core.model import Signal, SignalKind

WIDER: Final = 2.0
"""Times the usual dispersion. Of pure noise, the dispersion of a window varies by a fifth."""

IN_A_ROW: Final = 3
"""Windows that must be wider, one after the other; and calm ones that end an episode."""

REMEMBERED: Final = 16
"""Windows that the usual dispersion is taken from: it moves on with the run."""

FEWEST: Final = 4
"""Comparable windows before anything is said."""

RECENT: Final = 4
"""Windows whose middle is the level that swings come back to."""

LOW, HIGH = int(0.15 * WINDOW), int(0.85 * WINDOW)
"""The quantiles whose distance is the dispersion: about two standard deviations of noise, and blind
to a few outliers on either side."""


def dispersion_of(losses: list[float]) -> float:
    """How widely the losses of a whole window scatter about their own line."""
    straight = sorted(line(losses)[1])
    return straight[HIGH] - straight[LOW]


class OscillationDetector(SlotState):
    """Raises one signal per episode; the next needs as many calm windows in between."""

    name = "oscillation"
    __slots__ = (
        "_dispersions",
        "_levels",
        "_on",
        "_row",
        "_since",
        "_start",
        "_windows",
    )
    _state = ("windows", "dispersions", "levels", "on", "row", "since", "start")

    def __init__(self) -> None:
        self._windows = Windows()
        self._dispersions: list[float] = []  # of the last windows that were no wider than usual
        self._levels: list[float] = []  # and their levels
        self._start: float | None = None  # level of the first window
        self._on = False
        self._row = 0  # wider ones in a row; in an episode, calm ones
        self._since = 0

    def update(
        self, step: int, train_loss: float | None, val_loss: float | None, lr: float | None
    ) -> Sequence[Signal]:
        """Takes one report; see `Detector.update`."""
        if train_loss is None or (losses := self._windows.add(train_loss)) is None:
            return NO_SIGNALS
        return self._judge(step, losses)

    def _judge(self, step: int, losses: list[float]) -> Sequence[Signal]:
        dispersion = dispersion_of(losses)
        losses.sort()
        level, low = middle(losses), losses[LOW]
        if self._start is None:
            self._start = level
        usual = self._usual(level)
        wider = usual is not None and self._swings(dispersion, level, low, usual)
        if self._on:
            # What goes on becomes what is usual; the episode ends with as many calm windows.
            self._row = 0 if wider else self._row + 1
            self._on = self._row < IN_A_ROW
            self._row *= self._on
        elif wider:
            self._since = self._since if self._row else step
            self._row += 1
        else:
            self._row = 0
        if self._on or not wider:
            self._dispersions = [*self._dispersions[1 - REMEMBERED :], dispersion]
            self._levels = [*self._levels[1 - REMEMBERED :], level]
        if self._on or self._row < IN_A_ROW:
            return NO_SIGNALS
        self._on, self._row = True, 0
        assert usual is not None
        return (self._signal(step, dispersion, usual, level),)

    def _usual(self, level: float) -> float | None:
        """The usual dispersion of windows beyond half of the way to `level`; None: too few."""
        if len(self._dispersions) < FEWEST:
            return None
        assert self._start is not None
        half_way = self._start / 2 + level / 2 + median(self._dispersions)
        pairs = zip(self._dispersions, self._levels, strict=True)
        comparable = [dispersion for dispersion, at in pairs if at <= half_way]
        return median(comparable) if len(comparable) >= FEWEST else None

    def _swings(self, dispersion: float, level: float, low: float, usual: float) -> bool:
        """Whether a window is wider than usual, does not fall and comes back to the old level."""
        if dispersion <= max(WIDER * usual, ROUNDING * abs(level)) or usual == 0.0:
            return False
        recent = self._levels[-RECENT:]
        falls = sum(at / len(recent) for at in recent) - level > dispersion
        return not falls and low < median(recent) + usual / 2

    def _signal(self, step: int, dispersion: float, usual: float, level: float) -> Signal:
        evidence = {
            "dispersion": dispersion,
            "usual_dispersion": usual,
            "windows": float(IN_A_ROW),
            "level": level,
        }
        severity = 1.0 - usual / dispersion
        return Signal(SignalKind.OSCILLATION, step, self._since, severity, evidence)
