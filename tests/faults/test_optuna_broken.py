"""Optuna broken on purpose, under a real daemon: the rule decides, and the review catches up.

Locked, gone, full, another's schema, a sampler that raises or hangs: each time a run blows up and
is rescued meanwhile, the log tells of it once, and once it is mended every decision is a trial.
"""

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress

import pytest

from lrpilot_controller.core.events import Answered
from lrpilot_controller.core.model import Action
from support.daemon import cli, until
from support.faults.books import check_run
from support.faults.daemon import FaultyDaemon
from support.faults.disk import fill, small_disk
from support.training import attach, job, rollbacks, train, train_until

PAST, DURING = "before", "during"
TOLD = ("not being copied", "factors are the rule's")

Breaking = Callable[[FaultyDaemon], AbstractContextManager[None]]


@pytest.fixture
def tuning(faulty: FaultyDaemon) -> FaultyDaemon:
    """A daemon that learns factors; not started yet."""
    config = faulty.folder / "lrpilot.toml"
    config.write_text("[tune]\nfactors = true\n[server]\nmin_free_mib = 0\n")
    faulty.more = ["--config", str(config)]
    return faulty


def trials(daemon: FaultyDaemon, run: str) -> int:
    """How many finished trials there are of a run's decisions."""
    query = (
        "SELECT count(DISTINCT trial_id) FROM trials JOIN trial_user_attributes USING (trial_id) "
        "JOIN studies USING (study_id) WHERE study_name LIKE '%/interventions/%' "
        "AND key = 'run' AND value_json = ? AND state <> 'RUNNING'"
    )
    file = f"file:{daemon.storage / 'optuna.db'}?mode=ro"
    with suppress(sqlite3.Error), closing(sqlite3.connect(file, uri=True)) as opened:
        [found] = opened.execute(query, [f'"default/{run}"']).fetchone()
        return int(found)
    return 0


def rescued(daemon: FaultyDaemon, run: str) -> None:
    """A run that blows up and is rolled back, as by any daemon."""
    one = job()
    with attach(one, daemon.address, run) as pilot:
        train_until(one, pilot, lambda: pilot.summary().connected)
        train(one, pilot, range(60), pause_s=0.002)
        one.spoil()
        train_until(one, pilot, lambda: rollbacks(pilot) > 0, pause_s=0.002)
        train(one, pilot, range(120), pause_s=0.002)
        until(lambda: pilot.summary().connected)
    check_run(daemon, run, pilot, one.loss())


def cuts(daemon: FaultyDaemon, run: str) -> list[float]:
    """The factors of its rollbacks."""
    return [d.factor for d in daemon.decisions(run) if d.action is Action.ROLLBACK]


def told(daemon: FaultyDaemon) -> list[str]:
    """What the log says of faults of Optuna."""
    lines = daemon.log.splitlines()
    return [line for line in lines if any(words in line for words in TOLD)]


@contextmanager
def locked(daemon: FaultyDaemon) -> Iterator[None]:
    """Another program writes in the file, and does not come to an end."""
    with closing(sqlite3.connect(daemon.storage / "optuna.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield


@contextmanager
def replaced(daemon: FaultyDaemon) -> Iterator[None]:
    """The file is gone, and what is there is none."""
    path = daemon.storage / "optuna.db"
    for one in daemon.storage.glob("optuna.db*"):
        one.unlink()
    path.mkdir()
    yield
    path.rmdir()


@contextmanager
def of_another_version(daemon: FaultyDaemon) -> Iterator[None]:
    """A newer Optuna has upgraded its tables; then it is put back."""
    path, kept = daemon.storage / "optuna.db", daemon.folder / "kept.db"
    with closing(sqlite3.connect(path)) as file, closing(sqlite3.connect(kept)) as copy:
        file.backup(copy)
    new = daemon.folder / "new.db"
    shutil.copy(kept, new)
    with closing(sqlite3.connect(new)) as file, file:
        file.execute("UPDATE alembic_version SET version_num = 'v99.0.0.a'")
    for one in daemon.storage.glob("optuna.db-*"):
        one.unlink()
    new.replace(path)
    yield
    for one in daemon.storage.glob("optuna.db-*"):
        one.unlink()
    kept.replace(path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("breaking", "words"),
    [
        (locked, "is locked by another program"),
        (replaced, "cannot be used"),
        (of_another_version, "was written by another version of Optuna (its tables are v99.0.0.a"),
    ],
)
def test_trials_that_cannot_be_written(
    tuning: FaultyDaemon, breaking: Breaking, words: str
) -> None:
    tuning.start()
    rescued(tuning, PAST)
    until(lambda: trials(tuning, PAST) >= 1, what="the first trial")
    assert told(tuning) == []
    with breaking(tuning):
        rescued(tuning, DURING)
        until(lambda: "not being copied" in tuning.log, what="the fault in the log")
        assert words in tuning.log
        assert "!! reviews" in cli("doctor", "--storage", tuning.storage).stdout
    until(lambda: trials(tuning, DURING) == len(cuts(tuning, DURING)), what="the review")
    assert trials(tuning, PAST) == len(cuts(tuning, PAST))
    for words in TOLD:
        assert tuning.log.count(words) <= 1, "each part tells once"
    until(lambda: "has caught up with the journal" in tuning.log, what="that it says so")
    assert "Traceback" not in tuning.log


@pytest.mark.slow
def test_a_disk_that_is_full(tuning: FaultyDaemon) -> None:
    tuning.start()
    rescued(tuning, PAST)
    until(lambda: trials(tuning, PAST) >= 1)
    tuning.terminate()
    with small_disk(tuning.folder / "disk", kib=2048) as disk:
        # Only the trials: the journal's own disk is in order.
        file = tuning.storage / "optuna.db"
        shutil.move(file, disk / "optuna.db")
        file.symlink_to(disk / "optuna.db")
        tuning.start()
        fill(disk / "ballast")
        rescued(tuning, DURING)
        until(lambda: "not being copied" in tuning.log, what="the fault in the log")
        assert "and the disk" in told(tuning)[0], "where to look"
        (disk / "ballast").unlink()
        until(lambda: trials(tuning, DURING) == len(cuts(tuning, DURING)), what="the review")
        assert tuning.log.count("not being copied") == 1
        tuning.kill()


@pytest.mark.slow
@pytest.mark.parametrize("how", ["raises", "hangs"])
def test_a_sampler_that_fails_leaves_it_to_the_rule(tuning: FaultyDaemon, how: str) -> None:
    tuning.start()
    rescued(tuning, PAST)
    until(lambda: trials(tuning, PAST) >= 1)
    tuning.suffer(sampler=how)
    rescued(tuning, DURING)
    assert cuts(tuning, DURING)[0] == pytest.approx(1 / 3), "the rule's"
    answers = [record.event for record in tuning.records(DURING, Answered)]
    assert all(isinstance(event, Answered) and event.factor is None for event in answers)
    assert len(told(tuning)) == (how == "raises")
    until(lambda: trials(tuning, DURING) == len(cuts(tuning, DURING)), what="the review")
    tuning.suffer()
    rescued(tuning, "after")
    assert [e.event for e in tuning.records("after", Answered) if e.event.factor is not None]
    assert "Traceback" not in tuning.log
