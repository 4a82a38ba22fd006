"""What follows from signals that are no blow-ups, where a person wants more than to be told."""

from dataclasses import replace

import pytest

from lrpilot_controller.core.model import (
    Action,
    Attempt,
    Experiment,
    ParamGroup,
    Proposal,
    Signal,
    SignalKind,
)
from lrpilot_controller.core.plans import Plan, PlanKind
from lrpilot_controller.core.policies.reflexes import reflex
from lrpilot_controller.core.settings import GuardSettings, Reactions
from lrpilot_controller.core.view import RunView

ATTEMPT = Attempt("t1", (ParamGroup("all", 0.1),), min_lr=1e-5, max_lr=1.0, total_steps=1000)
RULE = GuardSettings(factor=0.25)


def answer(
    kind: str, word: str, attempt: Attempt = ATTEMPT, plan: Plan | None = None, lr: float = 0.1
) -> Proposal | Experiment | None:
    view = RunView(attempt, step=400, lr=lr, plan=plan)
    view.reactions = Reactions().overridden({kind: word})
    return reflex(view, Signal(SignalKind(kind), 400, 300, 0.5, {}), RULE)


@pytest.mark.parametrize(("kind", "word"), [("oscillation", "cut"), ("overfit", "cut")])
def test_a_cut(kind: str, word: str) -> None:
    proposal = answer(kind, word)
    assert isinstance(proposal, Proposal)
    assert (proposal.action, proposal.factor) == (Action.CUT, RULE.factor)
    assert "step 300" in proposal.reason


def test_overfitting_may_end_a_run() -> None:
    proposal = answer("overfit", "stop")
    assert isinstance(proposal, Proposal)
    assert proposal.action is Action.STOP


def test_a_plateau_is_tried_on_both_sides_and_a_rate_too_low_upwards() -> None:
    plateau, too_low = answer("plateau", "probe"), answer("too_low", "probe")
    assert isinstance(plateau, Experiment)
    assert plateau.factors == (1 / 3, 1.0, 3.0)
    assert isinstance(too_low, Experiment)
    assert too_low.factors == (1.0, 3.0, 10.0)


def test_a_plateau_with_the_deadline_in_view_is_led_to_zero_not_cut_at_once() -> None:
    proposal = answer("plateau", "cut")
    assert isinstance(proposal, Proposal)
    assert proposal.plan is not None
    assert proposal.plan.kind is PlanKind.REPLACE
    first, decay = proposal.plan.segments[:2]
    assert (first.start, first.start_value, first.end_value) == (400, 0.1, 0.1)
    assert 400 < decay.start < decay.end == 1000
    assert (decay.start_value, decay.end_value) == (0.1, 0.0)


def test_without_a_deadline_or_with_another_end_in_view_the_rate_stays() -> None:
    assert answer("plateau", "cut", replace(ATTEMPT, total_steps=None)) is None
    assert answer("plateau", "cut", replace(ATTEMPT, scheduled=True)) is None
    decays = answer("plateau", "cut")
    assert isinstance(decays, Proposal)
    assert answer("plateau", "cut", plan=decays.plan) is None
    assert answer("plateau", "cut", plan=Plan.scale(0.3, 100)) is not None
    assert answer("plateau", "cut", lr=0.0) is None  # or 0 would be held for good


@pytest.mark.parametrize("kind", ["oscillation", "plateau", "too_low", "overfit"])
def test_what_is_only_said_has_no_reflex(kind: str) -> None:
    assert answer(kind, "say") is None
