"""The tokens that a daemon knows: a file of hashes, read anew whenever it changes."""

import fcntl
import hashlib
import hmac
import logging
import os
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from lrpilot_controller.errors import ConfigError
from lrpilot_controller.server.identity import Identity, Role

log = logging.getLogger(__name__)

FILE = "tokens.jsonl"
PREFIX = "lrp_"  # a secret scanner, or a person, can tell what it is
DAY_S = 86400
NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"


class Entry(BaseModel):
    """One line of the file. The secret has 256 bits of chance, so that a plain hash keeps it.

    Attributes:
        projects: None: all, which a trainer's may not be.
        expires: unix seconds; None: never.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(pattern=NAME)]
    role: Literal["trainer", "viewer", "operator"]
    projects: tuple[str, ...] | None = None
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    created: float
    expires: float | None = None

    @field_validator("name")
    @classmethod
    def _own_name(cls, name: str) -> str:
        if name in set(Role):
            raise ValueError(f"{', '.join(Role)} are names of roles")
        return name

    @model_validator(mode="after")
    def _own_project(self) -> Self:
        if self.role == "trainer" and not self.projects:
            raise ValueError("a trainer's token names its projects: --project P")
        return self

    @property
    def identity(self) -> Identity:
        """Who shows it."""
        projects = None if self.projects is None else frozenset(self.projects)
        return Identity(self.name, Role(self.role), projects)

    def expired(self, now: float) -> bool:
        """Whether it is no longer to be accepted."""
        return self.expires is not None and now >= self.expires


def new_secret() -> str:
    """A token that nobody has."""
    return PREFIX + secrets.token_urlsafe(32)


def hashed(secret: str) -> str:
    """What the file holds of a token."""
    return hashlib.sha256(secret.encode()).hexdigest()


def read(path: Path) -> tuple[Entry, ...]:
    """The entries of a token file; none where it does not exist.

    Raises:
        ConfigError: others can read or write it, or a line is no entry.
    """
    try:
        with path.open() as file:
            status = os.fstat(file.fileno())
            text = file.read()
    except FileNotFoundError:
        return ()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"token file {path}: {error}") from error
    if status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise ConfigError(
            f"token file {path} must belong to uid {os.getuid()} with mode 0600, but has uid "
            f"{status.st_uid} and mode {status.st_mode & 0o777:04o}: chmod 600 {path}"
        )
    entries = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                entries.append(Entry.model_validate_json(line))
            except ValidationError as error:
                wrong = _told(error)
                raise ConfigError(f"token file {path}, line {number}: {wrong}") from None
    return tuple(entries)


def _told(error: ValidationError) -> str:
    """What is wrong; not in the error's own words, which would hold the line itself."""
    return "; ".join(
        ".".join(map(str, one["loc"]))
        + (": " if one["loc"] else "")
        + one["msg"].removeprefix("Value error, ")
        for one in error.errors(include_input=False, include_url=False)
    )


def write(path: Path, entries: Sequence[Entry]) -> None:
    """Put a whole new file in the place of the old one: a daemon never reads half of it.

    Raises:
        ConfigError: it cannot be written.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.writelines(entry.model_dump_json() + "\n" for entry in entries)
        part.replace(path)
    except OSError as error:
        raise ConfigError(f"token file {path}: {error}") from error


class Tokens:
    """The entries of a file as they are now.

    An edit that cannot be read, and a file that vanished, leave the last good entries in force:
    a slip of the pen must not end every session. To revoke all, empty the file.

    Raises:
        ConfigError: the file cannot be read at the start.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen = self._stamp()
        self._entries = read(path)

    @property
    def empty(self) -> bool:
        """Whether there is none."""
        return not self._entries

    def find(self, secret: str) -> Entry | None:
        """The entry of a token; takes as long for one that is known as for one that is not."""
        self.refresh()
        return self.by_hash(hashed(secret))

    def by_hash(self, sha256: str) -> Entry | None:
        """The entry with this hash."""
        found = None
        for entry in self._entries:
            if hmac.compare_digest(entry.sha256, sha256):
                found = entry
        return found

    def refresh(self) -> None:
        """Read the file again if it is another one than before."""
        stamp = self._stamp()
        if stamp == self._seen:
            return
        self._seen = stamp
        if stamp is None:
            log.error("token file %s is gone: the tokens that it held stay valid", self._path)
            return
        try:
            self._entries = read(self._path)
        except ConfigError as error:
            log.error("%s; the tokens that it held before stay valid", error)
        else:
            log.info("token file %s was read again: %d tokens", self._path, len(self._entries))

    def _stamp(self) -> tuple[int, ...] | None:
        try:
            status = self._path.stat()
        except OSError:
            return None
        return (status.st_mtime_ns, status.st_ino, status.st_size, status.st_mode)


def create(path: Path, name: str, role: str, projects: Sequence[str], days: float | None) -> str:
    """Add a token; returns its secret, which is nowhere else.

    Raises:
        ConfigError: the name is taken or malformed, or the file cannot be used.
    """
    now, secret = time.time(), new_secret()
    try:
        entry = Entry.model_validate(
            {
                "name": name,
                "role": role,
                "projects": tuple(projects) or None,
                "sha256": hashed(secret),
                "created": now,
                "expires": None if days is None else now + days * DAY_S,
            }
        )
    except ValidationError as error:
        raise ConfigError(f"token {name!r}: {_told(error)}") from None
    with _alone(path):
        entries = read(path)
        if any(other.name == name for other in entries):
            raise ConfigError(
                f"there is a token {name!r} already: choose another name, or "
                f"`lrpilot token rotate {name}` for a new secret"
            )
        write(path, [*entries, entry])
    return secret


def rotate(path: Path, name: str, overlap_s: float) -> str:
    """Give a token a new secret, valid for as long as the old one was made for.

    The old one is valid for `overlap_s` longer.

    Raises:
        ConfigError: there is no such token, or the file cannot be used.
    """
    now, secret = time.time(), new_secret()
    with _alone(path):
        entries = read(path)
        old = _named(entries, name, path)[-1]
        last = now + overlap_s
        kept = [
            entry
            if entry.name != name
            else entry.model_copy(update={"expires": min(entry.expires or last, last)})
            for entry in entries
        ]
        lifetime = None if old.expires is None else now + old.expires - old.created
        fresh = {"sha256": hashed(secret), "created": now, "expires": lifetime}
        write(path, [*(e for e in kept if not e.expired(now)), old.model_copy(update=fresh)])
    return secret


def revoke(path: Path, name: str) -> None:
    """Take a token back.

    Raises:
        ConfigError: there is no such token, or the file cannot be used.
    """
    with _alone(path):
        entries = read(path)
        _named(entries, name, path)
        write(path, [entry for entry in entries if entry.name != name])


def _named(entries: Sequence[Entry], name: str, path: Path) -> list[Entry]:
    """The entries of a name, oldest first."""
    found = [entry for entry in entries if entry.name == name]
    if not found:
        known = ", ".join(sorted({entry.name for entry in entries})) or "none"
        raise ConfigError(f"no token {name!r} in {path}; there are: {known}")
    return found


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """One change at a time: a revocation must not be undone by a token made beside it."""
    try:
        folder = os.open(path.parent, os.O_RDONLY)
    except OSError as error:
        raise ConfigError(f"token file {path}: {error}") from error
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)
