"""Messages of a trainer as events, and what is decided as messages."""

import math
from typing import Any

import pytest

from lrpilot_controller.core.events import FellBack, Noticed, ProgramEnded, Requested
from lrpilot_controller.core.model import Action, Decision
from lrpilot_controller.core.plans import Batches, Plan, PlanKind, Program, Segment, Shape, StopRule
from lrpilot_controller.errors import InvalidTelemetry
from lrpilot_controller.server import convert
from lrpilot_proto.v1 import model_pb2, session_pb2
from support.peer import hello

ATTEMPT = convert.attempt_from(hello("exp-1"))
SEGMENTS = (
    Segment(Shape.CONSTANT, 0, 80, 0.03, 0.03),
    Segment(Shape.COSINE, 80, 100, 0.03, 0.0),
    Segment(Shape.CYCLICAL, 100, 200, 0.01, 0.03, 4),
)
PLAN = Plan(PlanKind.REPLACE, SEGMENTS)


def report(**body: Any) -> session_pb2.Report:
    return session_pb2.Report(report_seq=3, **body)


# -- what follows from signals


def test_what_follows_from_signals_is_what_the_training_code_says() -> None:
    attempt = convert.attempt_from(hello("exp-1", signals={"plateau": "cut", "mood": "dance"}))
    assert attempt.signals == {"plateau": "cut", "mood": "dance"}  # the core knows which it knows
    assert ATTEMPT.signals == {}


# -- the plan in force


@pytest.mark.parametrize("kind", PlanKind)
def test_a_plan_comes_back_as_it_was_sent(kind: PlanKind) -> None:
    plan = Plan(kind, SEGMENTS)
    assert convert.plan_from(convert.plan_to(plan)) == plan


def test_a_factor_in_force_is_the_scale_that_it_comes_to_rest_at() -> None:
    plan = Plan(PlanKind.SCALE, (Segment(Shape.LINEAR, 5, 9, 1.0, 0.25),))
    attempt = convert.attempt_from(hello("exp-1", plan=convert.plan_to(plan)))
    assert (attempt.plan, attempt.scale) == (plan, 0.25)


def test_a_plan_that_replaces_the_lr_is_no_factor() -> None:
    plan = Plan(PlanKind.REPLACE, (Segment(Shape.CONSTANT, 0, 9, 0.003, 0.003),))
    attempt = convert.attempt_from(hello("exp-1", plan=convert.plan_to(plan)))
    assert (attempt.plan, attempt.scale) == (plan, 1.0)


def test_without_a_plan_the_native_lr_is_in_force() -> None:
    assert (ATTEMPT.plan, ATTEMPT.scale) == (None, 1.0)


@pytest.mark.parametrize(
    "fields",
    [
        {"shape": 99},
        {"end": 5},
        {"end": 2**60},
        {"start_value": math.nan},
        {"end_value": math.inf},
        {"end_value": -0.1},
        {"shape": model_pb2.SHAPE_EXPONENTIAL, "end_value": 0.0},
    ],
)
def test_a_plan_that_cannot_be_read_is_left_out(fields: dict[str, Any]) -> None:
    good = {"shape": model_pb2.SHAPE_LINEAR, "start": 5, "end": 9, "start_value": 0.5}
    segment = model_pb2.Segment(**(good | {"end_value": 0.25} | fields))
    plan = model_pb2.Plan(kind=model_pb2.PLAN_KIND_SCALE, segments=[segment])
    attempt = convert.attempt_from(hello("exp-1", plan=plan))
    assert (attempt.plan, attempt.scale) == (None, 1.0)


def test_a_plan_of_a_kind_that_only_a_newer_trainer_knows_is_left_out() -> None:
    plan = convert.plan_to(PLAN)
    plan.kind = 9  # type: ignore[assignment]
    assert convert.plan_from(plan) is None
    plan = convert.plan_to(Plan(PlanKind.SCALE, SEGMENTS[::-1]))
    assert convert.plan_from(plan) is None


# -- what a trainer can do


def test_an_attempt_says_what_its_trainer_can_do() -> None:
    can = session_pb2.Capabilities(snapshot=True, program=True, replay=True)
    attempt = convert.attempt_from(hello("exp-1", capabilities=can, search=True))
    assert attempt.can_program
    assert attempt.can_replay
    assert attempt.search
    assert not ATTEMPT.can_program
    assert not ATTEMPT.can_replay


# -- programs


def test_a_program_travels_with_its_decision() -> None:
    program = Program(
        id=7,
        segments=SEGMENTS[:2],
        length=100,
        fallback=Plan.scale(1.0, 0),
        stop=StopRule(loss_cap=9.0, ema_rise=0.5, ema_decay=0.9),
        restore_snapshot=1,
        restore_at_end=True,
        batches=Batches.REPLAYED,
        fallback_snapshot=2,
        phase="ladder",
        lr=0.03,
        share=0.5,
    )
    decision = Decision(7, Action.PROGRAM, "why", 0, 0, program=program, save_snapshot=True)
    message = convert.decision_to(decision)
    assert message.action == model_pb2.ACTION_PROGRAM
    assert message.save_snapshot
    sent = message.program
    assert (sent.id, sent.length, sent.restore_snapshot, sent.fallback_snapshot) == (7, 100, 1, 2)
    assert sent.restore_at_end
    assert sent.batches == model_pb2.BATCHES_REPLAYED
    assert [(s.start, s.end, s.start_value, s.end_value) for s in sent.segments] == [
        (0, 80, 0.03, 0.03),
        (80, 100, 0.03, 0.0),
    ]
    assert sent.stop.non_finite
    assert (sent.stop.loss_cap, sent.stop.ema_rise, sent.stop.ema_decay) == (9.0, 0.5, 0.9)
    assert not sent.stop.HasField("ema_cap")
    assert convert.plan_from(sent.fallback) == Plan.scale(1.0, 0)
    assert (sent.phase, sent.lr, sent.share) == ("ladder", 0.03, 0.5)


def test_a_decision_without_a_program_brings_none() -> None:
    message = convert.decision_to(Decision(1, Action.CUT, "why", 0, 0))
    assert not message.HasField("program")
    assert not message.save_snapshot


def test_a_program_without_a_snapshot_starts_from_the_state_as_it_is() -> None:
    program = Program(2, SEGMENTS[:1], 80, Plan.scale(1.0, 0))
    sent = convert.decision_to(Decision(2, Action.PROGRAM, "why", 0, 0, program=program)).program
    assert not sent.HasField("restore_snapshot")
    assert not sent.HasField("fallback_snapshot")
    assert sent.batches == model_pb2.BATCHES_FRESH


def test_a_programs_result_is_what_each_step_lost() -> None:
    result = session_pb2.ProgramResult(
        id=7,
        first_step=12,
        losses=[2.0, 1.5, math.inf],
        stop_reason="non_finite",
        wait_seconds=0.01,
        branch=3,
    )
    assert convert.report_from(report(program=result), ATTEMPT) == ProgramEnded(
        "a", 3, 7, 12, (2.0, 1.5, math.inf), "non_finite", 3, 0.01
    )


def test_a_fallback_is_told_with_its_reason() -> None:
    taken = session_pb2.FallbackTaken(
        program=7, step=40, branch=2, reason="no word", wait_seconds=0.25
    )
    found = convert.report_from(report(fallback=taken), ATTEMPT)
    assert found == FellBack("a", 3, 7, 40, 2, "no word", 0.25)


@pytest.mark.parametrize("wait", [math.nan, math.inf, -1.0])
def test_a_wait_that_cannot_be_counts_as_none(wait: float) -> None:
    result = session_pb2.ProgramResult(id=7, wait_seconds=wait)
    ended = convert.report_from(report(program=result), ATTEMPT)
    taken = session_pb2.FallbackTaken(program=7, wait_seconds=wait)
    fell_back = convert.report_from(report(fallback=taken), ATTEMPT)
    receipt = model_pb2.Receipt(decision_id=7, wait_seconds=wait)
    answered: Any = convert.report_from(report(receipt=receipt), ATTEMPT)
    assert isinstance(ended, ProgramEnded)
    assert isinstance(fell_back, FellBack)
    assert ended.wait_seconds == fell_back.wait_seconds == answered.receipt.wait_seconds == 0.0


@pytest.mark.parametrize(
    ("body", "part"),
    [
        ({"program": session_pb2.ProgramResult(id=7, first_step=2**60)}, "first_step"),
        (
            {"program": session_pb2.ProgramResult(id=7, losses=[0.0] * 100_001)},
            "losses: there are 100001",
        ),
        ({"fallback": session_pb2.FallbackTaken(program=7, step=2**60)}, "program 7: step"),
        ({"request": session_pb2.Request(kind="finish", step=2**60)}, "step"),
        ({"request": session_pb2.Request(kind="finish", steps=2**60)}, "steps"),
    ],
)
def test_a_count_that_no_run_has_is_refused(body: dict[str, Any], part: str) -> None:
    with pytest.raises(InvalidTelemetry, match=part):
        convert.report_from(report(**body), ATTEMPT)


def test_a_request_of_the_training_code() -> None:
    asked = session_pb2.Request(kind="finish", step=90, steps=10)
    found = convert.report_from(report(request=asked), ATTEMPT)
    assert found == Requested("a", 3, "finish", 90, 10)


def test_a_request_that_only_a_newer_trainer_makes_becomes_a_notice() -> None:
    asked = session_pb2.Request(kind="dance", step=90)
    found = convert.report_from(report(request=asked), ATTEMPT)
    assert isinstance(found, Noticed)
    assert (found.kind, found.step) == ("unknown_request", 90)
    assert "'dance'" in found.text


# -- sizes


@pytest.mark.parametrize(
    ("greeting", "words"),
    [
        (hello("r", groups=[session_pb2.ParamGroup()] * 4097), "hello.groups: there are 4097"),
        (hello("r", signals={f"s{i}": "off" for i in range(65)}), "hello.signals: there are 65"),
        (
            hello("r", plan=model_pb2.Plan(segments=[model_pb2.Segment()] * 1001)),
            "hello.plan.segments: there are 1001, at most 1000",
        ),
        (hello("r", resumes="x" * 201), "hello.resumes is 'xxx"),
        (hello("r", total_steps=2**53 + 1), "hello: total_steps is 9007199254740993"),
        (hello("r", start_step=2**64 - 1), "hello: start_step"),
    ],
)
def test_more_than_a_trainer_has_is_refused(greeting: session_pb2.Hello, words: str) -> None:
    with pytest.raises(InvalidTelemetry) as caught:
        convert.attempt_from(greeting)
    assert words in str(caught.value)
    assert len(str(caught.value)) < 500


def test_a_text_that_is_too_long_is_cut() -> None:
    long = "x" * 500_000
    notice = convert.report_from(report(notice=session_pb2.Notice(kind=long, text=long)), ATTEMPT)
    assert isinstance(notice, Noticed)
    assert (len(notice.kind), len(notice.text)) == (200, 2000)
    assert notice.text.endswith("x…")
    attempt = convert.attempt_from(hello("r", optimizer=long, job=long, client_version=long))
    assert len(attempt.optimizer + attempt.job + attempt.client_version) == 2400
