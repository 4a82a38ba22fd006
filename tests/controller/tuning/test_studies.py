"""A study and its file: what it is called, what it says of itself, its size, and whose it is."""

import os
import sqlite3
import stat
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from lrpilot_controller.core.model import SignalKind
from lrpilot_controller.journal import SqlJournal
from lrpilot_controller.tuning import copying, studies
from lrpilot_controller.tuning.file import TrialsFile
from lrpilot_controller.tuning.places import TrialsUnavailable
from lrpilot_controller.tuning.recorder import reconcile
from support.journaled_runs import Trials, applied
from support.studies import our_studies


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
    real = copying.read_cases

    def fails(journal: Any, key: Any) -> Any:
        if key == run.key:
            raise ValueError("damaged")
        return real(journal, key)

    monkeypatch.setattr(copying, "read_cases", fails)
    reconcile(storage, journal)
    assert [trial.user_attrs["run"] for trial in trials()] == ["demo/other"]
    (warning,) = caplog.records
    assert "demo/exp-1" in warning.getMessage()
    assert "damaged" in warning.getMessage()
