"""What goes wrong for people, each looked at by one function that says what to do about it."""

import os
import shutil
import socket
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import quote

from lrpilot_controller.cli.daemon import operator
from lrpilot_controller.errors import ConfigError, LRPilotError, NoDaemon, WrongRole
from lrpilot_controller.journal.sql import SqlJournal
from lrpilot_controller.server.address import Address
from lrpilot_controller.server.limits import ServerLimits
from lrpilot_controller.storage import JOURNAL, TRIALS, Storage
from lrpilot_controller.tuning.faults import words_of
from lrpilot_controller.tuning.places import Place, place_of
from lrpilot_controller.version import VERSION
from lrpilot_proto.access import CA, CERT, KEY, TOKEN, TOKEN_FILE
from lrpilot_proto.v1 import operator_pb2

OK, NOTE, WRONG = "ok", "note", "wrong"

READ_S = 20.0  # for looking through one file
WRITE_S = 2.0  # for a lock that a daemon needs for a moment only
SLOW_COMMIT_S = 0.05
AHEAD_S = 60.0
VARIABLES = {"LRPILOT", "LRPILOT_ADDRESS", TOKEN, TOKEN_FILE, CA, CERT, KEY}
PREFIX = "LRPILOT_"
SUFFIXES = sorted(name.removeprefix(PREFIX) for name in VARIABLES if name.startswith(PREFIX))


@dataclass(frozen=True, slots=True)
class Finding:
    """What a look at one thing found: `level` is ok, note (nothing to worry about) or wrong."""

    name: str
    level: str
    says: str
    todo: str = ""


def python(wanted: str | None = None) -> Finding:
    """Python itself; `wanted` is what LRPilot's own metadata say where it is None."""
    from packaging.specifiers import SpecifierSet

    found = ".".join(map(str, sys.version_info[:3]))
    wanted = metadata("lrpilot")["Requires-Python"] if wanted is None else wanted
    if not SpecifierSet(wanted).contains(found, prereleases=True):
        todo = f"use a Python {wanted}, in an environment of its own"
        return Finding("python", WRONG, f"Python {found} is not {wanted}", todo)
    return Finding("python", OK, f"Python {found}, LRPilot {VERSION}")


def packages(requirements: Iterable[str] | None = None) -> Finding:
    """What LRPilot stands on; of the extras what is installed."""
    from packaging.requirements import Requirement

    wrong, seen = [], []
    for text in requirements if requirements is not None else requires("lrpilot") or ():
        wanted = Requirement(text)
        extra = wanted.marker is not None and not wanted.marker.evaluate({"extra": ""})
        try:
            found = version(wanted.name)
        except PackageNotFoundError:
            if not extra:
                wrong.append(f"{wanted.name} is missing")
            continue
        if not wanted.specifier.contains(found, prereleases=True):
            wrong.append(f"{wanted.name} {found} is not {wanted.specifier}")
        elif wanted.name in ("grpcio", "protobuf", "h2", "torch", "optuna"):
            seen.append(f"{wanted.name} {found}")
    if wrong:
        told = "; ".join(dict.fromkeys(wrong))
        return Finding("packages", WRONG, told, "pip install -U 'lrpilot[all]'")
    return Finding("packages", OK, ", ".join(dict.fromkeys(seen)))


def directory(storage: Path) -> Finding:
    """Whose the storage is, and who can look into it."""
    name = "storage"
    if not storage.exists():
        return Finding(name, NOTE, f"{storage} is not there yet; the first daemon makes it")
    if not storage.is_dir():
        todo = "move it away, or choose another --storage"
        return Finding(name, WRONG, f"{storage} is not a directory", todo)
    status = storage.stat()
    if status.st_uid != os.getuid():
        says = f"{storage} belongs to uid {status.st_uid}, and you are uid {os.getuid()}"
        return Finding(name, WRONG, says, "use a directory of your own: --storage DIR")
    if not os.access(storage, os.W_OK | os.X_OK):
        return Finding(name, WRONG, f"{storage} is not writable", f"chmod 700 {storage}")
    if status.st_mode & 0o077:
        says = f"others can enter {storage} (mode {status.st_mode & 0o777:04o})"
        return Finding(name, WRONG, says, f"chmod 700 {storage}")
    return Finding(name, OK, f"{storage}, yours alone")


def free_space(storage: Path, least_mib: int = ServerLimits().min_free_mib) -> Finding:
    """Room on the disk of the storage."""
    there = next(path for path in (storage, *storage.parents) if path.exists())
    free = shutil.disk_usage(there).free >> 20
    if free < least_mib:
        says = f"{free} MiB free at {there}; below {least_mib} MiB no new run is taken"
        return Finding("disk", WRONG, says, "free some space, or choose another --storage")
    return Finding("disk", OK, f"{free:,} MiB free at {there}")


def journal(storage: Path) -> Finding:
    """Whether the journal opens, is of a version that is known, and is whole."""
    path = storage / JOURNAL
    if not path.exists():
        return Finding("journal", NOTE, "no journal yet: no run was recorded")
    try:
        with closing(SqlJournal.open(path, readonly=True)) as opened:
            runs = len(opened.runs())
    except LRPilotError as error:
        return Finding("journal", WRONG, str(error))
    return _whole("journal", path, f"{runs:,} runs, {path.stat().st_size >> 20:,} MiB")


def trials(storage: Path) -> Finding:
    """Whether the file of reviews opens and is whole."""
    path = storage / TRIALS
    if not path.exists():
        return Finding("reviews", NOTE, f"no {TRIALS} yet: nothing was decided")
    found = _whole("reviews", path, f"{path.stat().st_size >> 20:,} MiB")
    if found.level == OK:
        place = place_of(storage)
        try:
            place.check_writable(WRITE_S)
        except LRPilotError as error:
            return Finding("reviews", WRONG, str(error))
        return tables(place, found)
    return found


def tables(place: Place, found: Finding) -> Finding:
    """What was found of the trials, if the Optuna that is here knows their tables."""
    try:
        opened = place.open_to_read(WRITE_S)
        opened.remove_session()
        opened.engine.dispose()
    except LRPilotError as error:
        return Finding("reviews", WRONG, str(error))
    except ImportError:
        return found  # `packages` tells of it
    except Exception as error:
        todo = "stop the daemon and move it away: it is rebuilt from the journal"
        return Finding("reviews", WRONG, f"{place.name}: {words_of(error, place)}", todo)
    return found


def _whole(name: str, path: Path, says: str) -> Finding:
    deadline = time.monotonic() + READ_S
    todo = f"stop the daemon, move {path} away (a new one is begun), or restore a copy of it"
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as opened:
            opened.set_progress_handler(lambda: int(time.monotonic() > deadline), 100_000)
            (found,) = opened.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorname", "") == "SQLITE_INTERRUPT":
            return Finding(name, NOTE, f"{says}; too large to be looked through here")
        return Finding(name, WRONG, f"{path}: {error}", todo)
    if found != "ok":
        return Finding(name, WRONG, f"{path} is damaged: {found}", todo)
    return Finding(name, OK, f"{says}, whole")


def daemon_socket(address: Address) -> Finding:
    """The daemon's socket: its directory, its owner, and whether it is a dead one."""
    path, name = address.path, "socket"
    if path is None:
        return Finding(name, NOTE, f"{address} is TCP: it has TLS and a token")
    if not path.exists():
        return Finding(name, NOTE, f"no socket at {path}: no daemon runs, or it is elsewhere")
    status, folder = path.lstat(), path.parent.stat()
    if status.st_uid != os.getuid() or folder.st_uid not in (os.getuid(), 0):
        says = f"{path} or its directory belongs to somebody else"
        return Finding(name, WRONG, says, "do not use it: choose another --listen or --storage")
    if status.st_mode & 0o077:
        says = f"others can open {path} (mode {status.st_mode & 0o777:04o})"
        return Finding(name, WRONG, says, f"chmod 600 {path}")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(2.0)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return Finding(
                name, NOTE, f"nobody listens at {path}; the next daemon replaces it", f"rm {path}"
            )
        except OSError as error:
            says = f"{path} does not accept a connection: {error}"
            return Finding(name, WRONG, says, "is the daemon stopped (SIGSTOP) or overloaded?")
    return Finding(name, OK, f"{path}, yours alone")


def answers(storage: Storage | None, *, needed: bool = False) -> Finding:
    """Whether a daemon answers, and is of this version; one that was named must."""
    named = os.environ.get("LRPILOT_ADDRESS", "").strip() not in ("", "auto") and storage is None
    try:
        with operator(storage) as ask:
            told = ask("Status", operator_pb2.StatusRequest())
    except NoDaemon as error:
        if named:
            todo = "start it there (lrpilot serve --listen ...): until then training is alone"
            return Finding("daemon", WRONG, str(error), todo)
        if needed:
            return Finding("daemon", WRONG, str(error), "start one: lrpilot serve")
        return Finding("daemon", NOTE, "none answers; training starts one when it needs it")
    except WrongRole:
        return Finding("daemon", OK, "answers, and knows the token; a trainer's may not ask more")
    except LRPilotError as error:
        return Finding("daemon", WRONG, str(error))
    says = (
        f"version {told.version}, generation {told.generation}, up "
        f"{told.uptime_seconds / 3600:.1f} h, {told.sessions} sessions"
    )
    if told.version != VERSION:
        todo = "restart it: it is asked to end by SIGTERM, and started when it is needed"
        return Finding("daemon", WRONG, f"{says}; this is version {VERSION}", todo)
    return Finding("daemon", OK, says)


def clock(storage: Path, now: Callable[[], float] = time.time) -> Finding:
    """Whether the clock can be right, by the files of a storage."""
    todo = "set the clock (timedatectl); what is recorded meanwhile bears a wrong time"
    if now() < 1.7e9:
        return Finding("clock", WRONG, f"it says {time.ctime(now())}", todo)
    files = [path for path in (storage / JOURNAL, storage / f"{JOURNAL}-wal") if path.exists()]
    ahead = max((path.stat().st_mtime - now() for path in files), default=0.0)
    if ahead > AHEAD_S:
        says = f"the journal was written {ahead:,.0f} s in the future"
        return Finding("clock", WRONG, says, todo)
    return Finding("clock", OK, time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(now())))


def environment(environ: Mapping[str, str] = os.environ) -> Finding:
    """The variables that LRPilot reads. A token is never shown."""
    name = "environment"
    ours = {key: value for key, value in environ.items() if key.startswith("LRPILOT")}
    for key in sorted(ours.keys() - VARIABLES):
        # Others may begin like ours: of a Kubernetes service, or of a compose file.
        if meant := get_close_matches(key[len(PREFIX) :], SUFFIXES):
            todo = f"is {PREFIX}{meant[0]} meant? There are {', '.join(sorted(VARIABLES))}"
            return Finding(name, WRONG, f"{key} is not read by LRPilot", todo)
    address = ours.get("LRPILOT_ADDRESS", "").strip()
    if address and address != "auto":
        try:
            Address.parse(address)
        except ConfigError as error:
            says = str(error).replace("--listen ", "LRPILOT_ADDRESS=", 1)
            return Finding(name, WRONG, says, "unset it, or give unix:PATH or HOST:PORT")
    for key in (TOKEN_FILE, CA, CERT, KEY):
        if (file := ours.get(key)) and not os.access(file, os.R_OK):
            says = f"{key} names {file}, which cannot be read"
            return Finding(name, WRONG, says, "name a file that this user can read")
    if "LRPILOT" in ours and ours["LRPILOT"].lower() == "off":
        return Finding(name, NOTE, "LRPILOT=off: training goes on without LRPilot", "unset it")
    shown = [
        key if key == TOKEN else f"{key}={value}"
        for key, value in sorted(ours.items())
        if key in VARIABLES
    ]
    return Finding(name, OK, ", ".join(shown) or "nothing set")


def disk_speed(storage: Path, slow_s: float = SLOW_COMMIT_S) -> Finding:
    """How long a commit takes where the journal is, or will be."""
    there = next(path for path in (storage, *storage.parents) if path.exists())
    if not os.access(there, os.W_OK | os.X_OK):
        return Finding("commit", NOTE, f"{there} is not writable: not measured")
    with tempfile.TemporaryDirectory(dir=there, prefix=".lrpilot-doctor-") as folder:
        took = _commits(Path(folder) / "speed.db")
    says = (
        f"a commit takes {1000 * median(took):.2f} ms (the longest of 20: {1000 * max(took):.1f})"
    )
    if median(took) > slow_s:
        todo = "keep the storage on a local disk, not on a network's: --storage DIR"
        return Finding("commit", WRONG, says, todo)
    return Finding("commit", OK, says)


def _commits(path: Path) -> list[float]:
    took = []
    with closing(sqlite3.connect(path, isolation_level=None)) as file:
        file.execute("PRAGMA journal_mode=WAL")
        file.execute("PRAGMA synchronous=NORMAL")
        file.execute("CREATE TABLE rows (row BLOB)")
        for _ in range(20):
            began = time.perf_counter()
            file.execute("INSERT INTO rows VALUES (?)", (os.urandom(1024),))
            took.append(time.perf_counter() - began)
    return took


def to_json(finding: Finding) -> dict[str, Any]:
    """As `doctor --json` lists it."""
    return {
        "check": finding.name,
        "level": finding.level,
        "says": finding.says,
        "todo": finding.todo,
    }
