"""The trials in a PostgreSQL database: as in a file, whatever happens to it."""

import contextlib
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from sqlalchemy import URL

from lrpilot_controller.journal import RunKey, SqlJournal
from lrpilot_controller.storage import Storage
from lrpilot_controller.tuning import database as module
from lrpilot_controller.tuning.dashboard import Review
from lrpilot_controller.tuning.forgetting import forget
from lrpilot_controller.tuning.places import TrialsUnavailable, place_of
from lrpilot_controller.tuning.priors import JobPriors
from lrpilot_controller.tuning.recorder import TrialRecorder, reconcile
from support.postgres import SECRET, Postgres

from .test_searches import ATTEMPT, FOUND, Searching

SCHEMA = module.SCHEMA
Make = Callable[..., TrialRecorder]
Until = Callable[[Callable[[], Any]], None]


@pytest.fixture
def stored(postgres_url: URL, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Storage:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return Storage.of(postgres_url)


@pytest.fixture
def states(postgres: Postgres, stored: Storage) -> Callable[[], list[str]]:
    """Of every trial there is, in order."""

    def read() -> list[str]:
        try:
            query = f"SELECT state FROM {SCHEMA}.trials ORDER BY trial_id"
            return [state for (state,) in postgres.admin(query, str(stored.database.database))]
        except psycopg.errors.UndefinedTable:
            return []

    return read


@pytest.fixture
def other(stored: Storage) -> Iterator[Any]:
    """Another client of the database."""
    url = stored.database._replace(password=None).render_as_string()
    with contextlib.closing(psycopg.connect(url)) as connection:
        yield connection


def finish(run: Any, number: int = 1) -> None:
    run.decide(number)
    run.receipt(number)
    run.outcome(number)


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]


def test_each_decision_is_one_trial_whoever_looks_how_often(
    run: Any, journal: SqlJournal, stored: Storage, states: Callable[[], list[str]]
) -> None:
    finish(run)
    for _ in range(2):
        reconcile(stored, journal)
        assert states() == ["COMPLETE"]
    with Review.open(stored) as review:
        assert [link.decision for link in review.links() if link.decision] == [1]


def test_one_process_writes_at_a_time(run: Any, journal: SqlJournal, stored: Storage) -> None:
    finish(run)
    with (
        place_of(stored).sole_writer(0),
        pytest.raises(TrialsUnavailable, match=f"another LRPilot process.*pid {os.getpid()}"),
    ):
        reconcile(stored, journal)
    reconcile(stored, journal)


def test_a_recorder_keeps_the_lock_though_its_connections_break(
    run: Any,
    journal: SqlJournal,
    postgres: Postgres,
    stored: Storage,
    states: Callable[[], list[str]],
    recording: Make,
    until: Until,
) -> None:
    recorder = recording(stored)
    run.listener = recorder.record
    recorder.start(journal)
    finish(run)
    until(lambda: states() == ["COMPLETE"])
    postgres.end_sessions(stored.database)
    finish(run, 2)
    until(lambda: states() == ["COMPLETE"] * 2)
    with pytest.raises(TrialsUnavailable, match="another LRPilot process"):
        reconcile(stored, journal)


def test_a_locked_table_is_told_once_and_caught_up_with(
    run: Any,
    journal: SqlJournal,
    stored: Storage,
    other: Any,
    states: Callable[[], list[str]],
    recording: Make,
    until: Until,
    caplog: pytest.LogCaptureFixture,
) -> None:
    recorder = recording(stored)
    run.listener = recorder.record
    recorder.start(journal)
    finish(run)
    until(lambda: states() == ["COMPLETE"])
    other.execute(f"LOCK TABLE {SCHEMA}.trials IN EXCLUSIVE MODE")
    finish(run, 2)
    until(lambda: recorder.faults >= 2)
    (warning,) = warnings_of(caplog)
    assert "another session holds a lock on it" in warning
    assert SECRET not in caplog.text
    other.rollback()
    until(lambda: states() == ["COMPLETE"] * 2)
    assert len(warnings_of(caplog)) == 1


def test_a_schema_that_is_dropped_meanwhile_is_rebuilt(
    run: Any,
    journal: SqlJournal,
    postgres: Postgres,
    stored: Storage,
    states: Callable[[], list[str]],
    recording: Make,
    until: Until,
) -> None:
    recorder = recording(stored)
    run.listener = recorder.record
    recorder.start(journal)
    finish(run)
    until(lambda: states() == ["COMPLETE"])
    postgres.admin(f"DROP SCHEMA {SCHEMA} CASCADE", str(stored.database.database))
    finish(run, 2)
    until(lambda: states() == ["COMPLETE"] * 2)


def test_a_half_made_schema_is_not_taken_for_one(
    run: Any,
    journal: SqlJournal,
    postgres: Postgres,
    stored: Storage,
    states: Callable[[], list[str]],
) -> None:
    name = str(stored.database.database)
    postgres.admin(f"CREATE SCHEMA {module._NEW}", name)
    postgres.admin(f"CREATE TABLE {module._NEW}.trials (half text)", name)
    finish(run)
    reconcile(stored, journal)
    assert states() == ["COMPLETE"]


def test_trials_of_another_optuna_are_left_alone(
    run: Any, journal: SqlJournal, postgres: Postgres, stored: Storage
) -> None:
    finish(run)
    reconcile(stored, journal)
    name = str(stored.database.database)
    postgres.admin(f"UPDATE {SCHEMA}.alembic_version SET version_num = 'v99.0.0.a'", name)
    with pytest.raises(TrialsUnavailable, match="another version of Optuna"):
        reconcile(stored, journal)


def test_what_earlier_runs_found_is_told_until_it_is_forgotten(
    new_run: Callable[[str], Any], journal: SqlJournal, stored: Storage
) -> None:
    def past(name: str, lr: float) -> None:
        searching = Searching(new_run(name))
        searching.ended(replace(FOUND, lr=lr))
        searching.train([0.5] * 10, {209: 0.5})
        searching.run.goodbye()
        reconcile(stored, journal)

    with contextlib.closing(JobPriors(stored)) as priors:

        def told() -> float | None:
            return priors.ask(RunKey("demo", "new"), replace(ATTEMPT, id="now")).result(10).lr

        assert told() is None
        past("first", 0.03)
        assert told() == 0.03
        assert forget(stored, "demo").runs == 1
        assert told() is None
        reconcile(stored, journal)
        assert told() is None, "it is not written again"
        past("second", 0.1)
        assert told() == 0.1
