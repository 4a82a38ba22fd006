"""Too high: the loss answered the learning rate by a jump, and stayed where it is no use.

The commonest mistake and the quietest. A normalized optimizer at ten to thirty times its best rate
jumps once, comes back and settles at a bad level; nothing rises any more, so that no rule for
divergence sees it. Two moments give it away, and nothing is known in between.

*The first steps.* The loss jumped above its first value by more than noise does, and has since not
gained what it had jumped; or it rose until it was no number. A warm-up's bump and a net with a
rough start jump too, but learn after that. A suspicion comes within a hundred reports, with a
severity below one half, and its confirmation at twice the time, with one above.

*A raise.* The rate went up at once to at least twice what the run had been healthy at, and the loss
since then lies above what it was before. A cyclical rate and a restart go where the run has been.
"""

from collections.abc import Sequence
from typing import Final

from lrpilot_controller.core.detectors.base import NO_SIGNALS, SlotState
from lrpilot_controller.core.detectors.first_steps import BLOCK, CONFIRMED, FirstSteps
from lrpilot_controller.core.detectors.level import LIMIT
from lrpilot_controller.core.detectors.raises import Raised
from lrpilot_controller.core.detectors.windows import finite
from lrpilot_controller.core.model import Signal

FIRST: Final = CONFIRMED * BLOCK
"""Reports; a rate that is cut later than this begins no first steps anew. A schedule in short
stairs would do so for ever, and no snapshot be trusted meanwhile."""


class TooHighDetector(SlotState):
    """Raises two signals at most for the first steps, and one for each raise of the rate.

    Args:
        total_steps: The run's length where it is known.
    """

    name = "too_high"
    __slots__ = ("_first", "_over", "_raised", "_reports", "_total_steps")
    _state = ("first", "raised", "reports", "over")

    def __init__(self, total_steps: int | None = None) -> None:
        self._total_steps = total_steps
        self._first = FirstSteps(total_steps)
        self._raised = Raised()
        self._reports = 0  # of the first steps
        self._over = False  # they are

    @property
    def raised_from(self) -> float | None:
        """See `Raised.raised_from`."""
        return self._raised.raised_from

    @property
    def raised_at(self) -> int | None:
        """The step of that raise."""
        return self._raised.since if self.raised_from is not None else None

    @property
    def doubtful(self) -> bool:
        """Whether the run's first steps may yet prove to have been at a rate too high."""
        return self._first.doubtful

    def update(
        self, step: int, train_loss: float | None, val_loss: float | None, lr: float | None
    ) -> Sequence[Signal]:
        """Takes one report; see `Detector.update`."""
        moved = lr is not None and lr != self._raised.lr and 0.0 < lr < LIMIT
        cut = moved and lr is not None and self._raised.see_rate(step, lr)
        if cut and not self._over and self._reports < FIRST:
            self._first = FirstSteps(self._total_steps)  # of what this rate does from here on
        if train_loss is None:
            return NO_SIGNALS
        usual = -LIMIT < train_loss < LIMIT  # nearly always: a call less
        loss = train_loss if usual else finite(train_loss)
        if loss is None:
            lost = None if self._over else self._first.lose(step)
            self._over = self._first.over
            return NO_SIGNALS if lost is None else (lost,)
        late = self._raised.add(step, loss)
        early = None if self._over else self._early(step, loss)
        if early is None and late is None:
            return NO_SIGNALS
        return tuple(signal for signal in (early, late) if signal is not None)

    def _early(self, step: int, loss: float) -> Signal | None:
        self._reports += 1
        found = self._first.add(step, loss)
        self._over = self._first.over
        return found
