"""The trials in a file of SQLite."""

import fcntl
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from sqlalchemy import QueuePool

from lrpilot_controller.storage import ARTIFACTS
from lrpilot_controller.tuning.places import TrialsUnavailable, of_this_version

if TYPE_CHECKING:
    from optuna.storages import RDBStorage

_WRITER = "optuna.lock"


class TrialsFile:
    """See `Place`."""

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._path = path

    def identity(self) -> int | None:
        """See `Place.identity`: its inode."""
        try:
            return self._path.stat().st_ino
        except FileNotFoundError:
            return None

    def moved(self, identity: int | None) -> bool:
        """See `Place.moved`."""
        try:
            return self.identity() != identity
        except OSError:
            return False

    @contextmanager
    def sole_writer(self, timeout_s: float) -> Iterator[None]:
        """See `Place.sole_writer`."""
        directory = self._path.parent
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle = os.open(directory / _WRITER, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise TrialsUnavailable(self._told(error)) from error
        try:
            _lock(handle, self._path, timeout_s)
            yield
        finally:
            os.close(handle)

    def open(self, timeout_s: float, *, create: bool) -> "RDBStorage":
        """See `Place.open`."""
        try:
            if create:
                self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                (self._path.parent / ARTIFACTS).mkdir(mode=0o700, exist_ok=True)
                if not self._path.exists():
                    _create(self._path, timeout_s)
        except (OSError, sqlite3.Error) as error:
            raise TrialsUnavailable(self._told(error)) from error
        self.check_writable(timeout_s)
        return self.open_to_read(timeout_s)

    def open_to_read(self, timeout_s: float) -> "RDBStorage":
        """See `Place.open_to_read`."""
        return _storage(self._path, timeout_s)

    def check_writable(self, timeout_s: float) -> None:
        """See `Place.check_writable`: takes the write lock once."""
        try:
            connection = _connect(self._path, timeout_s)
            try:
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("ROLLBACK")
            finally:
                connection.close()
        except (OSError, sqlite3.Error) as error:
            raise TrialsUnavailable(self._told(error)) from error

    def explain(self, error: BaseException) -> str | None:
        """See `Place.explain`."""
        return self._told(error) if isinstance(error, sqlite3.Error) else None

    def _told(self, error: BaseException) -> str:
        path = self._path
        if isinstance(error, sqlite3.DatabaseError) and not isinstance(
            error, sqlite3.OperationalError
        ):
            return (
                f"{path} is not a database ({error}): move it away, it is rebuilt from the journal"
            )
        if "locked" in str(error):
            return f"{path} is locked by another program ({error}): close whatever else has it open"
        return f"{path} cannot be used ({error}): check the directory, its permissions and the disk"


def _create(path: Path, timeout_s: float) -> None:
    """Makes the file under another name first: a dashboard must not find half of its tables."""
    new = path.with_name(path.name + ".new")
    for leftover in (new, *_side_files(new), *_side_files(path)):
        leftover.unlink(missing_ok=True)  # SQLite would apply an old log to the new file
    os.close(os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    storage = _storage(new, timeout_s)
    storage.remove_session()
    storage.engine.dispose()
    new.rename(path)


def _side_files(path: Path) -> list[Path]:
    return [path.with_name(path.name + suffix) for suffix in ("-wal", "-shm")]


def _storage(path: Path, timeout_s: float) -> "RDBStorage":
    from optuna.storages import RDBStorage

    # A path within a URL would have to survive Optuna's str.format and SQLAlchemy's query parser.
    how = {"creator": lambda: _connect(path, timeout_s), "poolclass": QueuePool}
    made = RDBStorage("sqlite://", engine_kwargs=how, skip_compatibility_check=True)
    return of_this_version(made, str(path))


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
