"""A copy of a storage directory that can take its place, made beside a daemon that writes.

The trials are copied before the journal: what they lack of it, a daemon that starts on the copy
writes. Tokens stay where they are: a copy often goes where they must not; new ones are made there.
"""

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from lrpilot_controller.errors import ConfigError, JournalError, LRPilotError, NotFound
from lrpilot_controller.storage import ARTIFACTS, JOURNAL, TRIALS
from lrpilot_proto.rendezvous import private_dir

LOCK_S = 10.0  # to wait for who holds a database


@dataclass(frozen=True, slots=True)
class Copied:
    """A file of the copy, or a directory with what is in it."""

    path: Path
    size: int


def back_up(storage: Path, target: Path, *, replace: bool = False) -> list[Copied]:
    """Copies the journal, the trials and their pictures into a directory, for its owner alone.

    Each database is one consistent state of it, read by SQLite's own means, and checked before it
    gets its name: a copy is there as a whole, or not at all.

    Args:
        storage: What to copy; a daemon may be writing there.
        target: The directory to make, or one without such files.
        replace: Write over the files of an earlier copy.

    Raises:
        NotFound: There is no journal in `storage`.
        ConfigError: `target` cannot be used.
        JournalError: A database cannot be read or is damaged; that copy was not made.
    """
    if not (storage / JOURNAL).exists():
        raise NotFound(f"no journal at {storage / JOURNAL}: give the daemon's --storage")
    with _told(target):
        _check(storage, target, replace)
        private_dir(target)
        made = [_database(storage / TRIALS, target / TRIALS)] if (storage / TRIALS).exists() else []
        if (storage / ARTIFACTS).is_dir():
            made.append(_directory(storage / ARTIFACTS, target / ARTIFACTS))
        return [*made, _database(storage / JOURNAL, target / JOURNAL)]


def _check(storage: Path, target: Path, replace: bool) -> None:
    if target.exists() and target.samefile(storage):
        raise ConfigError(f"{target} is the storage itself; give another directory")
    there = [target / name for name in (JOURNAL, TRIALS) if (target / name).exists()]
    if there and not replace:
        raise ConfigError(f"{there[0]} exists; give another directory, or --force to replace it")
    for path in there:
        # A log belongs to the database that is there, and would be taken for the new one's.
        if path.with_name(f"{path.name}-wal").exists():
            raise ConfigError(f"{path} is open: end the daemon that uses it, or another directory")


def _database(source: Path, target: Path) -> Copied:
    """Copies a database as it is now; its writer is not kept from writing meanwhile."""
    partial = target.with_name(f"{target.name}.partial")
    partial.unlink(missing_ok=True)
    os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        uri = f"file:{quote(str(source))}?mode=ro"
        with (
            closing(sqlite3.connect(uri, uri=True, timeout=LOCK_S)) as original,
            closing(sqlite3.connect(partial)) as copy,
        ):
            original.backup(copy)
            # Without a log of its own, so that it can be read where nothing can be written.
            copy.execute("PRAGMA journal_mode=DELETE")
            found = [row[0] for row in copy.execute("PRAGMA integrity_check")]
        if found != ["ok"]:
            raise JournalError(f"{source} is damaged, and was not copied: {'; '.join(found[:3])}")
        _sync(partial)
        partial.replace(target)
        _sync(target.parent)
    except sqlite3.Error as error:
        raise JournalError(f"{source} cannot be copied to {target}: {error}") from error
    finally:
        partial.unlink(missing_ok=True)
    return Copied(target, target.stat().st_size)


def _directory(source: Path, target: Path) -> Copied:
    target.mkdir(mode=0o700, exist_ok=True)
    size = 0
    for path in sorted(source.iterdir()):
        if path.is_file():
            shutil.copyfile(path, target / path.name)
            (target / path.name).chmod(0o600)
            size += path.stat().st_size
    return Copied(target, size)


def _sync(path: Path) -> None:
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


@contextmanager
def _told(target: Path) -> Iterator[None]:
    try:
        yield
    except LRPilotError:
        raise
    except OSError as error:
        raise ConfigError(f"{target}: the copy cannot be written: {error}") from error
