"""Where proposals become decisions: numbered without a gap, and one at a time."""

import pytest

from lrpilot_controller.core.desk import Desk
from lrpilot_controller.core.events import Decided, Output
from lrpilot_controller.core.guardrails import Refusal
from lrpilot_controller.core.model import (
    Action,
    Attempt,
    Decision,
    Mode,
    ParamGroup,
    Proposal,
    Signal,
    SignalKind,
)
from lrpilot_controller.core.settings import Limits
from lrpilot_controller.core.view import RunView

SIGNAL = Signal(SignalKind.DIVERGENCE, 500, 490, 0.9)
CUT = Proposal(Action.CUT, "the loss rose", SIGNAL, 0.5)
NOTE = Proposal(Action.NOTE, "noted", SIGNAL)


def view(mode: Mode = Mode.AUTO) -> RunView:
    groups = (ParamGroup("all", 0.1),)
    return RunView(Attempt("t1", groups, 1e-3, 1.0, mode=mode), step=500, lr=0.1)


def test_what_is_sent_waits_for_its_answer_and_nothing_else_is_decided() -> None:
    desk, run, out = Desk(Limits()), view(), list[Output]()
    first = desk.decide(run, CUT, out)
    assert isinstance(first, Decision)
    assert run.in_flight is first
    assert isinstance(desk.decide(run, CUT, out), Refusal)
    assert out == [Decided(first)]
    run.in_flight = None
    second = desk.decide(run, CUT, out)
    assert isinstance(second, Decision)
    assert second.id == first.id + 1  # a refusal has used no number


@pytest.mark.parametrize(("mode", "proposal"), [(Mode.AUTO, NOTE), (Mode.OBSERVE, CUT)])
def test_what_asks_nothing_of_the_trainer_waits_for_no_answer(
    mode: Mode, proposal: Proposal
) -> None:
    run, out = view(mode), list[Output]()
    Desk(Limits()).decide(run, proposal, out)
    assert len(out) == 1
    assert run.in_flight is None


def test_numbers_that_the_journal_holds_are_never_used_again() -> None:
    desk, out = Desk(Limits()), list[Output]()
    desk.skip(41)
    desk.skip(12)
    decision = desk.decide(view(), CUT, out)
    assert isinstance(decision, Decision)
    assert decision.id == 42
