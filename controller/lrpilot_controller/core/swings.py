"""Whether a cut that was made for swings made them smaller; where not, it is taken back."""

from lrpilot_controller.core.model import Action, Decision, Proposal, Signal, SignalKind
from lrpilot_controller.core.plans import Plan
from lrpilot_controller.core.view import RunView

SMALLER = 0.7
"""Share of the dispersion at the cut. By chance, that of a window varies by a fifth."""


def swing_as_before(view: RunView, signal: Signal) -> bool:
    """Whether swings are what they were at the last cut for them: then the LR is not their cause.

    A loss that swings by itself now and then would else be cut for it until nothing is left.
    """
    now, then = signal.evidence.get("dispersion"), view.swings
    return now is not None and then is not None and SMALLER * then <= now <= then / SMALLER


class SwingCut:
    """A cut for an oscillation, and what was in force before it."""

    def __init__(self, decision: Decision, before: Plan | None) -> None:
        self._decision = decision
        self._before = before

    @classmethod
    def of(cls, decision: Decision, before: Plan | None) -> "SwingCut | None":
        """One for a decision that is such a cut."""
        signal = decision.signal
        swings = signal is not None and signal.kind is SignalKind.OSCILLATION
        return cls(decision, before) if swings and decision.action is Action.CUT else None

    @property
    def dispersion(self) -> float:
        """That of the losses at the cut."""
        assert self._decision.signal is not None
        return self._decision.signal.evidence.get("dispersion", 0.0)

    def taken_back_by(self, decision: Decision) -> bool:
        """Whether a decision is the one that follows from `judge`."""
        return decision.signal == self._decision.signal and decision.action is not Action.CUT

    def judge(self, view: RunView, dispersion: float | None) -> Proposal | None:
        """What to do at the end of its probation; None where it helped, or others took over."""
        then, signal = self.dispersion, self._decision.signal
        if dispersion is None or dispersion < SMALLER * then or view.plan != self._decision.plan:
            return None
        reason = (
            f"the cut of decision {self._decision.id} did not help: losses within "
            f"{dispersion:.3g}, at the cut {then:.3g}; back to the LR before it"
        )
        if self._before is None:
            return Proposal(Action.RELEASE, reason, signal)
        return Proposal(Action.PLAN, reason, signal, plan=self._before)
