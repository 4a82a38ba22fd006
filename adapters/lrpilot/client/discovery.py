"""Whether the daemon that is meant answers."""

import enum
import importlib.util
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

from lrpilot.client import launcher, notices
from lrpilot.client.address import resolve
from lrpilot_proto import rendezvous
from lrpilot_proto.access import Access

INSTALL = 'pip install "lrpilot[all]"'
NEEDED = ("lrpilot_controller", "optuna", "sqlalchemy")

# A child of the process that imported this (a DataLoader worker) never starts a daemon.
_HOME_PID = os.getpid()


class Finding(enum.Enum):
    """What a look for the daemon found."""

    ANSWERS = "answers"
    ABSENT = "absent"  # look again later
    NEVER = "never"  # nobody will come


def answers(path: Path, timeout_s: float = 1.0) -> bool:
    """Whether somebody accepts connections at a socket; a frozen daemon still does."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(timeout_s)
            probe.connect(str(path))
            return True
    except BlockingIOError:
        return True  # the backlog is full: somebody is there
    except OSError:
        return False


def missing_packages() -> list[str]:
    """What a daemon needs and this environment lacks, found without importing any of it."""

    def found(name: str) -> bool:
        try:
            return importlib.util.find_spec(name) is not None
        except ValueError:  # it is loaded, and by unusual means
            return True

    return [name for name in NEEDED if not found(name)]


class Finder:
    """Looks for the daemon of one address, and starts it where that is ours to do."""

    def __init__(self, address: str = "auto", token: str | None = None) -> None:
        """Read the address, and what a daemon on TCP needs; a unix socket needs no token.

        Raises:
            ValueError: the address is malformed, or is on TCP and the rest cannot be used.
        """
        self.address = resolve(address)
        self.access: Access | None = None
        if self.address.host:
            try:
                self.access = Access(token)
            except ValueError as error:
                raise ValueError(f"address {self.address}: {error}") from None
        self.why = ""
        self._launcher = launcher.Launcher() if self.address.managed else None

    @property
    def token_renewed(self) -> bool:
        """Whether there is another token now than the one that the daemon was shown."""
        return self.access is not None and self.access.renewed

    def find(self, give_up: Callable[[], bool] = lambda: False) -> Finding:
        """Look for the daemon; one that is ours is started and awaited, unless `give_up`."""
        if self.access is not None:
            return Finding.ANSWERS  # whether it does, the connection itself tells
        if self.address.path is None:
            notices.warn_once(
                "platform",
                "LRPilot starts no daemon on this platform: run `lrpilot serve` and pass "
                "address='HOST:PORT'; training goes on without it",
            )
            self.why = "no daemon can be started on this platform"
            return Finding.NEVER
        if self._launcher is None:
            if answers(self.address.path):
                return Finding.ANSWERS
            self.why = f"nobody listens at {self.address}"
            return Finding.ABSENT
        try:
            # Before anything is said: in a shared /tmp the directory may be a stranger's.
            rendezvous.private_dir(self.address.path.parent)
        except OSError as error:
            self.why = str(error)
            return Finding.ABSENT
        if answers(self.address.path):
            return Finding.ANSWERS
        return self._start(self._launcher, self.address.path, give_up)

    def _start(
        self, starter: "launcher.Launcher", path: Path, give_up: Callable[[], bool]
    ) -> Finding:
        if os.getpid() != _HOME_PID:
            self.why = "a forked child starts no daemon"
            return Finding.ABSENT
        if missing := missing_packages():
            self.why = f"the controller is not installed ({', '.join(missing)})"
            notices.warn_once(
                "not-installed",
                f"LRPilot: {self.why}: {INSTALL}. Training goes on at the native learning rate",
            )
            return Finding.NEVER
        try:
            self.why = starter.start(path, lambda: answers(path), give_up, time.monotonic())
        except OSError as error:
            self.why = f"could not start a daemon: {error}"
        return Finding.ANSWERS if answers(path) else Finding.ABSENT
