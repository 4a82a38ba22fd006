"""Where a trainer and a daemon of one user, host and storage find each other without being told."""

import hashlib
import os
import tempfile
from pathlib import Path

# sun_path holds 104 bytes on macOS and 108 on Linux, the closing zero included.
MAX_SOCKET_PATH = 103


class NoHome(ValueError):
    """This user has no home directory, so that nothing can be found or kept there."""


def default_storage() -> Path:
    """The storage directory that is meant when none is named: `$XDG_STATE_HOME/lrpilot`.

    Raises:
        NoHome: neither that nor a home directory is known, as in some containers.
    """
    if state := os.environ.get("XDG_STATE_HOME"):
        return Path(state) / "lrpilot"
    try:
        return Path.home() / ".local" / "state" / "lrpilot"
    except RuntimeError:
        raise NoHome(
            f"uid {os.getuid()} has no home directory: set HOME, or XDG_STATE_HOME to a directory "
            "that is kept, or (for training) LRPILOT_ADDRESS to the daemon's"
        ) from None


def runtime_dir() -> Path:
    """The directory of the sockets: private to the user, mode 0700."""
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        return Path(runtime) / "lrpilot"
    return Path("/tmp") / f"lrpilot-{os.getuid()}"


def socket_path(storage: str | Path) -> Path:
    """The unix socket of the one daemon for `storage`, a directory or a database URL."""
    if "://" not in str(storage):
        storage = Path(storage).expanduser().resolve()
    name = hashlib.sha256(str(storage).encode()).hexdigest()[:16] + ".sock"
    path = runtime_dir() / name
    if len(os.fsencode(path)) > MAX_SOCKET_PATH:
        path = Path(tempfile.gettempdir()) / f"lrpilot-{os.getuid()}" / name
    return path


def private_dir(path: Path) -> Path:
    """Make `path` a directory that only its owner can enter.

    Raises:
        PermissionError: it exists and belongs to somebody else, or others can enter it.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = path.lstat()
    if status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise PermissionError(
            f"{path} must belong to uid {os.getuid()} with mode 0700, but has uid "
            f"{status.st_uid} and mode {status.st_mode & 0o777:04o}: chmod 700 it or remove it"
        )
    return path
