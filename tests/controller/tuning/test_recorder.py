"""The thread behind the daemon: it follows, it never disturbs, and it catches up."""

import logging
import queue
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from lrpilot_controller.core.events import SessionOpened
from lrpilot_controller.core.model import Action, Attempt, DecisionStatus, ParamGroup
from lrpilot_controller.journal import MemoryJournal, Record, SqlJournal
from lrpilot_controller.tuning.file import TrialsFile
from lrpilot_controller.tuning.recorder import TrialRecorder

Make = Callable[..., TrialRecorder]
Trials = Callable[[], list[optuna.trial.FrozenTrial]]
Until = Callable[[Callable[[], object]], None]


def finish(run: Any, number: int = 1) -> None:
    run.decide(number)
    run.receipt(number)
    run.outcome(number)


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.name.startswith("lrpilot_controller") and record.levelno >= logging.WARNING
    ]


def test_it_follows(
    run: Any, journal: SqlJournal, recording: Make, trials: Trials, until: Until
) -> None:
    recorder = recording()
    run.listener = recorder.record
    recorder.start(journal)
    run.decide(1)
    until(lambda: [t.state for t in trials()] == [TrialState.RUNNING])
    run.receipt(1)
    until(lambda: trials()[0].user_attrs["outcome"] == "on_probation")
    run.outcome(1, gain=0.25)
    until(lambda: trials()[0].state is TrialState.COMPLETE)
    assert trials()[0].value == 0.25


def test_it_catches_up_with_the_past(
    run: Any, journal: SqlJournal, recording: Make, trials: Trials, until: Until
) -> None:
    finish(run)
    recording().start(journal)
    until(lambda: [t.state for t in trials()] == [TrialState.COMPLETE])


def test_what_was_queued_before_close_is_written(
    run: Any, journal: SqlJournal, recording: Make, trials: Trials
) -> None:
    recorder = recording()
    run.listener = recorder.record
    recorder.start(journal)
    finish(run)
    recorder.close(10)
    assert [t.state for t in trials()] == [TrialState.COMPLETE]


def test_a_restart_goes_on_with_a_running_trial(
    run: Any, journal: SqlJournal, recording: Make, trials: Trials, until: Until
) -> None:
    first = recording()
    run.decide(1)
    run.decide(2)
    run.receipt(2, DecisionStatus.APPLIED)
    first.start(journal)
    first.close(10)
    assert [t.state for t in trials()] == [TrialState.RUNNING] * 2
    run.outcome(2)
    second = recording()
    second.start(journal)
    until(lambda: trials()[1].state is TrialState.COMPLETE)
    assert trials()[0].state is TrialState.RUNNING
    second.close(10)
    run.goodbye()
    recording().start(journal)
    until(lambda: trials()[0].state is TrialState.FAIL)
    assert len(trials()) == 2


def test_only_news_is_queued(run: Any, recording: Make) -> None:
    recorder = recording()
    put: list[object] = []
    recorder._queue = type("Queue", (), {"put": lambda _, run: put.append(run)})()  # type: ignore[assignment]
    recorder.record(run.key, run.losses(1, [1.0] * 100))
    recorder.record(run.key, run.decide(1, Action.NOTE))
    recorder.record(run.key, [])
    opened = SessionOpened(Attempt("first", (ParamGroup("all", 0.1),), 1e-5, 0.1))
    recorder.record(run.key, [Record(2, 0.0, opened)])  # nothing can have been decided yet
    assert put == []
    recorder.record(run.key, [Record(3, 0.0, opened)])
    assert put.pop() == run.key
    recorder.record(run.key, run.decide(2))
    assert put == [run.key]


def test_whoever_records_never_waits_for_the_file(
    run: Any, journal: SqlJournal, database: Path, recording: Make, trials: Trials, until: Until
) -> None:
    recorder = recording(lock_timeout_s=3600)
    run.listener = recorder.record
    recorder.start(journal)
    finish(run)
    until(trials)
    other = sqlite3.connect(database, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    for number in range(2, 6):
        run.decide(number)
        recorder.record(run.key, run.losses(100 * number, [1.0] * 100))
    other.execute("ROLLBACK")
    other.close()
    until(lambda: len(trials()) == 5)


def test_without_decisions_optuna_is_not_even_imported(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path\n"
        "from lrpilot_controller.journal import MemoryJournal, RunKey\n"
        "from lrpilot_controller.core.events import SaidGoodbye\n"
        "from lrpilot_controller.tuning.recorder import TrialRecorder\n"
        "journal = MemoryJournal()\n"
        "journal.append([(RunKey('demo', 'a'), 0.0, SaidGoodbye('x', 1, 'finished', 5))])\n"
        f"recorder = TrialRecorder(Path({str(tmp_path)!r}))\n"
        "recorder.start(journal); recorder.close(10)\n"
        "assert 'optuna' not in sys.modules, 'imported'\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    assert list(tmp_path.iterdir()) == []


def test_closing_ends_the_thread(run: Any, journal: SqlJournal, recording: Make) -> None:
    recorder = recording()
    recorder.start(journal)
    recorder.close(10)
    recorder.close(10)
    recorder.record(run.key, run.decide(1))
    assert "lrpilot-trials" not in [thread.name for thread in threading.enumerate()]


def test_closing_without_a_start(recording: Make) -> None:
    recording().close()


def test_closing_does_not_wait_for_a_fault(
    run: Any,
    journal: SqlJournal,
    database: Path,
    recording: Make,
    until: Until,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("lrpilot_controller.tuning.recorder._LONGEST_PAUSE_S", 3600)
    database.write_bytes(b"no database, whatever its name says" * 100)
    finish(run)
    recorder = recording(retry_s=3600)
    recorder.start(journal)
    until(lambda: recorder.faults)
    recorder.close(3600)


def test_a_locked_file_costs_nobody_anything(
    run: Any,
    journal: SqlJournal,
    database: Path,
    recording: Make,
    trials: Trials,
    note: Callable[[int], str],
    until: Until,
    caplog: pytest.LogCaptureFixture,
) -> None:
    recorder = recording()
    run.listener = recorder.record
    recorder.start(journal)
    finish(run)
    until(lambda: trials() and note(0))
    other = sqlite3.connect(database, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    run.decide(2)
    until(lambda: warnings_of(caplog))
    run.receipt(2)
    until(lambda: recorder.faults >= 3)
    assert len(trials()) == 1
    other.execute("ROLLBACK")
    other.close()
    until(lambda: len(trials()) == 2)
    until(lambda: trials()[1].user_attrs["outcome"] == "on_probation")
    (warning,) = warnings_of(caplog)
    assert "locked by another program" in warning
    assert "catches up" in warning


@pytest.mark.parametrize("broken", ["garbage", "directory", "file"])
def test_a_broken_storage_is_told_once_and_caught_up_with(
    broken: str,
    run: Any,
    journal: SqlJournal,
    tmp_path: Path,
    studies_of: Any,
    recording: Make,
    until: Until,
    caplog: pytest.LogCaptureFixture,
) -> None:
    storage = tmp_path / "reviews"
    database = storage / "optuna.db"
    if broken == "file":  # as unwritable as a directory can be for root
        storage.write_text("not a directory")
    else:
        storage.mkdir()
    if broken == "garbage":
        database.write_bytes(b"no database, whatever its name says" * 100)
    elif broken == "directory":
        database.mkdir()
    recorder = recording(storage)
    run.listener = recorder.record
    recorder.start(journal)
    finish(run)
    until(lambda: recorder.faults >= 3)
    (warning,) = warnings_of(caplog)
    assert str(database) in warning
    if broken == "directory":
        database.rmdir()
    else:
        (storage if broken == "file" else database).unlink()
    until(lambda: len([t for found in studies_of(database).values() for t in found]) == 1)
    assert len(warnings_of(caplog)) == 1


@pytest.mark.parametrize("side_files", [False, True])
@pytest.mark.usefixtures("really_made")
def test_a_file_that_is_deleted_meanwhile_is_rebuilt(
    side_files: bool,
    run: Any,
    journal: SqlJournal,
    database: Path,
    recording: Make,
    trials: Trials,
    until: Until,
) -> None:
    recorder = recording()
    run.listener = recorder.record
    recorder.start(journal)
    finish(run)
    until(lambda: [t.state for t in trials()] == [TrialState.COMPLETE])
    database.unlink()
    if side_files:
        for suffix in ("-wal", "-shm"):
            database.with_name(database.name + suffix).unlink(missing_ok=True)
    finish(run, 2)
    until(lambda: [t.state for t in trials()] == [TrialState.COMPLETE] * 2)


def test_a_deleted_file_gets_back_the_run_that_has_all_the_trials_it_may(
    run: Any,
    journal: SqlJournal,
    database: Path,
    recording: Make,
    trials: Trials,
    until: Until,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr("lrpilot_controller.tuning.copying.MAX_TRIALS", 2)
    for number in range(1, 4):
        finish(run, number)
    recorder = recording()
    run.listener = recorder.record
    recorder.start(journal)
    until(lambda: "than its first 2 have no trials" in caplog.text)
    for suffix in ("", "-wal", "-shm"):
        database.with_name(database.name + suffix).unlink(missing_ok=True)
    finish(run, 4)
    until(lambda: "has caught up with the journal" in caplog.text)
    assert [t.state for t in trials()] == [TrialState.COMPLETE] * 2


def test_a_study_that_is_deleted_meanwhile_is_rebuilt(
    run: Any,
    journal: SqlJournal,
    database: Path,
    recording: Make,
    trials: Trials,
    until: Until,
) -> None:
    recorder = recording()
    run.listener = recorder.record
    recorder.start(journal)
    finish(run)
    until(lambda: [t.state for t in trials()] == [TrialState.COMPLETE])

    opened = TrialsFile(database).open(5, create=False)
    optuna.delete_study(study_name="demo/interventions/divergence/adam", storage=opened)
    opened.remove_session()
    opened.engine.dispose()
    finish(run, 2)
    until(lambda: [t.state for t in trials()] == [TrialState.COMPLETE] * 2)


def test_a_missing_optuna_is_told_with_what_to_do(
    run: Any,
    journal: SqlJournal,
    recording: Make,
    until: Until,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    recorder = recording()
    run.listener = recorder.record
    recorder.start(journal)
    finish(run)
    until(lambda: recorder.faults >= 3)
    (warning,) = warnings_of(caplog)
    assert "pip install 'lrpilot[controller]'" in warning


def test_a_missing_dashboard_costs_only_the_notes(
    run: Any,
    journal: SqlJournal,
    recording: Make,
    trials: Trials,
    until: Until,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "optuna_dashboard", None)
        recorder = recording()
        finish(run)
        recorder.start(journal)
        until(lambda: [t.state for t in trials()] == [TrialState.COMPLETE])
        recorder.close(10)


def test_a_journal_that_fails_is_tried_again(
    memory: MemoryJournal,
    run: Any,
    storage: Path,
    recording: Make,
    trials: Trials,
    until: Until,
    caplog: pytest.LogCaptureFixture,
) -> None:
    from lrpilot_controller.errors import JournalUnavailable

    class Flaky(MemoryJournal):
        down = True

        def runs(self) -> Any:
            if self.down:
                raise JournalUnavailable("the disk is away")
            return super().runs()

    journal = Flaky()
    other = type(run)(journal)
    other.open()
    finish(other)
    recording().start(journal)
    until(lambda: warnings_of(caplog))
    assert "the disk is away" in warnings_of(caplog)[0]
    Flaky.down = False
    until(trials)


def test_the_queue_is_one_that_never_blocks(recording: Make) -> None:
    assert isinstance(recording()._queue, queue.SimpleQueue)


def test_a_run_that_decides_without_end_has_so_many_trials(
    run: Any,
    journal: SqlJournal,
    recording: Make,
    trials: Trials,
    until: Until,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr("lrpilot_controller.tuning.copying.MAX_TRIALS", 3)
    for number in range(1, 7):
        finish(run, number)
    recorder = recording()
    run.listener = recorder.record
    recorder.start(journal)
    until(lambda: "than its first 3 have no trials" in caplog.text)
    finish(run, 7)
    recorder.close(10)
    assert len(trials()) == 3
