"""Which daemon is meant, and whether it answers."""

import enum
import importlib.util
import os
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from lrpilot.client import launcher, notices
from lrpilot_proto import rendezvous
from lrpilot_proto.access import Access

ALLOWED = "auto, unix:PATH or HOST:PORT"
INSTALL = 'pip install "lrpilot[all]"'
NEEDED = ("lrpilot_controller", "optuna", "sqlalchemy")

# A child of the process that imported this (a DataLoader worker) never starts a daemon.
_HOME_PID = os.getpid()


@dataclass(frozen=True)
class Address:
    """Where a daemon listens: a socket file, or a host and port, which is always TLS.

    Attributes:
        path: of the socket file; None for a host and port.
        managed: nobody named a daemon, so it is ours to start. `path` None here: this platform
            has no unix sockets.
    """

    path: Path | None = None
    host: str = ""
    port: int = 0
    managed: bool = False

    @property
    def target(self) -> str:
        """As grpc wants it."""
        if self.path is not None:
            return "unix:" + quote(str(self.path))
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __str__(self) -> str:
        return f"unix:{self.path}" if self.path is not None else self.target


class Finding(enum.Enum):
    """What a look for the daemon found."""

    ANSWERS = "answers"
    ABSENT = "absent"  # look again later
    NEVER = "never"  # nobody will come


def resolve(address: str = "auto", environ: Mapping[str, str] = os.environ) -> Address:
    """Read an address; `auto` is `$LRPILOT_ADDRESS`, or one daemon per user, host and storage.

    Raises:
        ValueError: it is malformed.
    """
    origin = "address"
    if address == "auto":
        address, origin = environ.get("LRPILOT_ADDRESS", "").strip() or "auto", "$LRPILOT_ADDRESS"
    if address == "auto":
        if not launcher.SUPPORTED:
            return Address(managed=True)
        return Address(rendezvous.socket_path(rendezvous.default_storage()), managed=True)
    if address.startswith("unix:"):
        return Address(_socket_file(address, origin))
    return _host_and_port(address, origin)


def _socket_file(address: str, origin: str) -> Path:
    name = address.removeprefix("unix:")
    if name.startswith("//"):
        name = name[2:]
    if not name or "\0" in name:
        raise ValueError(f"{origin}={address!r} names no socket file; allowed: {ALLOWED}")
    path = Path(os.path.abspath(Path(name).expanduser()))
    if len(os.fsencode(path)) > rendezvous.MAX_SOCKET_PATH:
        raise ValueError(
            f"{origin}={address!r}: the path of a unix socket has at most "
            f"{rendezvous.MAX_SOCKET_PATH} bytes, this one {len(os.fsencode(path))}"
        )
    return path


def _host_and_port(address: str, origin: str) -> Address:
    host, colon, port = address.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    host = host[1:-1] if bracketed else host
    numeric = port.isascii() and port.isdigit() and 0 < int(port) < 65536
    if not (colon and host and numeric) or (":" in host and not bracketed) or "/" in host:
        raise ValueError(f"{origin}={address!r} is malformed; allowed: {ALLOWED}")
    return Address(host=host, port=int(port))


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
    def target(self) -> str:
        """As grpc wants it."""
        return self.address.target

    @property
    def token_renewed(self) -> bool:
        """Whether there is another token now than the one that the daemon was shown."""
        return self.access is not None and self.access.renewed

    def find(self, give_up: Callable[[], bool] = lambda: False) -> Finding:
        """Look for the daemon; one that is ours is started and awaited, unless `give_up`."""
        if self.access is not None:
            self.why = self.access.trouble(self.address.host, self.address.port)
            return Finding.ABSENT if self.why else Finding.ANSWERS
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
