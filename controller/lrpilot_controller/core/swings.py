"""Whether a cut that was made for swings made them smaller; where not, it is taken back."""

import math

from lrpilot_controller.core.detectors.oscillation import dispersion_of
from lrpilot_controller.core.detectors.windows import Windows
from lrpilot_controller.core.model import Action, Decision, Proposal, Signal, SignalKind
from lrpilot_controller.core.plans import Plan
from lrpilot_controller.core.state import Stateful
from lrpilot_controller.core.view import RunView

SMALLER = 0.7
"""Share of the dispersion at the cut. By chance, that of a window varies by a fifth."""


def swing_as_before(view: RunView, signal: Signal) -> bool:
    """Whether swings are what they were at the last cut for them: then the LR is not their cause.

    A loss that swings by itself now and then would else be cut for it until nothing is left.
    """
    now, then = signal.evidence.get("dispersion"), view.swings
    return now is not None and then is not None and SMALLER * then <= now <= then / SMALLER


class SwingCut(Stateful):
    """A cut for an oscillation, and what was in force before it.

    It is judged by the first window of losses that ends with its probation or later, but not by the
    very first one: what swung far comes down before it rests.
    """

    _decision: Decision
    _before: Plan | None
    _windows: Windows
    _settling: int
    _since: float | None  # dispersion of the newest window that may judge it

    def __init__(self, decision: Decision, before: Plan | None, probation: int) -> None:
        self._decision = decision
        self._before = before
        self._windows = Windows()
        self._settling = max(math.ceil(probation / self._windows.size) - 1, 1)
        self._since = None

    @classmethod
    def of(cls, decision: Decision, before: Plan | None, probation: int) -> "SwingCut | None":
        """One for a decision that is such a cut."""
        signal = decision.signal
        swings = signal is not None and signal.kind is SignalKind.OSCILLATION
        if not swings or decision.action is not Action.CUT:
            return None
        return cls(decision, before, probation)

    @property
    def dispersion(self) -> float:
        """That of the losses at the cut."""
        assert self._decision.signal is not None
        return self._decision.signal.evidence.get("dispersion", 0.0)

    def taken_back_by(self, decision: Decision) -> bool:
        """Whether a decision is the one that follows from `judge`."""
        return decision.signal == self._decision.signal and decision.action is not Action.CUT

    def update(self, loss: float) -> bool:
        """Take a train loss; whether it can be judged for the first time now."""
        if (losses := self._windows.add(loss)) is None:
            return False
        if self._settling:
            self._settling -= 1
            return False
        first, self._since = self._since is None, dispersion_of(losses)
        return first

    def judge(self, view: RunView) -> Proposal | None:
        """What to do once it can be judged; None where it helped, or others took over."""
        then, dispersion, signal = self.dispersion, self._since, self._decision.signal
        if dispersion is None or dispersion < SMALLER * then or view.plan != self._decision.plan:
            return None
        reason = (
            f"the cut of decision {self._decision.id} did not help: losses within "
            f"{dispersion:.3g}, at the cut {then:.3g}; back to the LR before it"
        )
        if self._before is None:
            return Proposal(Action.RELEASE, reason, signal)
        return Proposal(Action.PLAN, reason, signal, plan=self._before)
