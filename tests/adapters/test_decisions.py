"""The trainer's own check of every decision, and what is remembered of it."""

import logging
from types import SimpleNamespace
from typing import Any

import pytest

from lrpilot.decisions import HISTORY, Judge
from lrpilot.plan import Bounds, PlanError
from lrpilot_proto.v1 import model_pb2

APPLIED = model_pb2.DECISION_STATUS_APPLIED
EXPIRED = model_pb2.DECISION_STATUS_EXPIRED
REJECTED = model_pb2.DECISION_STATUS_REJECTED
STALE = model_pb2.DECISION_STATUS_STALE


def decision(number: int = 1, **fields: Any) -> model_pb2.Decision:
    fields = {"action": model_pb2.ACTION_CUT, "reason": "the loss rose", "step": 90} | fields
    return model_pb2.Decision(id=number, **fields)


def receipt(number: int = 1, **fields: Any) -> model_pb2.Receipt:
    fields = {"status": APPLIED, "applied_step": 100} | fields
    fields = {"lrs_before": [0.1, 0.2], "lrs_after": [0.05, 0.1]} | fields
    return model_pb2.Receipt(decision_id=number, **fields)


def refusal(made: model_pb2.Decision, *, controls: bool = True) -> tuple[Any, str] | None:
    return Judge().refusal(made, 100, 2, controls=controls)


def refused(made: model_pb2.Decision, *, controls: bool = True) -> tuple[Any, str]:
    found = refusal(made, controls=controls)
    assert found is not None
    return found


# -- which are followed


def test_a_decision_for_here_and_now_is_followed() -> None:
    assert refusal(decision(branch=2)) is None
    assert refusal(decision(branch=2, expires_at_step=101)) is None


@pytest.mark.parametrize("branch", [0, 1, 3])
def test_a_decision_for_another_branch_is_stale(branch: int) -> None:
    status, why = refused(decision(branch=branch))
    assert status == STALE
    assert f"branch {branch}" in why
    assert "branch 2" in why


@pytest.mark.parametrize("expiry", [0, 99, 100])
def test_a_decision_is_not_followed_at_its_expiry_or_beyond(expiry: int) -> None:
    status, why = refused(decision(branch=2, expires_at_step=expiry))
    assert status == EXPIRED
    assert f"at step {expiry}" in why
    assert "at 100" in why


def test_one_who_only_observes_follows_nothing_but_notes() -> None:
    for action in model_pb2.Action.values():
        found = refusal(decision(branch=2, action=action), controls=False)
        assert (found is None) is (action == model_pb2.ACTION_NOTE)
    assert refused(decision(branch=2), controls=False)[0] == REJECTED


def test_a_program_is_refused_with_the_reason() -> None:
    status, why = refused(decision(branch=2, program=model_pb2.Program(id=1)))
    assert status == REJECTED
    assert "cannot run programs" in why


# -- their plans


def rates(in_force: float) -> Any:
    """What a plan is entered from, at step 100."""
    return SimpleNamespace(
        step=100, bounds=Bounds(0.01, 1.0), base_lrs=(0.1,), in_force=lambda kind: in_force
    )


def plan_of(made: model_pb2.Decision, in_force: float = 1.0) -> Any:
    return Judge().plan(made, rates(in_force))


def scale(value: float) -> model_pb2.Plan:
    segment = model_pb2.Segment(
        shape=model_pb2.SHAPE_CONSTANT, start=90, end=91, start_value=value, end_value=value
    )
    return model_pb2.Plan(kind=model_pb2.PLAN_KIND_SCALE, segments=[segment])


def test_a_decision_without_a_plan_brings_none() -> None:
    assert plan_of(decision()) is None


def test_a_plan_holds_at_once_within_the_bounds() -> None:
    made = plan_of(decision(plan=scale(0.5)))
    assert made.lr(0, 0.1, 100) == 0.05
    assert plan_of(decision(plan=scale(1e-9))).lr(0, 0.1, 100) == 0.01


def test_a_ramp_starts_where_the_decision_is_applied() -> None:
    made = plan_of(decision(plan=scale(0.5), ramp_steps=10), in_force=0.9)
    assert made.value(100) == pytest.approx(0.9)
    assert made.value(105) == pytest.approx(0.7)
    assert made.value(110) == 0.5


def test_a_plan_that_cannot_be_followed_is_an_error() -> None:
    with pytest.raises(PlanError, match="no segment"):
        plan_of(decision(plan=model_pb2.Plan(kind=model_pb2.PLAN_KIND_SCALE)))


# -- what is remembered


def test_every_answer_is_remembered_in_words() -> None:
    judge = Judge()
    rollback = decision(7, action=model_pb2.ACTION_ROLLBACK)
    judge.answered(rollback, receipt(7))
    judge.answered(decision(8), receipt(8, status=EXPIRED, detail="too late"))
    first, second = judge.history
    assert (first.id, first.action, first.status) == (7, "rollback", "applied")
    assert (first.reason, first.applied_step) == ("the loss rose", 100)
    assert (first.lrs_before, first.lrs_after) == ((0.1, 0.2), (0.05, 0.1))
    assert (second.action, second.status, second.detail) == ("cut", "expired", "too late")
    assert judge.last_id == 8


def test_a_word_that_only_a_newer_daemon_knows_is_its_number() -> None:
    judge = Judge()
    judge.answered(decision(action=99), receipt(status=98))
    assert (judge.history[0].action, judge.history[0].status) == ("99", "98")


def test_the_newest_id_never_goes_back() -> None:
    judge = Judge()
    judge.answered(decision(9), receipt(9))
    judge.answered(decision(3), receipt(3))
    assert judge.last_id == 9


def test_a_daemon_gone_wild_does_not_fill_the_memory() -> None:
    judge = Judge()
    for number in range(1, HISTORY + 101):
        judge.answered(decision(number), receipt(number))
    assert len(judge.history) == HISTORY
    assert (judge.history[0].id, judge.last_id) == (101, HISTORY + 100)


# -- what the user is told


def told(made: model_pb2.Decision, answer: model_pb2.Receipt) -> str:
    judge = Judge()
    judge.answered(made, answer)
    level, text = judge.line(made, answer)
    assert level >= logging.INFO
    assert text.startswith("LRPilot: ")
    assert "\n" not in text
    return text


def test_the_line_says_step_reason_and_lr() -> None:
    text = told(decision(), receipt())
    for part in ("step 100", "the loss rose", "LR 0.05"):
        assert part in text


def test_without_a_change_no_lr_is_told() -> None:
    text = told(decision(action=model_pb2.ACTION_NOTE), receipt(lrs_after=[0.1, 0.2]))
    assert "LR 0" not in text


def test_what_was_not_followed_is_told_with_the_reason() -> None:
    text = told(decision(4), receipt(4, status=STALE, detail="training is on branch 2"))
    assert "decision 4 was not followed (stale): training is on branch 2" in text
