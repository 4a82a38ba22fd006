"""Where a daemon keeps what it records: a directory, or a PostgreSQL database by URL."""

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import URL
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.util import immutabledict

from lrpilot_controller.errors import ConfigError
from lrpilot_proto.rendezvous import default_storage, private_dir, socket_path

JOURNAL = "journal.db"
TRIALS = "optuna.db"
ARTIFACTS = "artifacts"

_SHOWN = {"host", "port"}  # of a URL's options; others may be secret


@dataclass(frozen=True, slots=True)
class Storage:
    """What `--storage` names. As text it never holds a password.

    Attributes:
        folder: what is kept in files whatever the database: tokens, certificates, artifacts.
        database: journal and trials, in a schema each; None: they are files of the folder.
    """

    folder: Path
    database: URL | None = None

    @classmethod
    def parse(cls, text: str) -> "Storage":
        """A directory, or `postgresql://[USER[:PASSWORD]@]HOST[:PORT]/DATABASE`.

        Raises:
            ConfigError: a URL that is malformed, or of another database system.
        """
        if "://" not in text:
            return cls(Path(text).expanduser().absolute())
        return cls.of(_database(text))

    @classmethod
    def of(cls, database: URL) -> "Storage":
        """A database's storage. Its folder is the same whoever logs in, with whatever password."""
        place = database._replace(username=None, password=None, query=_shown(database))
        stem = socket_path(place.render_as_string()).stem
        return cls(default_storage().absolute() / "databases" / stem, database)

    @classmethod
    def default(cls) -> "Storage":
        """The user's own: a directory."""
        return cls(default_storage().absolute())

    @property
    def journal(self) -> Path | URL:
        """Where the journal is."""
        return self.folder / JOURNAL if self.database is None else self.database

    @property
    def socket(self) -> Path:
        """The unix socket of the one daemon of this user for it."""
        return socket_path(self.folder)

    def make_folder(self) -> Path:
        """Makes the folder where there is none, and whatever is missing above it, private.

        Raises:
            OSError: It cannot be made.
        """
        missing = [path for path in (self.folder, *self.folder.parents) if not path.exists()]
        for path in reversed(missing):
            private_dir(path)
        return self.folder

    def __str__(self) -> str:
        return str(self.folder) if self.database is None else shown(self.database)


def shown(database: URL) -> str:
    """A database's URL for a person to read: without its password, and any option but where."""
    return database._replace(password=None, query=_shown(database)).render_as_string()


def _shown(database: URL) -> "immutabledict[str, tuple[str, ...] | str]":
    return immutabledict({key: at for key, at in database.query.items() if key in _SHOWN})


def _database(text: str) -> URL:
    # The text itself may hold a password, so no message repeats it.
    scheme = text.partition("://")[0]
    if scheme.partition("+")[0] not in ("postgresql", "postgres"):
        raise ConfigError(
            f"--storage {scheme}://...: a directory, or postgresql://USER@HOST/DATABASE is needed"
        )
    try:
        url = make_url(text).set(drivername="postgresql")
    except (ArgumentError, ValueError):
        url = None
    if url is None or not url.database:
        raise ConfigError(
            f"--storage {scheme}://...: it is malformed; it is postgresql://USER@HOST:PORT/DATABASE"
            ", special characters in a password as %XX (or leave it out, and set PGPASSWORD or "
            "~/.pgpass)"
        ) from None
    if (secret := url.query.get("password")) is not None:
        url = url.difference_update_query(["password"]).set(password=str(secret))
    return url
