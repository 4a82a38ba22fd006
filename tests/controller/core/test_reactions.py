"""What follows from a signal, for one run: who may say so, and what the engine makes of it."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrpilot_controller.core.engine import Engine
from lrpilot_controller.core.events import Commanded, Configured, SearchEnded, SessionOpened
from lrpilot_controller.core.findings import SearchEnd
from lrpilot_controller.core.model import Action, DecisionStatus, Mode, SignalKind
from lrpilot_controller.core.settings import CoreSettings, Limits, Reaction, Reactions
from lrpilot_proto.reactions import ALWAYS, REACTIONS
from support.searcher import Searcher
from support.streams import ATTEMPT, Trainer, decisions, descent, explosion, refusals, signals

KINDS = st.sampled_from(SignalKind)


def words_of(kind: SignalKind) -> tuple[str, ...]:
    return *ALWAYS, *REACTIONS[kind]


def trained(attempt_signals: dict[str, str], settings: CoreSettings | None = None) -> Trainer:
    """A healthy run at step 200 that can be rolled back."""
    trainer = Trainer(replace(ATTEMPT, signals=attempt_signals), settings)
    trainer.snapshot(1, proven=True)
    trainer.train(descent(200))
    return trainer


def in_force(trainer: Trainer) -> Reactions:
    assert trainer.engine.view is not None
    return trainer.engine.view.reactions


# -- the words


def test_every_signal_has_a_reaction_that_is_allowed() -> None:
    assert set(REACTIONS) == set(SignalKind)
    for kind in SignalKind:
        assert Reactions().of(kind) in words_of(kind)
    assert {word for kind in SignalKind for word in words_of(kind)} == set(Reaction)


@given(st.dictionaries(KINDS, st.sampled_from(Reaction)))
def test_an_override_changes_what_it_names_or_is_refused(asked: dict[SignalKind, Reaction]) -> None:
    wrong = [kind for kind, word in asked.items() if word not in words_of(kind)]
    if wrong:
        with pytest.raises(ValueError, match=rf"signal ({'|'.join(wrong)})=.* is allowed"):
            Reactions().overridden(asked)
        return
    made = Reactions().overridden(asked)
    for kind in SignalKind:
        assert made.of(kind) is asked.get(kind, Reactions().of(kind))


def test_a_signal_that_does_not_exist_is_named() -> None:
    with pytest.raises(ValueError, match="no signal 'platau'; there are nonfinite, divergence"):
        Reactions().overridden({"platau": "cut"})


# -- who says so


@given(st.data(), KINDS)
def test_the_operators_section_is_above_the_training_code_above_the_file(
    data: st.DataObject, kind: SignalKind
) -> None:
    words = st.none() | st.sampled_from(words_of(kind))
    file, code, section = (data.draw(words) for _ in range(3))

    def said(word: str | None) -> dict[str, str]:
        return {} if word is None else {kind.value: word}

    settings = CoreSettings(
        reactions=Reactions().overridden(said(file)),
        insisted={} if section is None else {kind.value: Reaction(section)},
    )
    trainer = Trainer(replace(ATTEMPT, signals=said(code)), settings)
    expected = section or code or file or Reactions().of(kind)
    assert in_force(trainer).of(kind) == expected


def test_a_word_of_a_newer_trainer_is_left_out() -> None:
    asked = {"plateau": "dance", "mood": "say", "overfit": "stop"}
    assert in_force(Trainer(replace(ATTEMPT, signals=asked))) == Reactions(overfit=Reaction.STOP)


# -- what the engine makes of it


def test_a_signal_that_is_off_is_not_reported() -> None:
    trainer = trained({"divergence": "off", "nonfinite": "off", "spike": "off"})
    assert trainer.train([*explosion(100), math.nan, math.nan]) == []


def test_a_signal_that_is_only_said_is_reported_and_nothing_is_done() -> None:
    found = trained({"divergence": "say"}).train(explosion(100))
    assert SignalKind.DIVERGENCE in [signal.kind for signal in signals(found)]
    assert decisions(found) == []
    assert refusals(found) == []


def test_one_signal_that_is_only_said_hides_no_other() -> None:
    found = trained({"divergence": "say"}).train([*explosion(100), math.nan, math.nan, math.nan])
    assert [decision.action for decision in decisions(found)] == [Action.NOTE, Action.ROLLBACK]


def test_a_run_whose_mode_is_off_says_nothing() -> None:
    trainer = Trainer(replace(ATTEMPT, mode=Mode.OFF))
    trainer.snapshot(1, proven=True)
    assert trainer.train(descent(200) + explosion(100)) == []


# -- settings as an input


def test_a_run_follows_the_settings_that_it_was_told_last() -> None:
    engine = Engine()
    engine.feed(Configured(CoreSettings(reactions=Reactions(divergence=Reaction.SAY))))
    trainer = Trainer(engine=engine)
    trainer.snapshot(1, proven=True)
    trainer.train(descent(200))
    assert decisions(trainer.train(explosion(100))) == []
    # In the middle of an attempt, when its trainer comes back to a daemon that was restarted.
    trainer.feed(Configured(CoreSettings(limits=Limits(max_rollbacks=0))))
    trainer.feed(SessionOpened(ATTEMPT))
    found = trainer.train([math.nan] * 4)
    assert "0 rollbacks were made, the limit" in refusals(found)[-1]


def test_what_was_to_be_answered_later_is_not_where_it_is_only_said_by_then() -> None:
    trainer = trained({})
    trainer.feed(Commanded("freeze", "ann", ""))
    trainer.train([5.0] * 60)  # blows up; nothing is decided while it is frozen
    said = Reactions(divergence=Reaction.SAY)
    trainer.feed(Configured(CoreSettings(reactions=said)))
    trainer.feed(Commanded("release", "ann", ""))
    assert decisions(trainer.train([5.0] * 60)) == []


def test_a_mode_that_was_lowered_holds_for_an_attempt_under_way() -> None:
    trainer = trained({})
    trainer.open(replace(ATTEMPT, mode=Mode.OBSERVE))
    (decision,) = decisions(trainer.train(explosion(100)))
    assert decision.status is DecisionStatus.SHADOW


def test_a_search_ends_where_the_mode_was_lowered() -> None:
    run = Searcher()
    run.follow(run.todo.pop(0))
    found = run.open(replace(run.attempt, mode=Mode.OBSERVE))
    (ended,) = [output for output in found if isinstance(output, SearchEnded)]
    assert ended.result.end is SearchEnd.ABANDONED
    assert "mode is observe" in ended.result.reason


def test_a_trainer_that_comes_back_without_its_search_gets_none() -> None:
    """As it does where no first program came in time: its bounds are a guard's then."""
    run = Searcher(home=False)
    assert run.engine.will_search
    run.open(replace(run.attempt, search=False, max_lr=0.02))
    run.take(proven_now=True)
    assert run.decisions == []
    assert not run.engine.will_search
    reason = run.engine.why_not(Commanded("set_lr", "ann", "", lr=0.05))
    assert reason is not None
    assert "an LR of 0.05 is above max_lr 0.02" in reason
