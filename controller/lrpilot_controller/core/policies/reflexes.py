"""What follows from a signal that is no blow-up, where a person wants more than to be told."""

from lrpilot_controller.core.model import Action, Experiment, Proposal, Signal, SignalKind
from lrpilot_controller.core.policies.tuned import first_cut
from lrpilot_controller.core.search.horizon import main_plan
from lrpilot_controller.core.settings import GuardSettings, Reaction
from lrpilot_controller.core.swings import swing_as_before
from lrpilot_controller.core.view import RunView

LOWER_OR_HIGHER = (1 / 3, 1.0, 3.0)
"""Factors that are tried at a plateau: it looks the same at a noise floor and at an LR too low."""

HIGHER = (1.0, 3.0, 10.0)
"""Factors that are tried where the LR seems too low."""


def reflex(view: RunView, signal: Signal, rule: GuardSettings) -> Proposal | Experiment | None:
    """A cut, a decay, a trial or a stop; None where nothing is to be done."""
    match signal.kind, view.reactions.of(signal.kind):
        case SignalKind.OSCILLATION, Reaction.CUT if not swing_as_before(view, signal):
            return _cut(view, signal, rule, _swings(signal))
        case SignalKind.OVERFIT, Reaction.CUT:
            return _cut(view, signal, rule, _overfit(signal))
        case SignalKind.OVERFIT, Reaction.STOP:
            return Proposal(Action.STOP, f"{_overfit(signal)}: stop", signal)
        case SignalKind.PLATEAU, Reaction.PROBE:
            reason = f"plateau since step {signal.since}: try lower and higher LRs"
            return Experiment(reason, signal, LOWER_OR_HIGHER)
        case SignalKind.TOO_LOW, Reaction.PROBE:
            reason = f"a straight, slow descent since step {signal.since}: try higher LRs"
            return Experiment(reason, signal, HIGHER)
        case SignalKind.PLATEAU, Reaction.CUT:
            return _decay(view, signal)
    return None


def _cut(view: RunView, signal: Signal, rule: GuardSettings, seen: str) -> Proposal:
    cut = first_cut(view, signal.kind, rule)
    reason = f"{seen}: cut the LR {cut} from {view.lr:.3g}"
    return Proposal(Action.CUT, reason, signal, cut.factor, rule=cut.rule)


def _decay(view: RunView, signal: Signal) -> Proposal | None:
    """With the deadline in view: constant for a while yet, then to 0. A cut at once gains at once,
    and costs in the end. A user's own schedule, and a plan that decays, have an end already, and so
    has an LR of 0."""
    attempt, end = view.attempt, view.attempt.total_steps
    decays = view.plan is not None and view.plan.end_value != view.plan.segments[0].start_value
    if attempt.scheduled or decays or end is None or end <= view.step or not view.lr > 0:
        return None
    reason = f"plateau since step {signal.since}: LR {view.lr:.3g}, then to 0 at step {end}"
    plan = main_plan(view.lr, view.step, end)
    return Proposal(Action.PLAN, reason, signal, plan=plan)


def _swings(signal: Signal) -> str:
    seen = signal.evidence
    wide, usual = seen.get("dispersion", 0.0), seen.get("usual_dispersion", 0.0)
    return f"oscillation since step {signal.since}: losses within {wide:.3g}, before {usual:.3g}"


def _overfit(signal: Signal) -> str:
    seen = signal.evidence
    now, best = seen.get("validation", 0.0), seen.get("best_validation", 0.0)
    return f"overfitting since step {signal.since}: validation {now:.4g}, best {best:.4g}"
