"""Too high: the loss answered the learning rate by a jump, and stayed where it is no use.

The commonest mistake and the quietest. A normalized optimizer at ten to thirty times its best rate
jumps once, comes back and settles at a bad level; nothing rises any more, so that no rule for
divergence sees it. Two moments give it away, and nothing is known in between.

*The first steps.* The loss jumped above its first value by more than noise does, and has since not
gained what it had jumped; or it rose until it was no number. A warm-up's bump and a net with a
rough start jump too, but learn after that: they are asked for more, the earlier it is.

*A raise.* The rate went up at once to at least twice what the run had been healthy at, and the loss
since then lies above what it was before. A cyclical rate and a restart go where the run has been.
"""

from collections.abc import Sequence
from math import sqrt
from typing import Final

from lrpilot_controller.core.detectors.base import NO_SIGNALS, SlotState
from lrpilot_controller.core.detectors.divergence import LR_CHANGE
from lrpilot_controller.core.detectors.level import LIMIT, MEAN_DIFFERENCE_TO_SD
from lrpilot_controller.core.detectors.windows import ROUNDING, finite, median
from lrpilot_controller.core.model import Signal, SignalKind

BLOCK: Final = 16
"""Reports whose mean is a level."""

EARLY, LAST = 2, 6
"""Blocks after which the first steps are judged: from the first that two levels can be compared at,
for what is plain; and a last time, less strictly, when the run has had time to gain."""

PLAIN, CLEAR = 8.0, 4.0
"""Standard errors of a mean of two reports by which the jump must stand out, early and at last."""

GAINED: Final = 0.7
"""Times the jump that a run must have gained at last to be let off; early, once."""

STILL: Final = 1.0
"""A block that lies more than so many noise sd below the one before is still coming down."""

PAIR: Final = sqrt(2)

DIFFERENCE_TO_SD: Final = 1.0 / 0.954
"""Gaussian: the median size of a difference of neighbours is .954 sd."""

DIFFERENCES: Final = 48
"""Of neighbours, whose median gives the noise of the first steps: half a jumpy start is enough."""

RAISE: Final = 2.0
"""Factor on the highest healthy rate that is a raise worth watching."""

AFTER: Final = 8
"""Reports whose mean is compared with the level before a raise."""

WATCHED: Final = 8
"""Such means that are watched after a raise: what comes later is no answer to it."""

FEWEST: Final = 16
"""Reports before a raise is watched: the level before it must be known."""

OUTLIER: Final = 4.0
"""Noise sd beyond which a report enters the level before a raise at this distance."""

RISEN: Final = 4.0
"""Standard errors of the mean, two times in a row, by which the loss must have risen."""

MEMORY: Final = 1 / 16
"""Weight of a new report in the level and in the noise before a raise."""


class TooHighDetector(SlotState):
    """Raises one signal for the first steps, and one for each raise of the learning rate."""

    name = "too_high"
    __slots__ = ("_first", "_over", "_raised")
    _state = ("first", "raised", "over")

    def __init__(self) -> None:
        self._first = FirstSteps()
        self._raised = Raised()
        self._over = False  # the first steps

    @property
    def raised_from(self) -> float | None:
        """The highest healthy rate, where it was raised far above that just now."""
        return self._raised.raised_from

    def update(
        self, step: int, train_loss: float | None, val_loss: float | None, lr: float | None
    ) -> Sequence[Signal]:
        """Takes one report; see `Detector.update`."""
        moved = lr is not None and lr != self._raised.lr and 0.0 < lr < LIMIT
        if moved and lr is not None and self._raised.see_rate(step, lr) and not self._over:
            self._first = FirstSteps()  # of what this rate does from here on
        if train_loss is None:
            return NO_SIGNALS
        if (loss := finite(train_loss)) is None:
            lost = None if self._over else self._first.lose(step)
            self._over = self._first.over
            return NO_SIGNALS if lost is None else (lost,)
        late = self._raised.add(step, loss)
        early = None if self._over else self._early(step, loss)
        if early is None and late is None:
            return NO_SIGNALS
        return tuple(signal for signal in (early, late) if signal is not None)

    def _early(self, step: int, loss: float) -> Signal | None:
        found = self._first.add(step, loss)
        self._over = self._first.over
        return found


class FirstSteps(SlotState):
    """Judges the first reports of a run."""

    __slots__ = (
        "_before",
        "_count",
        "_differences",
        "_last",
        "_lost",
        "_over",
        "_peak",
        "_since",
        "_start",
        "_sum",
    )
    _state = (
        "over",
        "lost",
        "count",
        "start",
        "last",
        "peak",
        "since",
        "sum",
        "before",
        "differences",
    )

    def __init__(self) -> None:
        self._count = 0
        self._start = 0.0
        self._last = 0.0
        self._peak = 0.0  # highest mean of two neighbours
        self._since = 0  # its step
        self._sum = 0.0  # of this block, relative to the start
        self._before = 0.0  # level of the block before
        self._differences: list[float] = []
        self._lost = False  # the last loss was no number
        self._over = False

    @property
    def over(self) -> bool:
        """Whether it has spoken, or will never have a reason to."""
        return self._over

    def add(self, step: int, loss: float) -> Signal | None:
        """Takes a loss; the signal that it completes."""
        self._lost = False
        count = self._count = self._count + 1
        if count == 1:
            self._start = self._peak = self._last = loss
            self._since = step
            return None
        if (pair := loss / 2 + self._last / 2) > self._peak:
            self._peak, self._since = pair, step
        if len(self._differences) < DIFFERENCES:
            self._differences.append(abs(loss - self._last))
        self._last = loss
        self._sum += loss / BLOCK - self._start / BLOCK
        return self._judge(step) if count % BLOCK == 0 else None

    def lose(self, step: int) -> Signal | None:
        """Takes a loss that is no number; the second in a row after a rise is a signal."""
        certain, self._lost = self._lost, True
        if not certain or self._count < 2 or self._last <= self._start:
            return None
        self._over = True
        return self._signal(step, self._last, 1.0)

    def _judge(self, step: int) -> Signal | None:
        blocks = self._count // BLOCK
        level, self._sum = self._start + self._sum, 0.0
        before, self._before = self._before, level
        if blocks < EARLY:
            return None
        noise = DIFFERENCE_TO_SD * median(self._differences)
        jump, gained = self._peak - self._start, self._start - level
        last = blocks == LAST
        error = max(noise / PAIR, ROUNDING * abs(self._start))
        far = CLEAR if last else PLAIN
        # The first loss alone may be low by luck: by one sd, where the peak is of two.
        fell_back = min(jump, self._peak - level) > far * error
        stands_out = fell_back or -gained > far * PAIR * error
        kept = gained < jump * (GAINED if last else 1.0)
        found = stands_out and kept and before - level <= STILL * noise
        self._over = found or last
        return (
            self._signal(step, level, jump / (jump + max(gained, 0.0) + error)) if found else None
        )

    def _signal(self, step: int, level: float, severity: float) -> Signal:
        evidence = {
            "start": self._start,
            "peak": self._peak,
            "level": level,
            "noise": DIFFERENCE_TO_SD * median(self._differences),
            "reports": float(self._count),
        }
        return Signal(SignalKind.TOO_HIGH, step, self._since, severity, evidence)


class Raised(SlotState):
    """Judges the reports after a raise of the learning rate to where the run has never been."""

    __slots__ = (
        "_blocks",
        "_count",
        "_healthy",
        "_last",
        "_level",
        "_lr",
        "_noise",
        "_reports",
        "_risen",
        "_since",
        "_sum",
        "_watching",
    )
    _state = (
        "count",
        "lr",
        "healthy",
        "last",
        "level",
        "noise",
        "watching",
        "since",
        "reports",
        "sum",
        "blocks",
        "risen",
    )

    def __init__(self) -> None:
        self._count = 0
        self._lr: float | None = None
        self._healthy = 0.0  # highest rate that the run has been healthy at
        self._last = 0.0
        self._level = 0.0  # of the loss, and its noise sd, before the raise
        self._noise = 0.0
        self._watching = False
        self._since = 0  # the step of the raise
        self._reports = 0  # in this block, and their sum relative to the level
        self._sum = 0.0
        self._blocks = 0
        self._risen = 0  # blocks in a row

    @property
    def raised_from(self) -> float | None:
        """The highest healthy rate, while a raise far above it is being judged."""
        lr = self._lr
        return self._healthy if lr is not None and lr >= RAISE * self._healthy > 0.0 else None

    @property
    def lr(self) -> float | None:
        """The learning rate as last reported."""
        return self._lr

    def see_rate(self, step: int, lr: float) -> bool:
        """Takes another learning rate; whether it is a clear cut, at once."""
        last, self._lr = self._lr, lr
        if last is None:
            return False
        if lr >= RAISE * max(last, self._healthy) and self._count >= FEWEST:
            self._watching, self._since = True, step
            self._reports = self._blocks = self._risen = 0
            self._sum = 0.0
        elif self._watching and lr < RAISE * self._healthy:
            self._watching = False
        return lr < (1 - LR_CHANGE) * last

    def add(self, step: int, loss: float) -> Signal | None:
        """Takes a loss; the signal that it completes."""
        if self._watching:
            return self._watch(step, loss)
        lr = self._lr
        if lr is not None and lr > self._healthy:
            self._healthy = lr
        last, self._last = self._last, loss
        count = self._count
        if count < FEWEST:
            self._learn_first(count, last, loss)
            return None
        noise, level = self._noise, self._level
        most = OUTLIER * noise
        difference = MEAN_DIFFERENCE_TO_SD * (loss - last if loss > last else last - loss)
        self._noise = noise + ((difference if difference < most else most) - noise) * MEMORY
        self._level = level + ((loss if loss - level < most else level + most) - level) * MEMORY
        return None

    def _learn_first(self, count: int, last: float, loss: float) -> None:
        """Plain means, until there are enough reports to tell an outlier by."""
        weight = 1.0 / (count + 1)
        if count:
            self._noise += (MEAN_DIFFERENCE_TO_SD * abs(loss - last) - self._noise) * weight
        self._level += (loss - self._level) * weight
        self._count = count + 1

    def _watch(self, step: int, loss: float) -> Signal | None:
        self._reports += 1
        self._sum += loss / AFTER - self._level / AFTER
        if self._reports < AFTER:
            return None
        rise, self._sum, self._reports = self._sum, 0.0, 0
        self._blocks += 1
        error = max(self._noise / sqrt(AFTER), ROUNDING * abs(self._level))
        self._risen = self._risen + 1 if rise > RISEN * error else 0
        found = self._risen == 2
        self._watching = not found and self._blocks < WATCHED
        if not found or self._lr is None:
            return None
        evidence = {
            "level_before": self._level,
            "level": self._level + rise,
            "noise": self._noise,
            "lr": self._lr,
            "healthy_lr": self._healthy,
        }
        severity = rise / (rise + RISEN * error)
        return Signal(SignalKind.TOO_HIGH, step, self._since, severity, evidence)
