"""The trials in a schema of a PostgreSQL database."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy import URL, Connection, Engine, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from lrpilot_controller import postgres
from lrpilot_controller.storage import shown
from lrpilot_controller.tuning.places import TrialsUnavailable, of_this_version

if TYPE_CHECKING:
    from optuna.storages import RDBStorage

SCHEMA = "lrpilot_optuna"

_NEW = f"{SCHEMA}_new"
_LOCK = 2
_READ_S = 2.0
_CONNECTIONS = 10  # a dashboard has a thread per request
_IDENTITY = text("SELECT oid FROM pg_namespace WHERE nspname = :schema")


class TrialsDatabase:
    """See `Place`."""

    def __init__(self, url: URL) -> None:
        self.name = f"the schema {SCHEMA} of {shown(url)}"
        self._url = url
        self._own: Engine | None = None  # its one connection has the writer's lock

    def identity(self) -> int | None:
        """See `Place.identity`: the number of the schema."""
        with self._told(), self._connected(_READ_S) as connection:
            return _identity(connection)

    def moved(self, identity: int | None) -> bool:
        """See `Place.moved`: only the server knows whether what was found is still there."""
        return identity is None

    @contextmanager
    def sole_writer(self, timeout_s: float) -> Iterator[None]:
        """See `Place.sole_writer`: a lock that is taken again where the connection broke."""

        def take(connection: Any) -> None:
            if (holder := postgres.take_lock(connection, _LOCK, timeout_s)) is not None:
                raise TrialsUnavailable(
                    f"{self.name} is being written by another LRPilot process, which will do: "
                    f"{holder}"
                )

        own = postgres.connect(self._url, SCHEMA, timeout=timeout_s, connections=1, greeting=take)
        try:
            with self._told(), own.connect():
                self._own = own
            yield
        finally:
            self._own = None
            own.dispose()

    def open(self, timeout_s: float, *, create: bool) -> "RDBStorage":
        """See `Place.open`."""
        with self._told(), self._connected(timeout_s) as connection:
            there = _identity(connection) is not None
        if create and not there:
            with self._told():
                self._create(timeout_s)
        self.check_writable(timeout_s)
        return self.open_to_read(timeout_s)

    def open_to_read(self, timeout_s: float) -> "RDBStorage":
        """See `Place.open_to_read`."""
        return self._storage(SCHEMA, timeout_s)

    def check_writable(self, timeout_s: float) -> None:
        """See `Place.check_writable`: takes the lock of who writes once."""
        with self._told(), self._connected(timeout_s) as connection:
            connection.execute(text(f"LOCK TABLE {SCHEMA}.trials IN ROW EXCLUSIVE MODE"))

    def explain(self, error: BaseException) -> str | None:
        """See `Place.explain`."""
        if not isinstance(error, DBAPIError) and not hasattr(error, "sqlstate"):
            return None
        return f"{self.name} cannot be used: {postgres.trouble(error)[0]}"

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except SQLAlchemyError as error:
            raise TrialsUnavailable(self.explain(error) or f"{self.name}: {error}") from error

    @contextmanager
    def _connected(self, timeout_s: float) -> Iterator[Connection]:
        if self._own is not None:
            with self._own.begin() as connection:
                yield connection
            return
        engine = postgres.connect(self._url, SCHEMA, timeout=timeout_s, connections=1)
        try:
            with engine.begin() as connection:
                yield connection
        finally:
            engine.dispose()

    def _create(self, timeout_s: float) -> None:
        """Under another name first: a dashboard must not find half of its tables."""
        with self._connected(timeout_s) as connection:
            connection.execute(text(f"DROP SCHEMA IF EXISTS {_NEW} CASCADE"))
            connection.execute(text(f"CREATE SCHEMA {_NEW}"))
        storage = self._storage(_NEW, timeout_s)
        storage.remove_session()
        storage.engine.dispose()
        with self._connected(timeout_s) as connection:
            connection.execute(text(f"ALTER SCHEMA {_NEW} RENAME TO {SCHEMA}"))

    def _storage(self, schema: str, timeout_s: float) -> "RDBStorage":
        from optuna.storages import RDBStorage

        # Optuna keeps the URL that it is given, and may tell it.
        how = postgres.options(self._url, schema, timeout=timeout_s, connections=_CONNECTIONS)
        made = RDBStorage(postgres.DIALECT, engine_kwargs=how, skip_compatibility_check=True)
        return of_this_version(made, self.name)


def _identity(connection: Connection) -> int | None:
    found = connection.scalar(_IDENTITY, {"schema": SCHEMA})
    return None if found is None else int(found)
