"""What a run asks of earlier interventions, and what their answers may change."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrpilot_controller.core.engine import Engine
from lrpilot_controller.core.events import Answered, Asked, Configured, Output
from lrpilot_controller.core.model import Action, DecisionStatus, Mode, Question, SignalKind
from lrpilot_controller.core.settings import (
    CoreSettings,
    GuardSettings,
    Limits,
    Reaction,
    Reactions,
    TuneSettings,
)
from support.streams import ATTEMPT, Trainer, descent, explosion, outcomes

TUNED = CoreSettings(tune=TuneSettings(factors=True))
RULE = GuardSettings().factor


def asked(outputs: list[Output]) -> list[Question]:
    return [output.question for output in outputs if isinstance(output, Asked)]


def learning(settings: CoreSettings = TUNED, mode: Mode = Mode.AUTO) -> Trainer:
    """A run whose factors are tuned, at its start."""
    return Trainer(replace(ATTEMPT, mode=mode), settings)


def answer(run: Trainer, factor: float | None, kind: SignalKind = SignalKind.DIVERGENCE) -> None:
    """Earlier interventions say this to the newest question about a kind of signal."""
    question = [one for one in asked(run.outputs) if one.kind is kind][-1]
    run.feed(Answered("t1", question.id, factor, "earlier ones"))


def blow_up(run: Trainer, snapshot: int = 1) -> None:
    """Train for a while, with a state to go back to, then diverge."""
    run.snapshot(snapshot, proven=True)
    run.train(descent(200, seed=snapshot))
    run.train(explosion(40))


def test_it_asks_at_its_start_about_each_signal_that_is_answered_with_a_cut() -> None:
    run = learning()
    assert [one.kind for one in asked(run.outputs)] == [
        SignalKind.NONFINITE,
        SignalKind.DIVERGENCE,
        SignalKind.OSCILLATION,
        SignalKind.TOO_HIGH,
    ]
    assert run.engine.questions == asked(run.outputs)


def test_a_reaction_that_cuts_nothing_asks_nothing() -> None:
    said = Reactions(divergence=Reaction.SAY, oscillation=Reaction.SAY, overfit=Reaction.CUT)
    kinds = [one.kind for one in asked(learning(replace(TUNED, reactions=said)).outputs)]
    assert kinds == [SignalKind.NONFINITE, SignalKind.TOO_HIGH, SignalKind.OVERFIT]


@pytest.mark.parametrize("mode", [Mode.OBSERVE, Mode.OFF])
def test_a_run_that_is_not_acted_on_asks_nothing(mode: Mode) -> None:
    assert asked(learning(mode=mode).outputs) == []


def test_factors_that_are_not_tuned_are_not_asked_for() -> None:
    assert asked(Trainer().outputs) == []


@given(
    rule=st.floats(0.01, 0.99),
    span=st.floats(1.01, 10),
    widest=st.floats(1.01, 1000),
)
def test_the_range_is_narrow_holds_the_rule_and_cuts(
    rule: float, span: float, widest: float
) -> None:
    settings = CoreSettings(
        guard=GuardSettings(factor=rule, too_high_factor=rule),
        limits=Limits(max_factor=widest),
        tune=TuneSettings(True, span),
    )
    for question in asked(learning(settings).outputs):
        assert 0 < question.low <= question.rule <= question.high < 1
        assert question.low >= min(rule, 1 / widest)
        assert rule / span * 0.999 <= question.low
        assert question.high <= rule * span * 1.001


def test_what_was_earned_takes_the_place_of_the_rule() -> None:
    run = learning()
    answer(run, 0.5)
    blow_up(run)
    (decision,) = run.decisions
    assert (decision.action, decision.factor, decision.rule) == (Action.ROLLBACK, 0.5, RULE)
    assert "x0.5 (earned, the rule is x0.333)" in decision.reason


def test_it_is_used_once_and_the_next_is_asked_for_at_once() -> None:
    run = learning()
    answer(run, 0.5)
    blow_up(run)
    assert [one.kind for one in run.engine.questions][-1] is SignalKind.DIVERGENCE
    run.apply(run.decisions[-1])
    blow_up(run, snapshot=2)
    assert [decision.factor for decision in run.decisions] == [0.5, RULE]


def test_where_no_answer_came_in_time_the_rule_decides_and_a_late_one_is_ignored() -> None:
    run = learning()
    blow_up(run)
    late = next(one for one in asked(run.outputs) if one.kind is SignalKind.DIVERGENCE)
    run.feed(Answered("t1", late.id, 0.5, "late"))
    run.apply(run.decisions[-1])
    blow_up(run, snapshot=2)
    assert [decision.factor for decision in run.decisions] == [RULE, RULE]


@pytest.mark.parametrize("factor", [None, 0.0, 1e-3, 0.95, 1.0, 30.0, float("nan"), float("inf")])
def test_no_answer_and_one_out_of_range_leave_it_to_the_rule(factor: float | None) -> None:
    run = learning()
    answer(run, factor)
    blow_up(run)
    assert run.decisions[0].factor == RULE
    assert "earned" not in run.decisions[0].reason


def test_the_guardrails_hold_what_was_earned_within_the_bounds_of_the_run() -> None:
    run = Trainer(replace(ATTEMPT, min_lr=0.02), TUNED)
    answer(run, 0.12)
    blow_up(run)
    assert run.decisions[0].factor == pytest.approx(0.2)


def test_a_cut_that_was_in_vain_is_followed_by_the_deeper_one_whatever_was_earned() -> None:
    run = learning()
    answer(run, 0.8)
    blow_up(run)
    run.apply(run.decisions[-1])
    answer(run, 0.8)
    run.train(explosion(40))
    second = run.decisions[1]
    assert (second.factor, second.rule) == (GuardSettings().escalated_factor, None)
    assert outcomes(run.outputs)[0].gain == -1


def test_other_settings_make_what_was_asked_void() -> None:
    run = learning()
    answer(run, 0.5)
    run.feed(Configured(replace(TUNED, tune=TuneSettings(factors=True, span=1.2))))
    run.open(run.attempt)
    blow_up(run)
    assert run.decisions[0].factor == RULE
    assert asked(run.outputs)[-1].low == pytest.approx(RULE / 1.2)


def test_without_answers_everything_is_decided_as_if_nothing_was_tuned() -> None:
    plain, tuned = Trainer(), learning()
    for run in (plain, tuned):
        blow_up(run)
        run.apply(run.decisions[-1])
        run.train(descent(300, seed=1))
        run.train(explosion(40))
    bare = [output for output in tuned.outputs if not isinstance(output, Asked)]
    assert [replace(one, rule=None) for one in tuned.decisions] == plain.decisions
    assert len(bare) == len(plain.outputs)


def test_a_state_holds_what_was_asked_and_answered() -> None:
    run = learning()
    answer(run, 0.5)
    state = run.engine.state()
    assert state is not None
    other = Engine()
    other.restore(state)
    assert other.questions == run.engine.questions
    run.engine = other
    blow_up(run)
    assert run.decisions[0].factor == 0.5


def test_records_that_are_followed_lead_to_the_same_questions_and_answers() -> None:
    run = learning()
    answer(run, 0.5)
    other = Engine(TUNED)
    for event in [*run.inputs[:1], *run.outputs, *run.inputs[1:]]:
        other.recall(event)
    assert list(other.questions) == list(run.engine.questions)
    run.engine = other
    blow_up(run)
    assert run.decisions[0].factor == 0.5


def test_what_is_decided_in_mode_advise_may_be_earned_too() -> None:
    run = learning(mode=Mode.ADVISE)
    answer(run, 0.5)
    blow_up(run)
    assert run.decisions[0].status is DecisionStatus.PROPOSED
    assert run.decisions[0].factor == 0.5
