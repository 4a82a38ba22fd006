"""Where the daemon listens, and that it is the only one there."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lrpilot_controller.errors import ConfigError, DaemonExists
from lrpilot_proto.rendezvous import MAX_SOCKET_PATH, private_dir


@dataclass(frozen=True, slots=True)
class Address:
    """A unix socket, or a host and port."""

    path: Path | None = None
    host: str = ""
    port: int = 0

    @classmethod
    def parse(cls, text: str) -> "Address":
        """`unix:PATH` or `HOST:PORT`.

        Raises:
            ConfigError: neither of the two, or a path too long for a socket.
        """
        if text.startswith("unix:"):
            path = Path(text.removeprefix("unix:")).absolute()
            if len(os.fsencode(path)) > MAX_SOCKET_PATH:
                raise ConfigError(
                    f"--listen {text}: {len(os.fsencode(path))} bytes; a unix socket's path has "
                    f"at most {MAX_SOCKET_PATH}: choose a shorter one"
                )
            return cls(path=path)
        host, colon, port = text.rpartition(":")
        host = host.strip("[]")
        if not (colon and host and port.isdecimal() and int(port) < 65536):
            raise ConfigError(f"--listen {text}: 'unix:PATH' or 'HOST:PORT' is needed")
        return cls(host=host, port=int(port))

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"unix:{self.path}" if self.path else f"{host}:{self.port}"


@contextmanager
def sole_owner(lock: Path, what: str) -> Iterator[None]:
    """Hold `lock` while the body runs; the kernel lets go of it however the process ends.

    Raises:
        DaemonExists: another process holds it.
    """
    handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.pread(handle, 32, 0).decode().strip() or "unknown"
            raise DaemonExists(
                f"{what} is held by another LRPilot daemon (pid {pid}): use that one, stop it, "
                "or choose another --listen and --storage"
            ) from None
        os.truncate(handle, 0)
        os.pwrite(handle, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(handle)


def _check_closed(directory: Path) -> None:
    """The socket itself is 0600; nobody else may be able to put another one in its place.

    Raises:
        PermissionError: others can write to `directory`, and no directory above keeps them out.
    """
    for above in (directory, *directory.parents):
        status = above.stat()
        if status.st_uid == os.getuid() and not status.st_mode & 0o077:
            return
    mode = directory.stat().st_mode & 0o777
    if mode & 0o022:
        raise PermissionError(
            f"others can write to {directory} (mode {mode:04o}): choose a directory of mode 0700"
        )


@contextmanager
def socket_of(address: Address) -> Iterator[None]:
    """Own a unix address: a private directory, one daemon, and no stale socket file.

    A second gRPC server on one path silently steals it, hence the lock.

    Raises:
        DaemonExists: another daemon listens there.
        ConfigError: others can enter the directory.
    """
    if address.path is None:
        yield
        return
    try:
        if address.path.parent.exists():
            _check_closed(address.path.parent)
        else:
            private_dir(address.path.parent)
    except OSError as error:
        raise ConfigError(f"--listen {address}: {error}") from error
    with sole_owner(Path(f"{address.path}.lock"), f"socket {address.path}"):
        address.path.unlink(missing_ok=True)
        try:
            yield
        finally:
            address.path.unlink(missing_ok=True)
