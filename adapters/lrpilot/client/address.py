"""Which daemon is meant."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from lrpilot.client import launcher
from lrpilot_proto import rendezvous

ALLOWED = "auto, unix:PATH or HOST:PORT"


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
