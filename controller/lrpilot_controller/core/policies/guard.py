"""The guard: what follows from a signal in flight.

One bad batch is noted. A blow-up, and an LR that is too high, restores the newest proven snapshot
and cuts the LR: to what the run was healthy at where it was raised just now, else by a factor.
Where the run then stays healthy for no longer than it did before the cut, the LR is still far too
high and the next cut is larger. Where the budget of rollbacks is spent the run is asked to stop,
because burning the rest of the night on NaN helps nobody.
"""

from lrpilot_controller.core.model import Action, Experiment, Proposal, Signal, SignalKind
from lrpilot_controller.core.policies.reflexes import reflex
from lrpilot_controller.core.policies.tuned import Cut, first_cut
from lrpilot_controller.core.searching import can_search
from lrpilot_controller.core.settings import GuardSettings, Reaction
from lrpilot_controller.core.view import RunView

# Cuts of one attempt for having learnt nothing after a rollback. It had blown up at a few times its
# rate, so one still too high is likely; a run that learns slowly must not be cut for ever.
MAX_IN_VAIN = 2
IN_VAIN = 2
"""Decisions in a row that were written over, after which another one would be as vain. A rollback
costs steps each time, and in the end the run."""
SUSPECTED = 0.5
"""Severity of `too_high` from which on it is more than a suspicion."""
BAD_STATE = (SignalKind.NONFINITE, SignalKind.DIVERGENCE, SignalKind.TOO_HIGH)
"""Signals that the state which training is in may not be worth keeping."""


def is_certain(signal: Signal) -> bool:
    """Whether the state is not worth keeping: more than one bad batch, or a suspicion."""
    least = {SignalKind.NONFINITE: 1.0, SignalKind.TOO_HIGH: SUSPECTED}
    return signal.kind in BAD_STATE and signal.severity >= least.get(signal.kind, 0.0)


class GuardPolicy:
    """Answers every signal, within what `view.reactions` allows."""

    def __init__(self, settings: GuardSettings | None = None) -> None:
        self._settings = settings or GuardSettings()

    def decide(self, view: RunView, signal: Signal) -> Proposal | Experiment | None:
        """What to do; None for nothing."""
        if signal.kind is SignalKind.NONFINITE and signal.severity < 1:
            reason = f"one non-finite loss at step {signal.step}: noted, nothing changed"
            return Proposal(Action.NOTE, reason, signal)
        if signal.kind not in BAD_STATE:
            return reflex(view, signal, self._settings)
        if not is_certain(signal):
            return None  # said; it is yet to be confirmed
        if view.overwritten >= IN_VAIN:
            reason = f"{_seen(signal)}: noted, the training code writes over the LR that is decided"
            return Proposal(Action.NOTE, reason, signal)
        searches = view.reactions.of(signal.kind) is Reaction.SEARCH
        if searches and can_search(view.attempt):  # else the LR is cut, rather than left as it is
            reason = f"{_seen(signal)}: search for the LR"
            return Experiment(reason, signal, snapshot=view.snapshot)
        if "in_vain_since" in signal.evidence and not self._may_try_lower(view):
            return None
        if view.snapshot is not None:
            return self._roll_back(view, signal, view.snapshot)
        return self._without_snapshot(view, signal)

    def _may_try_lower(self, view: RunView) -> bool:
        """Learning nothing is a reason to go lower, a few times, but none to stop a run."""
        spent = view.rollbacks_spent or view.rollbacks >= self._settings.max_rollbacks
        return view.snapshot is not None and not spent and view.in_vain <= MAX_IN_VAIN

    def _roll_back(self, view: RunView, signal: Signal, snapshot: int) -> Proposal:
        rule = self._settings
        spent = view.rollbacks_spent or view.rollbacks >= rule.max_rollbacks
        if spent and signal.kind is SignalKind.TOO_HIGH:
            why = f"the rollbacks are spent, {view.rollbacks} were made"
            return self._cut(view, signal, why)  # it learns badly, but it is alive
        if view.rollbacks_spent:
            reason = (
                f"{_seen(signal)} again, and the budget of rollbacks is spent ({view.rollbacks}, "
                f"which undid {view.rolled_back_steps} steps): stop"
            )
            return Proposal(Action.STOP, reason, signal)
        if view.rollbacks >= rule.max_rollbacks:
            reason = (
                f"{_seen(signal)} again after {view.rollbacks} rollbacks, the most that the "
                f"guard may do (guard.max_rollbacks): stop"
            )
            return Proposal(Action.STOP, reason, signal)
        repeats = view.rollbacks_to.get(snapshot, 0)
        lasted = signal.since - view.began
        cut = self._by(view, signal)
        again = ""
        if repeats:
            again = f", rollback {repeats + 1} to this snapshot; the last lasted {lasted} steps"
        reason = (
            f"{_seen(signal)}: roll back to snapshot {snapshot} and cut the LR "
            f"{cut} from {view.lr:.3g}{again}"
        )
        return Proposal(Action.ROLLBACK, reason, signal, cut.factor, snapshot, rule=cut.rule)

    def _by(self, view: RunView, signal: Signal) -> Cut:
        if (back := _back(view)) is not None:
            return Cut(back)
        helped = view.lasted is None or signal.since - view.began > view.lasted
        if helped or signal.kind is SignalKind.TOO_HIGH:
            return first_cut(view, signal.kind, self._settings)
        return Cut(self._settings.escalated_factor)

    def _without_snapshot(self, view: RunView, signal: Signal) -> Proposal:
        if signal.kind is SignalKind.NONFINITE and view.cuts:
            reason = f"{_seen(signal)} after a cut, and no snapshot to go back to: stop"
            return Proposal(Action.STOP, reason, signal)
        return self._cut(view, signal, "no snapshot to go back to")

    def _cut(self, view: RunView, signal: Signal, why: str) -> Proposal:
        if (back := _back(view)) is not None:
            cut = Cut(back)
        elif signal.kind is SignalKind.TOO_HIGH:
            cut = Cut(self._settings.factor)  # the deeper one is from a state that was healthy
        else:
            cut = first_cut(view, signal.kind, self._settings)
        reason = f"{_seen(signal)}: cut the LR {cut} ({why})"
        return Proposal(Action.CUT, reason, signal, cut.factor, rule=cut.rule)


def _back(view: RunView) -> float | None:
    """The factor back to what the run was healthy at; None where the LR is not above that.

    A schedule may be at 0 just now.
    """
    healthy = view.raised_from
    return healthy / view.lr if healthy is not None and view.lr > healthy else None


def _seen(signal: Signal) -> str:
    """The signal in words and numbers."""
    if signal.kind is SignalKind.NONFINITE:
        return f"non-finite losses since step {signal.since}"
    seen = signal.evidence
    if signal.kind is SignalKind.TOO_HIGH:
        return _seen_too_high(signal)
    level, best = seen.get("level"), seen.get("best")
    since, start = seen.get("in_vain_since"), seen.get("start")
    if since is not None and level is not None and start is not None:
        return f"nothing learnt since step {since:.0f}: loss {level:.4g}, start {start:.4g}"
    if level is None or best is None:
        return f"divergence since step {signal.since}"
    return f"divergence since step {signal.since}: loss {level:.4g}, best {best:.4g}"


def _seen_too_high(signal: Signal) -> str:
    seen = signal.evidence
    if "healthy_lr" in seen:
        return (
            f"LR too high since it was raised from {seen['healthy_lr']:.3g} to {seen['lr']:.3g} at "
            f"step {signal.since}: loss {seen['loss']:.4g}, before {seen['level_before']:.4g}"
        )
    start, peak, level = (seen.get(name, 0.0) for name in ("start", "peak", "level"))
    return f"LR too high: the loss jumped from {start:.4g} to {peak:.4g}, and is {level:.4g}"
