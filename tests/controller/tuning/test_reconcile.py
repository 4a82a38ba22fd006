"""What the journal says becomes trials, whatever was there before."""

import json
import os
import sqlite3
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from lrpilot_controller.core.events import Resolved
from lrpilot_controller.core.model import Action, DecisionStatus, SignalKind, Verdict
from lrpilot_controller.journal import MemoryJournal, SqlJournal
from lrpilot_controller.tuning import recorder, studies
from lrpilot_controller.tuning import trials as trials_module
from lrpilot_controller.tuning.file import TrialsFile
from lrpilot_controller.tuning.places import TrialsUnavailable
from lrpilot_controller.tuning.recorder import reconcile
from support.studies import our_studies

Trials = Callable[[], list[optuna.trial.FrozenTrial]]


def applied(run: Any, number: int = 1, **decided: Any) -> None:
    run.decide(number, **decided)
    run.receipt(number)


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


def test_studies_are_by_signal_and_optimizer(
    journal: SqlJournal, storage: Path, database: Path, run: Any, studies_of: Any
) -> None:
    for i, (optimizer, kind) in enumerate(
        [("NAdam", "divergence"), ("SGD", "divergence"), ("Lion", "nonfinite")]
    ):
        other = type(run)(journal, f"other-{i}")
        other.open(optimizer=optimizer)
        applied(other, kind=SignalKind(kind))
    reconcile(storage, journal)
    assert list(studies_of(database)) == [
        "demo/interventions/divergence/adam",
        "demo/interventions/divergence/sgd",
        "demo/interventions/nonfinite/other",
    ]


def test_a_study_says_what_it_is(run: Any, journal: SqlJournal, storage: Path) -> None:
    run.decide(1)
    reconcile(storage, journal)
    opened = TrialsFile(storage / "optuna.db").open(5, create=False)
    study, _page = our_studies(optuna.storages.get_storage(opened))
    assert study.direction.name == "MAXIMIZE"
    assert study.metric_names == ["gain"]
    assert study.user_attrs == {
        "project": "demo",
        "signal": "divergence",
        "optimizer": "adam",
        "kind": "interventions",
        "lrpilot": 1,
    }
    opened.remove_session()
    opened.engine.dispose()


def test_a_full_study_is_rolled_over(
    run: Any,
    journal: SqlJournal,
    storage: Path,
    database: Path,
    studies_of: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(studies, "TRIALS_PER_STUDY", 2)
    for number in range(1, 4):
        applied(run, number)
    reconcile(storage, journal)
    applied(run, 4)
    applied(run, 5)
    for number in range(1, 6):
        run.outcome(number)
    reconcile(storage, journal)
    found = studies_of(database)
    base = "demo/interventions/divergence/adam"
    assert {name: len(t) for name, t in found.items()} == {base: 2, f"{base}/2": 2, f"{base}/3": 1}
    ids = [trial.user_attrs["decision_id"] for t in found.values() for trial in t]
    assert ids == [1, 2, 3, 4, 5]


def test_the_range_is_around_the_rule_and_holds_the_factor(
    run: Any, journal: SqlJournal, storage: Path, trials: Trials
) -> None:
    expected = [(1 / 3, 1 / 9, 1.0), (0.1, 0.1, 1.0), (2.5, 1 / 9, 2.5)]
    for number, (factor, *_) in enumerate(expected, 1):
        applied(run, number, factor=factor)
    reconcile(storage, journal)
    for trial, (factor, low, high) in zip(trials(), expected, strict=True):
        range_ = trial.distributions["factor"]
        assert isinstance(range_, optuna.distributions.FloatDistribution)
        assert range_.log
        assert (range_.low, range_.high) == (pytest.approx(low), pytest.approx(high))
        assert trial.params["factor"] == pytest.approx(factor)


def test_a_factor_that_no_range_can_hold_is_left_out(
    run: Any, journal: SqlJournal, storage: Path, trials: Trials
) -> None:
    for number, factor in enumerate([0.0, float("nan"), -1.0], 1):
        applied(run, number, factor=factor)
    reconcile(storage, journal)
    assert [trial.params for trial in trials()] == [{}, {}, {}]


def test_evidence_that_json_cannot_hold_is_text(
    run: Any, journal: SqlJournal, storage: Path, trials: Trials
) -> None:
    run.decide(1, evidence={"loss": float("nan"), "rise": float("inf")})
    reconcile(storage, journal)
    attributes = trials()[0].user_attrs
    assert (attributes["evidence.loss"], attributes["evidence.rise"]) == ("nan", "inf")
    json.dumps(attributes, allow_nan=False)


def test_the_probation_is_the_smoothed_loss_of_the_new_branch(
    run: Any, journal: SqlJournal, storage: Path, trials: Trials
) -> None:
    run.decide(1)
    run.losses(95, [99.0] * 5, branch=0)
    run.receipt(1)
    run.losses(100, [99.0] * 2, branch=0)
    run.losses(102, [2.0] * 30)
    run.losses(132, [float("nan"), *[1.0] * 30])
    run.outcome(1)
    run.losses(170, [99.0] * 5)
    run.decide(2)
    run.receipt(2)
    run.losses(202, [3.0, 3.0, 3.0])
    run.outcome(2)
    reconcile(storage, journal)
    assert trials()[1].intermediate_values == {0: 3.0, 1: 3.0, 2: 3.0}
    curve = trials()[0].intermediate_values
    assert len(curve) == 10
    assert (min(curve), max(curve)) == (0, 60)
    assert curve[0] == 2.0
    assert curve[60] == pytest.approx(1 + 0.9**30)


def test_the_note_is_a_log_entry(
    run: Any, journal: SqlJournal, storage: Path, note: Callable[[int], str]
) -> None:
    run.snapshot(40)
    applied(run, evidence={"rise": 4.5, "a|b": 2.0})
    run.outcome(1, gain=0.4)
    reconcile(storage, journal)
    assert (
        note(0)
        == """\
### Step 100: divergence, rolled back and cut the LR

**Seen.** `divergence` at step 100, which began at step 93, severity 0.8 of 1.

| evidence | value |
| --- | ---: |
| `rise` | 4.5 |
| `a\\|b` | 2 |

**Done.** Applied at step 102, from snapshot 3 (branch 1): LR 0.1 to 0.03333 (x0.333). \
Reason: `the loss rose at step 100`

**What came of it.** The loss got better in 50 steps of probation, gain +0.40. \
The smoothed loss went from 1.25 to 0.75.

**Cost.** 62 steps were undone; training waited 0.01 s.

**Was it right?** `lrpilot verdict demo/exp-1 1 good` (or `bad`) says so, and later runs learn \
from it.

**Look further.** `lrpilot show demo/exp-1` prints the run with all its decisions; \
this is its decision 1.

**[The picture of the run](/dashboard/studies/2)**"""
    )


def test_the_newest_trials_have_notes_and_what_was_never_done_takes_few_of_them(
    run: Any,
    journal: SqlJournal,
    storage: Path,
    note: Callable[[int], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("lrpilot_controller.tuning.shown.NOTES_PER_STUDY", 3)
    monkeypatch.setattr("lrpilot_controller.tuning.shown.SHADOWS_NOTED", 1)
    done = [True, True, False, False, True]
    for number, applied in enumerate(done, 1):
        run.decide(number, status=DecisionStatus.SENT if applied else DecisionStatus.SHADOW)
    reconcile(storage, journal)
    assert [bool(note(number)) for number in range(5)] == [False, True, False, True, True]


@pytest.mark.usefixtures("really_made")
def test_files_are_the_owners_alone(run: Any, journal: SqlJournal, storage: Path) -> None:
    old = os.umask(0o022)
    try:
        run.decide(1)
        reconcile(storage, journal)
    finally:
        os.umask(old)
    modes = {
        name: stat.S_IMODE((storage / name).stat().st_mode)
        for name in ("optuna.db", "artifacts", "optuna.lock")
    }
    assert modes == {"optuna.db": 0o600, "artifacts": 0o700, "optuna.lock": 0o600}


@pytest.mark.usefixtures("really_made")
def test_the_file_is_in_wal_mode(run: Any, journal: SqlJournal, storage: Path) -> None:
    run.decide(1)
    reconcile(storage, journal)
    connection = sqlite3.connect(storage / "optuna.db")
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()


def test_one_process_writes_at_a_time(run: Any, journal: SqlJournal, storage: Path) -> None:
    run.decide(1)
    with (
        TrialsFile(storage / "optuna.db").sole_writer(0),
        pytest.raises(TrialsUnavailable, match="another LRPilot process"),
    ):
        reconcile(storage, journal)
    reconcile(storage, journal)


def test_studies_of_others_in_the_file_are_left_alone(
    run: Any, journal: SqlJournal, storage: Path, database: Path, trials: Trials
) -> None:
    opened = TrialsFile(database).open(5, create=True)
    study = optuna.create_study(storage=opened, study_name="mine")
    study.add_trial(optuna.trial.create_trial(state=TrialState.RUNNING))
    run.decide(1)
    reconcile(storage, journal)
    assert study.get_trials()[0].state is TrialState.RUNNING
    assert len(trials()) == 1
    opened.remove_session()
    opened.engine.dispose()


def test_a_run_that_cannot_be_told_does_not_hide_the_others(
    run: Any,
    journal: SqlJournal,
    storage: Path,
    trials: Trials,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    run.decide(1)
    other = type(run)(journal, "other")
    other.open()
    other.decide(1)
    real = recorder.read_cases

    def fails(journal: Any, key: Any) -> Any:
        if key == run.key:
            raise ValueError("damaged")
        return real(journal, key)

    monkeypatch.setattr(recorder, "read_cases", fails)
    reconcile(storage, journal)
    assert [trial.user_attrs["run"] for trial in trials()] == ["demo/other"]
    (warning,) = caplog.records
    assert "demo/exp-1" in warning.getMessage()
    assert "damaged" in warning.getMessage()
