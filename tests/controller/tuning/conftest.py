"""A journal with its runs, and trials as a reviewer finds them."""

import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import optuna
import pytest
from sqlalchemy import QueuePool

from lrpilot_controller.journal import Journal, MemoryJournal, SqlJournal
from lrpilot_controller.tuning import file
from lrpilot_controller.tuning.file import TrialsFile
from lrpilot_controller.tuning.recorder import TrialRecorder, reconcile
from support.journaled_runs import Run, Searching, StudiesOf, Trial
from support.studies import our_studies


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    # What a URL or str.format would trip over.
    return tmp_path / "a {b}? #%20"


@pytest.fixture
def database(storage: Path) -> Path:
    return storage / "optuna.db"


@pytest.fixture
def journal(storage: Path) -> Iterator[Journal]:
    opened = SqlJournal.open(storage / "journal.db")
    yield opened
    opened.close()


@pytest.fixture
def run(journal: Journal) -> Run:
    made = Run(journal)
    made.open()
    return made


@pytest.fixture
def new_run(journal: Journal) -> Callable[[str], Run]:
    """A run of this name, without an attempt yet."""
    return lambda name: Run(journal, name)


@pytest.fixture
def recording(storage: Path) -> Iterator[Callable[..., TrialRecorder]]:
    """Makes recorders that give up and try again sooner than a daemon's."""
    made = []

    def make(directory: Path = storage, **timing: float) -> TrialRecorder:
        made.append(TrialRecorder(directory, **{"lock_timeout_s": 0.1, "retry_s": 0.1} | timing))
        return made[-1]

    yield make
    for recorder in made:
        recorder.close(10)


@pytest.fixture
def memory() -> MemoryJournal:
    return MemoryJournal()


@pytest.fixture(scope="session")
def empty_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of trials without any: making one takes Optuna longer than all else."""
    path = tmp_path_factory.mktemp("empty") / "optuna.db"
    TrialsFile(path).open(5, create=True).engine.dispose()
    return path


@pytest.fixture
def really_made() -> None:
    """For tests of how the file is made."""


@pytest.fixture(autouse=True)
def _made_by_copying(
    request: pytest.FixtureRequest, empty_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "really_made" not in request.fixturenames:
        monkeypatch.setattr(file, "_create", lambda path, _: shutil.copy(empty_file, path))


@contextmanager
def _opened(database: Path) -> Iterator[Any]:
    storage = optuna.storages.RDBStorage(
        "sqlite://",
        engine_kwargs={
            "creator": lambda: sqlite3.connect(database, timeout=5, check_same_thread=False),
            "poolclass": QueuePool,
        },
        skip_compatibility_check=True,
        skip_table_creation=True,
    )
    try:
        yield optuna.storages.get_storage(storage)
    finally:
        storage.remove_session()
        storage.engine.dispose()


@pytest.fixture
def studies_opened() -> Iterator[Callable[[Path], list[optuna.Study]]]:
    """The studies in a file."""
    with ExitStack() as opened:
        yield lambda database: our_studies(opened.enter_context(_opened(database)))


@pytest.fixture
def studies_of() -> Iterator[Callable[[Path], dict[str, list[optuna.trial.FrozenTrial]]]]:
    """The trials in a file by the name of their study; a run's page has none of its own."""
    with ExitStack() as opened:
        storages: dict[tuple[Path, int], Any] = {}

        def read(database: Path) -> dict[str, list[optuna.trial.FrozenTrial]]:
            if not database.is_file():
                return {}
            file = (database, database.stat().st_ino)
            if file not in storages:
                storages[file] = opened.enter_context(_opened(database))
            found = {s.study_name: s.get_trials() for s in our_studies(storages[file])}
            return {name: trials for name, trials in found.items() if trials}

        yield read


@pytest.fixture
def trials(
    database: Path, studies_of: Callable[[Path], dict[str, list[optuna.trial.FrozenTrial]]]
) -> Callable[[], list[optuna.trial.FrozenTrial]]:
    """Every trial of a decision in the storage."""

    def read() -> list[optuna.trial.FrozenTrial]:
        found = studies_of(database)
        return [trial for name in found if "/interventions/" in name for trial in found[name]]

    return read


@pytest.fixture
def note(database: Path) -> Callable[[int], str]:
    """The note of a trial of the first study."""

    def read(number: int) -> str:
        from optuna_dashboard import get_note

        with _opened(database) as storage:
            study = our_studies(storage)[0]
            trial = optuna.trial.Trial(study, study.get_trials()[number]._trial_id)
            return str(get_note(trial))

    return read


@pytest.fixture
def until() -> Callable[[Callable[[], object]], None]:
    """Waits for something to come true."""

    def wait(true: Callable[[], object]) -> None:
        deadline = time.monotonic() + 60
        while not true():
            assert time.monotonic() < deadline, "it did not happen within 60 s"
            time.sleep(0.05)

    return wait


@pytest.fixture
def told(
    storage: Path, journal: SqlJournal, database: Path, studies_of: StudiesOf
) -> Callable[[str], list[Trial]]:
    """The trials of one study, once everything is written."""

    def read(study: str) -> list[Trial]:
        reconcile(storage, journal)
        return studies_of(database).get(study, [])

    return read


@pytest.fixture
def searching(new_run: Callable[[str], Any]) -> Searching:
    return Searching(new_run("exp-1"))
