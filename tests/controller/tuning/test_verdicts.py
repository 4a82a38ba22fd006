"""What a person says of a decision, as the trials and who learns from them have it."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrpilot_controller.core.events import Commanded
from lrpilot_controller.core.model import DecisionStatus, Verdict
from lrpilot_controller.journal import Journal, RunKey
from lrpilot_controller.tuning.cases import Case, read_cases
from lrpilot_controller.tuning.interventions import JUDGED, counted_gain, gain_of
from lrpilot_controller.tuning.recorder import TrialRecorder, reconcile

Counted = Callable[[], dict[int, float | None]]


def judged(number: int, good: bool, why: str = "the loss fell anyway") -> Commanded:
    return Commanded("verdict", "ann", why, decision_id=number, good=good)


@pytest.fixture
def counted(storage: Path, studies_opened: Callable[[Path], list[Any]]) -> Counted:
    """The gain that each trial of the first study counts with."""

    def read() -> dict[int, float | None]:
        study, *_ = studies_opened(storage / "optuna.db")
        return {t.number: gain_of(t, study.user_attrs) for t in study.get_trials()}

    return read


def test_a_bad_verdict_turns_a_measured_success_into_a_failure_and_back(
    run: Any, journal: Journal, storage: Path, counted: Counted, note: Callable[[int], str]
) -> None:
    run.decide(1)
    run.receipt(1)
    run.outcome(1, Verdict.IMPROVED, 0.4)
    reconcile(storage, journal)
    assert counted() == {0: 0.4}
    assert "lrpilot verdict demo/exp-1 1 good" in note(0)
    run.add(judged(1, good=False))
    reconcile(storage, journal)
    assert counted() == {0: -JUDGED}
    assert "**bad**, says `ann`: `the loss fell anyway`" in note(0)
    run.add(judged(1, good=True))
    reconcile(storage, journal)
    assert counted() == {0: JUDGED}
    assert "**good**" in note(0)


def test_a_verdict_teaches_where_nothing_was_measured_but_not_of_what_was_never_done(
    run: Any, journal: Journal, storage: Path, counted: Counted
) -> None:
    run.decide(1)
    run.receipt(1)
    run.decide(2, status=DecisionStatus.SHADOW)
    run.goodbye()
    run.add(judged(1, good=True), judged(2, good=False))
    reconcile(storage, journal)
    assert counted() == {0: JUDGED, 1: None}


def test_a_rebuilt_copy_knows_the_verdicts_and_keeps_what_was_measured(
    run: Any, journal: Journal, storage: Path, counted: Counted, trials: Callable[[], list[Any]]
) -> None:
    run.decide(1)
    run.receipt(1)
    run.outcome(1, Verdict.IMPROVED, 0.4)
    run.add(judged(1, good=False))
    reconcile(storage, journal)
    assert counted() == {0: -JUDGED}
    assert trials()[0].value == 0.4


def test_a_running_daemon_takes_a_verdict_on_an_old_decision(
    run: Any,
    journal: Journal,
    storage: Path,
    recording: Callable[..., TrialRecorder],
    until: Callable[[Callable[[], object]], None],
    counted: Counted,
) -> None:
    run.decide(1)
    run.receipt(1)
    run.outcome(1, Verdict.IMPROVED, 0.4)
    reconcile(storage, journal)
    recorder = recording()
    run.listener = recorder.record
    recorder.start(journal)
    run.add(judged(1, good=False))
    until(lambda: counted() == {0: -JUDGED})


def test_a_verdict_that_comes_while_its_run_is_read_for_the_last_time_is_not_lost(
    new_run: Callable[[str], Any],
    journal: Journal,
    recording: Callable[..., TrialRecorder],
    until: Callable[[Callable[[], object]], None],
    counted: Counted,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr("lrpilot_controller.tuning.copying.MAX_TRIALS", 1)
    run, recorder = new_run("exp-1"), recording()
    run.open()
    for number in (1, 2):
        run.decide(number)
        run.receipt(number)
        run.outcome(number, Verdict.IMPROVED, 0.4)
    run.listener = recorder.record

    def judged_meanwhile(journal: Journal, key: RunKey) -> list[Case]:
        cases = read_cases(journal, key)
        if not any(case.judged for case in cases):
            run.add(judged(1, good=False))
        return cases

    monkeypatch.setattr("lrpilot_controller.tuning.copying.read_cases", judged_meanwhile)
    recorder.start(journal)
    until(lambda: "than its first 1 have no trials" in caplog.text)
    until(lambda: counted() == {0: -JUDGED})


def test_a_long_verdict_is_whole_in_the_note_alone(
    run: Any,
    journal: Journal,
    storage: Path,
    studies_opened: Callable[[Path], list[Any]],
    note: Callable[[int], str],
) -> None:
    run.decide(1)
    run.receipt(1)
    run.outcome(1, Verdict.IMPROVED, 0.4)
    why = "it fell, but " * 70
    run.add(judged(1, good=True, why=why))
    reconcile(storage, journal)
    study, *_ = studies_opened(storage / "optuna.db")
    assert len(study.user_attrs["verdict.0"]) == 80
    assert study.user_attrs["verdict.0"].startswith("good, ann: it fell")
    assert why in note(0)


@given(gain=st.one_of(st.none(), st.floats(-1, 1)))
def test_what_a_person_says_outweighs_what_was_measured(gain: float | None) -> None:
    good, bad = counted_gain(gain, True), counted_gain(gain, False)
    assert good is not None
    assert bad is not None
    assert -1 <= bad <= -JUDGED < JUDGED <= good <= 1
    assert counted_gain(gain, None) == gain
