"""Starts the daemon of a user, host and storage: exactly one, however many callers ask."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lrpilot.client import notices
from lrpilot_proto import rendezvous

try:
    import fcntl
except ImportError:  # Windows
    SUPPORTED = False
else:
    SUPPORTED = True

LINGER_S = 60
BOOT_S = 30.0  # until the socket must answer
POLL_S = 0.02
RESTART_GAP_S = 3.0
RESTART_GAP_MAX_S = 60.0  # also: a daemon that lived this long was a healthy one
TAIL_BYTES = 2000

# Kept so that a daemon that ended is reaped, and never collected while it lives.
_started: list["subprocess.Popen[bytes]"] = []


def command(storage: Path, path: Path) -> list[str]:
    """What is started; a test puts something smaller in its place."""
    serve = [sys.executable, "-m", "lrpilot_controller", "serve", "--linger", str(LINGER_S)]
    return [*serve, "--storage", str(storage), "--listen", f"unix:{path}"]


class Launcher:
    """Starts the daemon when it is needed, and less and less often when it keeps dying."""

    def __init__(self) -> None:
        self._gap_s = RESTART_GAP_S
        self._started_at: float | None = None

    def start(
        self,
        path: Path,
        answers: Callable[[], bool],
        give_up: Callable[[], bool],
        now: float,
    ) -> str:
        """Start the daemon, or wait for the one that somebody else starts.

        Returns:
            Why nobody answers, if so, for a person.

        Raises:
            OSError: a directory or the process could not be made.
        """
        for process in list(_started):
            if process.poll() is not None:
                _started.remove(process)
        if self._started_at is not None:
            if now - self._started_at < self._gap_s:
                return "the daemon went away and is restarted soon"
            if now - self._started_at > RESTART_GAP_MAX_S:
                self._gap_s = RESTART_GAP_S / 2
        deadline = now + BOOT_S
        rendezvous.private_dir(path.parent)
        with _lock(path, lambda: answers() or give_up() or time.monotonic() > deadline) as mine:
            if not mine or answers():
                return "somebody else is starting the daemon"
            if self._started_at is not None:
                self._gap_s = min(2 * self._gap_s, RESTART_GAP_MAX_S)
            self._started_at = time.monotonic()
            return self._boot(path, answers, lambda: give_up() or time.monotonic() > deadline)

    def _boot(self, path: Path, answers: Callable[[], bool], stop: Callable[[], bool]) -> str:
        storage = rendezvous.default_storage()
        storage.mkdir(mode=0o700, parents=True, exist_ok=True)
        log = storage / "daemon.log"
        # Its losses are nobody else's business; appended, so that a crash before stays readable.
        with open(os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "ab") as errors:
            begin = os.fstat(errors.fileno()).st_size
            process = subprocess.Popen(
                command(storage, path),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                cwd="/",
                env=_environment(),
                start_new_session=True,
            )
        _started.append(process)
        while not stop():
            if answers():
                notices.log.info("LRPilot: started a daemon (pid %d, log %s)", process.pid, log)
                return ""
            if process.poll() is not None:
                if answers():  # it found another one at work
                    return ""
                why = f"the daemon ended at once with exit status {process.returncode}"
                notices.warn_once("boot", f"LRPilot: {why}; {log} says:\n{_tail(log, begin)}")
                return why
            time.sleep(POLL_S)
        return "the daemon that was started does not answer yet"


@contextmanager
def _lock(path: Path, stop: Callable[[], bool]) -> Iterator[bool]:
    """Hold the start lock of a socket; yields False when `stop` came true first."""
    fd = os.open(f"{path}.start.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        mine = _try_lock(fd)
        while not mine and not stop():
            time.sleep(POLL_S)
            mine = _try_lock(fd)
        yield mine
    finally:
        # A child forked meanwhile shares the lock: closing alone would leave it held.
        fcntl.flock(fd, fcntl.LOCK_UN)
        os.close(fd)


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _environment() -> dict[str, str]:
    """Ours, with the import path made absolute: the daemon's working directory is another."""
    environment = dict(os.environ)
    if search := environment.get("PYTHONPATH"):
        entries = (os.path.abspath(entry) for entry in search.split(os.pathsep))
        environment["PYTHONPATH"] = os.pathsep.join(entries)
    return environment


def _tail(log: Path, begin: int) -> str:
    try:
        with log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(begin, size - TAIL_BYTES))
            text = file.read().decode(errors="replace").strip()
    except OSError as error:
        return str(error)
    return text or "(nothing)"
