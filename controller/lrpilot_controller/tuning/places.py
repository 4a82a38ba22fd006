"""Where the trials are: what a place must do, and which one a storage has."""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from lrpilot_controller.errors import LRPilotError
from lrpilot_controller.storage import TRIALS, Storage

if TYPE_CHECKING:
    from optuna.storages import RDBStorage


class TrialsUnavailable(LRPilotError):
    """The trials cannot be used now."""


class Place(Protocol):
    """A file or a database that holds the trials; somebody may remove or replace it meanwhile.

    Attributes:
        name: how a person calls it; it holds no password.
    """

    name: str

    def identity(self) -> int | None:
        """Which one is there now; None where there is none, or nobody can say.

        Raises:
            Exception: whatever is wrong with it.
        """
        ...

    def moved(self, identity: int | None) -> bool:
        """Whether it must be opened again; told at once, to any thread."""
        ...

    def sole_writer(self, timeout_s: float) -> AbstractContextManager[None]:
        """Keeps a second process from writing the trials, however long the body runs.

        Raises:
            TrialsUnavailable: another process writes them.
        """
        ...

    def open(self, timeout_s: float, *, create: bool) -> "RDBStorage":
        """Opens it so that the daemon and a dashboard do not block each other.

        Only the sole writer may create one.

        Raises:
            TrialsUnavailable: it cannot be opened or written, or holds no trials.
        """
        ...

    def open_to_read(self, timeout_s: float) -> "RDBStorage":
        """Opens what is there, without asking whether it can be written.

        Raises:
            TrialsUnavailable: it holds no trials, or those of another version of Optuna.
            Exception: whatever SQLAlchemy and Optuna raise where it cannot be read.
        """
        ...

    def check_writable(self, timeout_s: float) -> None:
        """Writes nothing: Optuna itself would retry for half a minute before it complains.

        Raises:
            TrialsUnavailable: it is locked, read-only, or not there.
        """
        ...

    def explain(self, error: BaseException) -> str | None:
        """What is wrong and what to do, if the error is one of the database's own."""
        ...


def place_of(storage: Storage | Path) -> Place:
    """The trials of a storage, or of a directory.

    Raises:
        ConfigError: the database needs a driver that is not installed.
    """
    if isinstance(storage, Path):
        storage = Storage(storage)
    if storage.database is not None:
        from lrpilot_controller.tuning.database import TrialsDatabase

        return TrialsDatabase(storage.database)
    from lrpilot_controller.tuning.file import TrialsFile

    return TrialsFile(storage.folder / TRIALS)


def of_this_version(storage: "RDBStorage", name: str) -> "RDBStorage":
    """The storage, if its tables are those of the Optuna that is installed; else it is closed.

    Optuna's own check would leave a connection open.

    Raises:
        TrialsUnavailable: they are another version's.
    """
    try:
        there, known = storage.get_current_version(), storage.get_head_version()
        if there == known:
            return storage
        older = storage.get_all_versions()
    except BaseException:
        storage.engine.dispose()
        raise
    storage.remove_session()
    storage.engine.dispose()
    todo = "upgrade Optuna (pip install -U optuna)"
    if there in older:
        todo = "upgrade its tables (optuna storage upgrade --storage URL)"
    raise TrialsUnavailable(
        f"{name} was written by another version of Optuna (its tables are {there}, this one's "
        f"{known}); {todo}, or move it away: it is rebuilt from the journal"
    )
