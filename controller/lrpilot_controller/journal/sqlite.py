"""What is special about SQLite: where the file is, who may read it, and what its errors mean."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import Connection, Engine, QueuePool, create_engine, event, inspect
from sqlalchemy.exc import DBAPIError, OperationalError, TimeoutError

from lrpilot_controller.errors import JournalError, JournalUnavailable
from lrpilot_controller.journal.base import JournalCorrupt, JournalMissing
from lrpilot_controller.journal.database import Lines

# How a transaction begins, as the execution option "begin". A writer takes its lock at once: one
# that reads first could find, when it comes to write, that it may not, and no timeout helps then.
_READ, _WRITE, _NONE = "BEGIN", "BEGIN IMMEDIATE", ""

_SPARE_PAGES = 1024
_MOVED_PAGES = 512  # in a transaction, so that no commit waits long
_CACHE_KIB = 512  # of pages, per connection; SQLite itself would take 2000
_MOST_LOG = 16 << 20  # bytes of a write-ahead log that was longer, for a reader kept it from ending

_ADVICE = {
    "SQLITE_FULL": "the disk is full: free some space",
    "SQLITE_READONLY": "it is read-only: check the permissions of the file and its directory",
    "SQLITE_PERM": "permission was denied: check the owner of the file and its directory",
    "SQLITE_CANTOPEN": "it cannot be opened: check that its directory exists and is writable",
    "SQLITE_IOERR": "the disk failed: check its space, quota and health",
    "SQLITE_BUSY": "another process holds its lock: close whatever else has it open",
    "SQLITE_LOCKED": "another connection holds its lock: close whatever else has it open",
    "SQLITE_NOMEM": "memory ran out",
    "SQLITE_INTERRUPT": "the call was interrupted",
    "SQLITE_PROTOCOL": "its lock protocol failed: keep it on a local disk",
}


class SqliteFile:
    """A journal's database in a file.

    Args:
        path: absolute.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = str(path)

    def connect(self, *, readonly: bool, timeout: float) -> Lines:
        """See `Database.connect`."""
        if not readonly:
            _make(self.path)
        elif not self.path.exists():
            raise JournalMissing(
                f"there is no journal at {self.path}: nothing was recorded there yet, or --storage "
                "names another directory than the daemon's"
            )
        engine = self._engine(readonly, timeout)
        return Lines(engine, None if readonly else engine.execution_options(begin=_WRITE))

    def _engine(self, readonly: bool, timeout: float) -> Engine:
        uri = f"file:{quote(self.name)}?mode={'ro' if readonly else 'rw'}"

        def connection() -> sqlite3.Connection:
            opened = _open(uri, timeout)
            if not readonly:
                return opened
            try:
                opened.execute("PRAGMA schema_version")
            except sqlite3.OperationalError:
                # SQLite cannot make its side files here. Without a log nobody has written since
                # the last daemon ended, and the file can be read as it lies.
                opened.close()
                if self._log.exists():
                    raise
                opened = _open(f"{uri}&immutable=1", timeout)
            except sqlite3.DatabaseError:
                opened.close()
                raise
            return opened

        engine = create_engine(
            "sqlite://", creator=connection, poolclass=QueuePool, pool_timeout=timeout
        )
        event.listen(engine, "begin", _begin)
        if not readonly:
            event.listen(engine, "connect", _set_up)
        return engine

    @property
    def _log(self) -> Path:
        return self.path.with_name(self.path.name + "-wal")

    def tables(self, connection: Connection) -> set[str]:
        """See `Database.tables`."""
        return set(inspect(connection).get_table_names())

    def prepare(self, writer: Engine, *, empty: bool) -> None:
        """See `Database.prepare`: settings that the file remembers."""
        plain = writer.execution_options(begin=_NONE)
        if empty:
            # An empty file can be let give back pages later; one with tables only uses them again.
            # Where it is locked somebody else is just making the tables, and did this before.
            with plain.connect() as connection, suppress(OperationalError):
                connection.exec_driver_sql("PRAGMA auto_vacuum=INCREMENTAL")
        # Readers read while the daemon writes. A file system without shared memory keeps the old
        # way, which is slower but as safe.
        with plain.connect() as connection:
            connection.exec_driver_sql("PRAGMA journal_mode=WAL")

    def size(self, connection: Connection) -> int:
        """See `Database.size`: the pages that are in use; others are used before it grows."""
        pages, free, page = (
            connection.exec_driver_sql(f"PRAGMA {what}").scalar_one()
            for what in ("page_count", "freelist_count", "page_size")
        )
        return int((pages - free) * page)

    def shrink(self, connection: Connection) -> bool:
        """See `Database.shrink`: free pages, beyond what is worth keeping for what comes next."""
        before = connection.exec_driver_sql("PRAGMA freelist_count").scalar_one()
        if before <= _SPARE_PAGES:
            return False
        connection.exec_driver_sql(f"PRAGMA incremental_vacuum({_MOVED_PAGES})").all()
        after = connection.exec_driver_sql("PRAGMA freelist_count").scalar_one()
        return bool(after < before)

    def on_disk(self) -> int:
        """See `Database.on_disk`: the file, and what was written ahead of it."""
        files = self.path.parent.glob(f"{self.path.name}*")
        return sum(file.stat().st_size for file in files)

    def free(self) -> float:
        """See `Database.free`."""
        disk = os.statvfs(self.path.parent)
        return float(disk.f_bavail * disk.f_frsize)

    @contextmanager
    def explained(self, doing: str) -> Iterator[None]:
        """See `Database.explained`."""
        try:
            yield
        except DBAPIError as error:
            raise _explain(error, self.path, doing) from error
        except TimeoutError as error:
            text = f"{doing} the journal {self.path} took too long: {error}"
            raise JournalUnavailable(text) from error


def _make(path: Path) -> None:
    """Makes the file, for its owner alone, unless there is one.

    SQLite gives its side files the mode of the database. An existing file keeps its mode: whoever
    shared it meant to.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600))
    except OSError as error:
        raise JournalUnavailable(
            f"the journal {path} cannot be written: {error.strerror or error}; "
            "choose another --storage directory, or make this one writable"
        ) from error


def _explain(error: DBAPIError, path: Path, doing: str) -> JournalError:
    name = getattr(error.orig, "sqlite_errorname", "")
    for prefix, advice in _ADVICE.items():
        if name.startswith(prefix):
            return JournalUnavailable(
                f"{doing} the journal {path} failed: {advice} ({error.orig}, {name})"
            )
    if name.startswith("SQLITE_NOTADB"):
        return JournalCorrupt(
            f"{path} is not an SQLite database; move it away, or choose another --storage directory"
        )
    return JournalCorrupt(
        f"{doing} the journal {path} failed: {error.orig}{f' ({name})' if name else ''}; "
        "the file is damaged or not a journal: keep a copy, and choose another --storage directory"
    )


def _open(uri: str, timeout: float) -> sqlite3.Connection:
    # No implicit transactions: `_begin` says when one starts, and of what kind.
    return sqlite3.connect(
        uri, uri=True, timeout=timeout, isolation_level=None, check_same_thread=False
    )


def _begin(connection: Connection) -> None:
    if statement := connection.get_execution_options().get("begin", _READ):
        connection.exec_driver_sql(statement)


def _set_up(connection: sqlite3.Connection, _record: object) -> None:
    # With a write-ahead log, NORMAL survives the death of the process, though not always of the
    # machine, and spares one fsync per commit.
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute(f"PRAGMA journal_size_limit={_MOST_LOG}")
    # A daemon has a handful of connections; what they do not keep is in the system's own cache.
    connection.execute(f"PRAGMA cache_size=-{_CACHE_KIB}")
