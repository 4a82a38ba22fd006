"""A clean slate for a project: nothing of its past counts, and nothing of it comes back."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import lrpilot_controller.cli as command
from lrpilot_controller.errors import LRPilotError, NotFound
from lrpilot_controller.journal import Journal, RunKey, SqlJournal
from lrpilot_controller.storage import Storage
from lrpilot_controller.tuning.advisor import earned
from lrpilot_controller.tuning.reading import TrialReader
from lrpilot_controller.tuning.recorder import TrialRecorder, reconcile
from support.daemon import until

from .conftest import Run

STUDY = "demo/interventions/divergence/adam"
RULE = 1 / 3


@pytest.fixture(params=["files", "postgresql"])
def storage(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Storage:
    if request.param == "files":
        return Storage(tmp_path / "store")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return Storage.of(request.getfixturevalue("postgres_url"))


@pytest.fixture
def journal(storage: Storage) -> Iterator[Journal]:
    opened = SqlJournal.open(storage.journal)
    yield opened
    opened.close()


def named(storage: Storage) -> str:
    """As `--storage` says it."""
    if storage.database is None:
        return str(storage)
    return storage.database.render_as_string(hide_password=False)


def lrpilot(*args: str, says: str | None = None) -> Result:
    return CliRunner().invoke(command.cli, args, input=says)


def forgotten(
    storage: Storage, project: str = "demo", *args: str, says: str | None = None
) -> Result:
    return lrpilot("forget", project, "--storage", named(storage), *args, says=says)


def intervene(run: Run, number: int, factor: float) -> None:
    run.decide(number, factor=factor, rule=RULE)
    run.receipt(number)
    run.outcome(number)


def factors(storage: Storage, study: str = STUDY) -> list[float]:
    """What later runs learn from."""
    reader = TrialReader(storage)
    try:
        return [pytest.approx(past.factor) for past in earned(reader.newest(study), RULE)]
    finally:
        reader.close()


def test_nothing_of_the_past_counts_and_what_comes_after_does(
    storage: Storage, journal: Journal, run: Run
) -> None:
    intervene(run, 1, 0.25)
    reconcile(storage, journal)
    assert factors(storage) == [0.25]
    told = forgotten(storage, "demo", "--yes")
    assert told.exit_code == 0, told.exception
    assert told.output == "forgotten of project demo: 1 intervention and what 0 runs found\n"
    assert factors(storage) == []
    reconcile(storage, journal)
    assert factors(storage) == [], "it is not written again"
    intervene(run, 2, 0.2)
    reconcile(storage, journal)
    assert factors(storage) == [0.2]
    assert "1 intervention " in forgotten(storage, "demo", "--yes").output
    intervene(run, 3, 0.15)
    reconcile(storage, journal)
    assert factors(storage) == [0.15]


def test_what_is_not_written_yet_is_forgotten_as_well(
    storage: Storage, journal: Journal, run: Run
) -> None:
    intervene(run, 1, 0.25)
    assert forgotten(storage, "demo", "--yes").exit_code == 0
    reconcile(storage, journal)
    assert factors(storage) == []


def test_a_daemon_that_runs_goes_on_with_a_clean_slate(
    storage: Storage, journal: Journal, run: Run, recording: Callable[..., TrialRecorder]
) -> None:
    reader = TrialReader(storage)  # open all the while, as a daemon's
    recorder = recording()
    recorder.start(journal)
    run.listener = recorder.record

    def seen() -> list[float]:
        return [past.factor for past in earned(reader.newest(STUDY), RULE)]

    intervene(run, 1, 0.25)
    until(lambda: seen() == [pytest.approx(0.25)])
    assert forgotten(storage, "demo", "--yes").exit_code == 0
    assert seen() == []
    intervene(run, 2, 0.2)
    until(lambda: seen() == [pytest.approx(0.2)])
    reader.close()


def test_the_past_of_other_projects_stays(storage: Storage, journal: Journal, run: Run) -> None:
    other = Run(journal)
    other.key = RunKey("other", "exp")
    other.open()
    for one in (run, other):
        intervene(one, 1, 0.25)
    reconcile(storage, journal)
    assert forgotten(storage, "demo", "--yes").exit_code == 0
    assert factors(storage) == []
    assert factors(storage, STUDY.replace("demo", "other")) == [0.25]


@pytest.mark.parametrize("answer", ["n\n", ""])
def test_it_asks_first(storage: Storage, journal: Journal, run: Run, answer: str) -> None:
    intervene(run, 1, 0.25)
    told = forgotten(storage, says=answer)
    assert told.exit_code == 1
    assert "Forget 1 intervention and what 0 runs found of project demo?" in told.output
    assert factors(storage) == [0.25]
    assert forgotten(storage, says="y\n").exit_code == 0
    assert factors(storage) == []


def test_a_project_without_a_past_is_told_with_those_that_have_one(
    storage: Storage, journal: Journal, run: Run
) -> None:
    error = forgotten(storage, "demo", "--yes").exception
    assert isinstance(error, NotFound)
    intervene(run, 1, 0.25)
    error = forgotten(storage, "dmeo", "--yes").exception
    assert isinstance(error, LRPilotError)
    assert "nothing was learned of project 'dmeo'" in str(error)
    assert str(error).endswith("of these something was: demo")


def test_the_run_keeps_its_story(storage: Storage, journal: Journal, run: Run) -> None:
    intervene(run, 1, 0.25)
    forgotten(storage, "demo", "--yes")
    assert "rollback" in lrpilot("show", "exp-1", "--storage", named(storage)).output
