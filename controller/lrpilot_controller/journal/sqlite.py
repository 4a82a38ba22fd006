"""What is special about SQLite: where the file is, who may read it, and what its errors mean."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import Connection, Engine, QueuePool, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError, TimeoutError

from lrpilot_controller.errors import JournalError, JournalUnavailable
from lrpilot_controller.journal.base import JournalCorrupt, JournalMissing

# How a transaction begins, as the execution option "begin". A writer takes its lock at once: one
# that reads first could find, when it comes to write, that it may not, and no timeout helps then.
READ, WRITE, _NONE = "BEGIN", "BEGIN IMMEDIATE", ""

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


def locate(path_or_url: str | os.PathLike[str]) -> Path:
    """The absolute path of the database file that a path or a `sqlite:///` URL names.

    Raises:
        JournalError: The URL is malformed, names another database system, or no file.
    """
    text = os.fspath(path_or_url)
    if "://" not in text:
        return Path(text).expanduser().absolute()
    try:
        url = make_url(text)
    except ArgumentError as error:
        raise JournalError(f"the journal URL is malformed: {error}; give a path") from error
    if url.get_backend_name() != "sqlite":
        raise JournalError(
            f"the journal cannot be kept in {url.get_backend_name()!r} yet, only in SQLite; "
            "give a path or a sqlite:/// URL"
        )
    if not url.database or url.database == ":memory:" or url.query:
        raise JournalError(
            f"the journal URL {text!r} must name a file and have no options; "
            "for a journal in memory use MemoryJournal"
        )
    return Path(url.database).absolute()


def prepare(path: Path) -> None:
    """Makes the file, for its owner alone, unless there is one.

    SQLite gives its side files the mode of the database. An existing file keeps its mode: whoever
    shared it meant to.

    Raises:
        JournalUnavailable: The file cannot be made or written.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600))
    except OSError as error:
        raise JournalUnavailable(
            f"the journal {path} cannot be written: {error.strerror or error}; "
            "choose another --storage directory, or make this one writable"
        ) from error


def connect(path: Path, *, readonly: bool, timeout: float) -> Engine:
    """An engine on an existing file. A connection waits `timeout` seconds for a lock.

    Raises:
        JournalMissing: Reading, and there is no file.
    """
    if readonly and not path.exists():
        raise JournalMissing(
            f"there is no journal at {path}: nothing was recorded there yet, or --storage names "
            "another directory than the daemon's"
        )
    uri = f"file:{quote(str(path))}?mode={'ro' if readonly else 'rw'}"

    def connection() -> sqlite3.Connection:
        opened = _open(uri, timeout)
        if not readonly:
            return opened
        try:
            opened.execute("PRAGMA schema_version")
        except sqlite3.OperationalError:
            # SQLite cannot make its side files here. Without a log nobody has written since the
            # last daemon ended, and the file can be read as it lies.
            opened.close()
            if path.with_name(path.name + "-wal").exists():
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


def let_shrink(engine: Engine) -> None:
    """Lets an empty file give back pages later; one with tables only uses them again."""
    # Where it is locked somebody else is just making the tables, and did this before.
    plain = engine.execution_options(begin=_NONE)
    with plain.connect() as connection, suppress(OperationalError):
        connection.exec_driver_sql("PRAGMA auto_vacuum=INCREMENTAL")


def use_wal(engine: Engine) -> None:
    """Lets readers read while the daemon writes. The file remembers it.

    A file system without shared memory keeps the old way, which is slower but as safe.
    """
    with engine.execution_options(begin=_NONE).connect() as connection:
        connection.exec_driver_sql("PRAGMA journal_mode=WAL")


def size(connection: Connection) -> int:
    """Bytes of the pages that are in use; the others are used before the file grows."""
    pages, free, page = (
        connection.exec_driver_sql(f"PRAGMA {what}").scalar_one()
        for what in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * page)


def shrink(connection: Connection) -> bool:
    """Gives some free pages back to the file system, within one transaction; whether there were
    more than are worth keeping for what comes next."""
    before = connection.exec_driver_sql("PRAGMA freelist_count").scalar_one()
    if before <= _SPARE_PAGES:
        return False
    connection.exec_driver_sql(f"PRAGMA incremental_vacuum({_MOVED_PAGES})").all()
    after = connection.exec_driver_sql("PRAGMA freelist_count").scalar_one()
    return bool(after < before)


@contextmanager
def explained(path: Path, doing: str) -> Iterator[None]:
    """Turns the database's errors into ones that say what to do."""
    try:
        yield
    except DBAPIError as error:
        raise _explain(error, path, doing) from error
    except TimeoutError as error:
        raise JournalUnavailable(f"{doing} the journal {path} took too long: {error}") from error


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
    if statement := connection.get_execution_options().get("begin", READ):
        connection.exec_driver_sql(statement)


def _set_up(connection: sqlite3.Connection, _record: object) -> None:
    # With a write-ahead log, NORMAL survives the death of the process, though not always of the
    # machine, and spares one fsync per commit.
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute(f"PRAGMA journal_size_limit={_MOST_LOG}")
    # A daemon has a handful of connections; what they do not keep is in the system's own cache.
    connection.execute(f"PRAGMA cache_size=-{_CACHE_KIB}")
