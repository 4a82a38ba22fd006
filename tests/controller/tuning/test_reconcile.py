"""What the journal says becomes trials, whatever was there before."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from lrpilot_controller.core.events import Resolved
from lrpilot_controller.core.model import Action, DecisionStatus, Verdict
from lrpilot_controller.journal import MemoryJournal, SqlJournal
from lrpilot_controller.tuning import trials as trials_module
from lrpilot_controller.tuning.file import TrialsFile
from lrpilot_controller.tuning.recorder import reconcile
from support.journaled_runs import Trials, applied
from support.studies import our_studies


def test_an_applied_decision_is_complete_with_its_gain(
    run: Any, journal: SqlJournal, storage: Path, trials: Trials
) -> None:
    run.snapshot(40)
    applied(run)
    run.outcome(1, gain=0.4)
    reconcile(storage, journal)
    (trial,) = trials()
    assert (trial.state, trial.value) == (TrialState.COMPLETE, 0.4)
    assert trial.params == {"factor": pytest.approx(1 / 3)}
    assert trial.user_attrs == {
        "run": "demo/exp-1",
        "attempt": "first",
        "decision_id": 1,
        "action": "rollback",
        "status": "applied",
        "outcome": "improved",
        "reason": "the loss rose at step 100",
        "step": 100,
        "branch": 0,
        "optimizer": "AdamW",
        "signal": "divergence",
        "signal_step": 100,
        "signal_since": 93,
        "severity": 0.8,
        "evidence.rise": 4.5,
        "evidence.level": 1.25,
        "lrs_before": [0.1],
        "lrs_after": [0.1 / 3],
        "wait_seconds": 0.01,
        "applied_step": 102,
        "rolled_back_steps": 62,
        "steps": 50,
        "loss_before": 1.25,
        "loss_after": 0.75,
    }


def test_times_are_those_of_the_decision(
    run: Any, journal: SqlJournal, storage: Path, trials: Trials
) -> None:
    before = time.time()
    applied(run)
    run.outcome(1)
    after = time.time()
    time.sleep(0.02)
    reconcile(storage, journal)
    (trial,) = trials()
    assert trial.datetime_start is not None
    assert trial.datetime_complete is not None
    start, end = trial.datetime_start.timestamp(), trial.datetime_complete.timestamp()
    assert before <= start <= end <= after


def test_a_blow_up_after_it_is_complete_and_negative(
    run: Any, journal: SqlJournal, storage: Path, trials: Trials
) -> None:
    applied(run)
    run.outcome(1, Verdict.ROLLED_BACK, -1.0)
    reconcile(storage, journal)
    (trial,) = trials()
    assert (trial.state, trial.value) == (TrialState.COMPLETE, -1.0)
    assert trial.user_attrs["outcome"] == "rolled_back"


def test_what_was_not_applied_teaches_nothing(
    run: Any, journal: SqlJournal, storage: Path, trials: Trials
) -> None:
    statuses = ["expired", "rejected", "stale", "superseded"]
    for number, status in enumerate(statuses, 1):
        run.decide(number)
        run.receipt(number, DecisionStatus(status), "beyond step 120")
    reconcile(storage, journal)
    for trial, status in zip(trials(), statuses, strict=True):
        assert (trial.state, trial.value) == (TrialState.FAIL, None)
        assert trial.user_attrs["outcome"] == trial.user_attrs["status"] == status
        assert "applied_step" not in trial.user_attrs


def test_an_unfinished_probation_teaches_nothing(
    run: Any, journal: SqlJournal, storage: Path, trials: Trials
) -> None:
    applied(run)
    run.outcome(1, Verdict.UNFINISHED, 0.0)
    reconcile(storage, journal)
    (trial,) = trials()
    assert (trial.state, trial.user_attrs["outcome"]) == (TrialState.FAIL, "unfinished")


def test_a_shadow_is_recorded_but_teaches_nothing(
    run: Any, journal: SqlJournal, storage: Path, trials: Trials, note: Callable[[int], str]
) -> None:
    run.decide(1, status=DecisionStatus.SHADOW)
    reconcile(storage, journal)
    (trial,) = trials()
    assert (trial.state, trial.user_attrs["outcome"]) == (TrialState.FAIL, "shadow")
    assert "would roll back and cut the LR" in note(0)


@pytest.mark.parametrize("status", [DecisionStatus.EXPIRED, DecisionStatus.SUPERSEDED])
def test_what_no_person_approved_teaches_nothing(
    run: Any, journal: SqlJournal, storage: Path, trials: Trials, status: DecisionStatus
) -> None:
    run.decide(1, status=DecisionStatus.PROPOSED)
    reconcile(storage, journal)
    (trial,) = trials()
    assert (trial.state, trial.user_attrs["outcome"]) == (TrialState.RUNNING, "pending")
    run.add(Resolved(1, status))
    reconcile(storage, journal)
    (trial,) = trials()
    assert (trial.state, trial.user_attrs["outcome"]) == (TrialState.FAIL, status)
    assert trial.value is None


def test_what_a_person_approved_is_one_trial_with_its_gain(
    run: Any, journal: SqlJournal, storage: Path, trials: Trials
) -> None:
    run.decide(1, status=DecisionStatus.PROPOSED)
    run.add(Resolved(1, DecisionStatus.APPROVED, "ann"))
    run.decide(1, factor=1 / 4)  # as it was judged then
    reconcile(storage, journal)
    (trial,) = trials()
    assert (trial.state, trial.user_attrs["status"]) == (TrialState.RUNNING, "sent")
    run.receipt(1)
    run.outcome(1)
    reconcile(storage, journal)
    (trial,) = trials()
    assert (trial.state, trial.value) == (TrialState.COMPLETE, 0.4)
    assert trial.params == {"factor": 1 / 4}


def test_a_stop_has_no_gain(
    run: Any, journal: SqlJournal, storage: Path, trials: Trials, note: Callable[[int], str]
) -> None:
    applied(run, action=Action.STOP)
    reconcile(storage, journal)
    (trial,) = trials()
    assert (trial.state, trial.user_attrs["outcome"]) == (TrialState.FAIL, "stopped")
    assert trial.params == {"factor": 1.0}
    assert "stopped the run" in note(0)


def test_a_note_decision_is_no_trial(run: Any, journal: SqlJournal, storage: Path) -> None:
    run.decide(1, Action.NOTE)
    reconcile(storage, journal)
    assert not (storage / "optuna.db").exists()


def test_running_becomes_complete(
    run: Any, journal: SqlJournal, storage: Path, trials: Trials, note: Callable[[int], str]
) -> None:
    run.decide(1)
    reconcile(storage, journal)
    assert "has not answered" in note(0)
    assert trials()[0].user_attrs["outcome"] == "pending"
    run.receipt(1)
    reconcile(storage, journal)
    assert "on probation" in note(0)
    assert trials()[0].user_attrs["outcome"] == "on_probation"
    assert trials()[0].state is TrialState.RUNNING
    run.outcome(1, gain=0.3)
    reconcile(storage, journal)
    (trial,) = trials()
    assert (trial.state, trial.value) == (TrialState.COMPLETE, 0.3)
    assert trial.user_attrs["loss_after"] == 0.75
    assert "got better" in note(0)


@pytest.mark.parametrize(
    ("end", "outcome"),
    [
        (lambda run: run.goodbye(), "unanswered"),
        (lambda run: run.open("second"), "unanswered"),
        (lambda run: run.lose(at=time.time() - 48 * 3600), "unanswered"),
        (lambda run: run.lose(), "pending"),
        (lambda run: (run.lose(), run.open()), "pending"),
    ],
)
def test_a_trial_is_failed_once_nobody_can_answer(
    end: Callable[[Any], object],
    outcome: str,
    run: Any,
    journal: SqlJournal,
    storage: Path,
    trials: Trials,
) -> None:
    run.decide(1)
    reconcile(storage, journal)
    end(run)
    reconcile(storage, journal)
    (trial,) = trials()
    assert trial.user_attrs["outcome"] == outcome
    expected = TrialState.RUNNING if outcome == "pending" else TrialState.FAIL
    assert trial.state is expected


def test_twice_makes_no_second_trial(
    run: Any, journal: SqlJournal, storage: Path, studies_of: Any
) -> None:
    for number in range(1, 4):
        applied(run, number)
    run.outcome(1)
    run.outcome(2, Verdict.WORSE, -0.2)
    reconcile(storage, journal)
    first = studies_of(storage / "optuna.db")
    reconcile(storage, journal)
    assert studies_of(storage / "optuna.db") == first
    assert [len(found) for found in first.values()] == [3]


@pytest.mark.usefixtures("really_made")
def test_a_deleted_file_is_rebuilt_alike(
    run: Any, journal: SqlJournal, storage: Path, database: Path, trials: Trials, note: Any
) -> None:
    applied(run)
    run.outcome(1)
    reconcile(storage, journal)
    before, words = trials(), note(0)
    database.unlink()
    reconcile(storage, journal)
    assert trials() == before
    assert note(0) == words


def test_a_trial_that_the_journal_does_not_hold_is_ended_and_its_number_is_free(
    run: Any, journal: SqlJournal, memory: MemoryJournal, storage: Path, trials: Trials
) -> None:
    run.decide(1)
    reconcile(storage, journal)
    other = type(run)(memory)  # somebody deleted the journal: the same run, the same decision
    other.open("afresh")
    other.decide(1)
    reconcile(storage, memory)
    old, new = trials()
    assert (old.state, old.user_attrs["outcome"]) == (TrialState.FAIL, "unknown")
    assert (new.state, new.user_attrs["attempt"]) == (TrialState.RUNNING, "afresh")


def test_a_trial_that_a_person_ended_is_left_alone(
    run: Any, journal: SqlJournal, storage: Path, database: Path, trials: Trials
) -> None:
    run.decide(1)
    reconcile(storage, journal)
    opened = TrialsFile(database).open(5, create=False)
    study = our_studies(optuna.storages.get_storage(opened))[0]
    study.tell(0, 0.9)
    opened.engine.dispose()
    run.receipt(1)
    run.outcome(1, gain=0.1)
    reconcile(storage, journal)
    assert [trial.value for trial in trials()] == [0.9]


def test_a_note_that_was_cut_off_is_written_again(
    run: Any,
    journal: SqlJournal,
    storage: Path,
    note: Callable[[int], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    applied(run)
    run.outcome(1)
    with monkeypatch.context() as died:
        died.setattr(trials_module.shown, "write", lambda *_: None)
        reconcile(storage, journal)
    assert note(0) == ""
    reconcile(storage, journal)
    assert "Step 100" in note(0)
