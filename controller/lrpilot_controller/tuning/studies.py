"""The studies and the file that they are in: names, opening and creating."""

import fcntl
import os
import sqlite3
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from sqlalchemy import QueuePool

from lrpilot_controller.errors import LRPilotError
from lrpilot_controller.tuning.entries import Home

if TYPE_CHECKING:
    from optuna.storages import BaseStorage, RDBStorage
    from optuna.study import Study

TRIALS = "optuna.db"
ARTIFACTS = "artifacts"
TRIALS_PER_STUDY = 500

_OURS = "lrpilot"  # the user attribute that tells our studies from others in the same file
_WRITER = "optuna.lock"


class TrialsUnavailable(LRPilotError):
    """The file of the trials cannot be used now."""


def runs_study(project: str) -> str:
    """The study of what the runs of a project found."""
    return f"{project}/runs"


def part_of(name: str, part: int) -> str:
    """The name of a study's part: itself, then `name/2`, `name/3`..."""
    return name if part == 1 else f"{name}/{part}"


def open_file(path: Path, timeout_s: float, *, create: bool) -> "RDBStorage":
    """Opens a file of trials so that the daemon and a dashboard do not block each other.

    Only the sole writer may create one.

    Raises:
        TrialsUnavailable: It cannot be opened or written, or is no file of trials.
    """
    try:
        if create:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            (path.parent / ARTIFACTS).mkdir(mode=0o700, exist_ok=True)
            if not path.exists():
                _create(path, timeout_s)
        check_writable(path, timeout_s)
    except (OSError, sqlite3.Error) as error:
        raise TrialsUnavailable(explain(path, error)) from error
    return _storage(path, timeout_s)


def open_to_read(path: Path, timeout_s: float) -> "RDBStorage":
    """Opens a file of trials that is there, without asking for its write lock.

    Raises:
        TrialsUnavailable: It is no file of trials, or one of another version of Optuna.
        Exception: Whatever SQLAlchemy and Optuna raise where it cannot be read.
    """
    return _storage(path, timeout_s)


def check_writable(path: Path, timeout_s: float) -> None:
    """Takes the write lock once: Optuna itself would retry for half a minute before it complains.

    Raises:
        sqlite3.Error: It is locked, read-only, or no database.
    """
    connection = _connect(path, timeout_s)
    try:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("ROLLBACK")
    finally:
        connection.close()


def explain(path: Path, error: Exception) -> str:
    """What is wrong with the file of trials, and what to do."""
    if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError):
        return f"{path} is not a database ({error}): move it away, it is rebuilt from the journal"
    if "locked" in str(error):
        return f"{path} is locked by another program ({error}): close whatever else has it open"
    return f"{path} cannot be used ({error}): check the directory, its permissions and the disk"


@contextmanager
def sole_writer(directory: Path, timeout_s: float) -> Iterator[None]:
    """Keeps a second process from writing the trials, however long the body runs.

    Raises:
        TrialsUnavailable: Another process writes them.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(directory / _WRITER, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise TrialsUnavailable(explain(directory / TRIALS, error)) from error
    try:
        _lock(handle, directory / TRIALS, timeout_s)
        yield
    finally:
        os.close(handle)


def our_studies(storage: "BaseStorage", kind: str = "") -> "list[Study]":
    """Our studies in the file, oldest first; only those of a kind where it is named."""
    import optuna

    ours = [s for s in storage.get_all_studies() if _OURS in s.user_attrs]
    names = [s.study_name for s in ours if kind in ("", kind_of(s.user_attrs))]
    return [
        optuna.load_study(study_name=name, storage=storage, sampler=optuna.samplers.RandomSampler())
        for name in names
    ]


def kind_of(attributes: Mapping[str, object]) -> str:
    """The kind of study that has these user attributes; the first ones did not say it."""
    return str(attributes.get("kind", "interventions"))


def open_study(storage: "BaseStorage", home: Home) -> "Study":
    """The part of this study that has room for one more trial; made where there is none."""
    import optuna

    # Naming the metric is experimental in Optuna; a reader of the plots needs the name.
    warnings.filterwarnings(
        "ignore", ".*set_metric_names", category=optuna.exceptions.ExperimentalWarning
    )
    part = 1
    while True:
        study = optuna.create_study(
            study_name=part_of(home.name, part),
            storage=storage,
            sampler=optuna.samplers.RandomSampler(),
            direction="maximize" if home.maximize else "minimize",
            load_if_exists=True,
        )
        if _OURS not in study.user_attrs:
            _describe(study, home)
        if len(study.get_trials(deepcopy=False)) < TRIALS_PER_STUDY:
            return study
        part += 1


def _describe(study: "Study", home: Home) -> None:
    study.set_metric_names([home.metric])
    try:
        from optuna_dashboard import save_note
    except ImportError:  # the trials are worth having without the dashboard
        pass
    else:
        save_note(study, home.note)
    for key, value in {"kind": home.kind, **home.about}.items():
        study.set_user_attr(key, value)
    study.set_user_attr(_OURS, 1)  # last: a study that was half made is described again


def _create(path: Path, timeout_s: float) -> None:
    """Makes the file under another name first: a dashboard must not find half of its tables."""
    new = path.with_name(path.name + ".new")
    for leftover in (new, *_side_files(new), *_side_files(path)):
        leftover.unlink(missing_ok=True)  # SQLite would apply an old log to the new file
    os.close(os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    storage = _storage(new, timeout_s, check=False)
    storage.remove_session()
    storage.engine.dispose()
    new.rename(path)


def _side_files(path: Path) -> list[Path]:
    return [path.with_name(path.name + suffix) for suffix in ("-wal", "-shm")]


def _storage(path: Path, timeout_s: float, *, check: bool = True) -> "RDBStorage":
    from optuna.storages import RDBStorage

    # A path within a URL would have to survive Optuna's str.format and SQLAlchemy's query parser.
    kwargs = {"creator": lambda: _connect(path, timeout_s), "poolclass": QueuePool}
    try:
        return RDBStorage("sqlite://", engine_kwargs=kwargs, skip_compatibility_check=not check)
    except RuntimeError as error:  # the schema of another Optuna
        raise TrialsUnavailable(
            f"{path} was written by another version of Optuna ({error}); upgrade Optuna, or move "
            "the file away: it is rebuilt from the journal"
        ) from error


def _connect(path: Path, timeout_s: float) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"file:{quote(str(path))}?mode=rw", uri=True, timeout=timeout_s, check_same_thread=False
    )
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _lock(handle: int, path: Path, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise TrialsUnavailable(
                    f"{path} is being written by another LRPilot process; it will do"
                ) from None
        time.sleep(0.05)
