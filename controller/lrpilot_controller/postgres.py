"""PostgreSQL as the journal and the trials use it: connections, locks, and what its errors mean.

Sessions hold the locks, so a pooler that hands a session from one client to the next (PgBouncer's
transaction mode) must not be in between.
"""

import math
import os
import socket
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from sqlalchemy import URL, Engine, QueuePool, create_engine
from sqlalchemy.exc import DBAPIError

from lrpilot_controller.errors import ConfigError

Greeting = Callable[[Any], None]
"""What is done with a new connection of the driver before anybody else has it."""

DIALECT = "postgresql+psycopg://"

_LOCKS = 0x4C525031  # the first half of our advisory locks' keys
_POLL_S = 0.05

# Both ends notice within a minute that the other host is gone: a lock must not outlive it by hours.
_NETWORK = {
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}
_SETTINGS = {
    "tcp_keepalives_idle": 30,
    "tcp_keepalives_interval": 10,
    "tcp_keepalives_count": 3,
}

_ADVICE = {
    "28": "it does not let this user in: name the user in the URL and set PGPASSWORD or ~/.pgpass",
    "3D": "there is no such database: create it (createdb), or name another",
    "42501": "this user may not do that: GRANT CREATE on the database, or let it own the schemas",
    "25006": "it is read-only: name the primary, not a standby",
    "53100": "its disk is full: free some space there",
    "53300": "it has no connection left: raise max_connections, or close some",
    "53": "it is short of memory or disk",
    "55P03": "another session holds a lock on it: close whatever else works on its tables",
    "57": "it is shutting down or starting up: it is tried again",
    "58": "its disk failed: look at the server's log",
    "40": "the transaction lost to another one: it is tried again",
    "08": "the connection broke: it is tried again",
}


def connect(database: URL, schema: str, **how: Any) -> Engine:
    """An engine whose sessions see one schema of a database; nothing is connected yet.

    Args:
        database: A URL of PostgreSQL.
        schema: Need not be there.
        how: As `options`.

    Raises:
        ConfigError: The driver is not installed.
    """
    return create_engine(DIALECT, **options(database, schema, **how))


def options(
    database: URL,
    schema: str,
    *,
    timeout: float,
    readonly: bool = False,
    connections: int = 5,
    greeting: Greeting | None = None,
) -> dict[str, Any]:
    """What SQLAlchemy's `create_engine` takes beside `DIALECT`, which tells nobody a password.

    Args:
        database: A URL of PostgreSQL.
        schema: What unqualified names are looked for in.
        timeout: Seconds to wait for the server, for a lock, or for one of the connections.
        readonly: Each transaction sees the database as it was at its beginning, and changes none.
        connections: At most so many at once.
        greeting: Done with each new connection.

    Raises:
        ConfigError: The driver is not installed.
    """
    try:
        import psycopg
    except ImportError as error:
        raise ConfigError(
            f"a PostgreSQL database needs the driver psycopg ({error}): "
            "pip install 'lrpilot[postgresql]'"
        ) from error
    settings = {
        "search_path": schema,
        "lock_timeout": max(1, math.ceil(1000 * timeout)),
        **_SETTINGS,
    }
    if readonly:
        settings["default_transaction_read_only"] = "on"
    url = database.difference_update_query(["options"]).set(drivername="postgresql+psycopg")
    arguments, named = url.get_dialect()().create_connect_args(url)
    own = str(database.query.get("options", ""))
    words = [own] * bool(own) + [f"-c {name}={value}" for name, value in settings.items()]
    named = {
        **named,
        **_NETWORK,
        "options": " ".join(words),
        "connect_timeout": max(2, math.ceil(timeout)),
        "application_name": f"lrpilot, pid {os.getpid()} on {socket.gethostname()}"[:63],
    }

    def connection() -> Any:
        opened = psycopg.connect(*arguments, **named)
        try:
            if greeting is not None:
                greeting(opened)
                opened.commit()
        except BaseException:
            opened.close()
            raise
        return opened

    return {
        "creator": connection,
        "poolclass": QueuePool,
        "pool_size": connections,
        "max_overflow": 0,
        "pool_timeout": max(timeout, 1.0),
        "pool_pre_ping": True,  # the server may have been restarted
        "paramstyle": "format",
        "isolation_level": "REPEATABLE READ" if readonly else "READ COMMITTED",
    }


class Holder(NamedTuple):
    """A session that holds a lock: its number on the server, and as text who it is."""

    session: int
    words: str

    def __str__(self) -> str:
        return self.words


def take_lock(connection: Any, key: int, timeout: float) -> Holder | None:
    """Takes an advisory lock for as long as a connection of the driver lives.

    A process that was killed a moment ago may still be there for the server.

    Returns:
        None, or who holds it and goes on holding it.
    """
    deadline = time.monotonic() + timeout
    while True:
        (taken,) = connection.execute(
            "SELECT pg_try_advisory_lock(%s, %s)", (_LOCKS, key)
        ).fetchone()
        if taken:
            return None
        holder = connection.execute(_HOLDER, (_LOCKS, key)).fetchone()
        connection.rollback()
        if holder is not None and time.monotonic() >= deadline:  # else it has just let go
            return _holder(*holder)
        time.sleep(_POLL_S)


_HOLDER = """
SELECT pid, application_name, host(client_addr) FROM pg_locks LEFT JOIN pg_stat_activity USING (pid)
WHERE locktype = 'advisory' AND granted AND classid::bigint = %s AND objid::bigint = %s
AND pg_locks.database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


def _holder(session: int, application: str | None, address: str | None) -> Holder:
    where = f" from {address}" if address else ""
    how = f"(to end it: SELECT pg_terminate_backend({session}))"
    return Holder(session, f"{application or 'a session'}{where} {how}")


def trouble(error: BaseException) -> tuple[str, bool]:
    """What an error of the driver says and what to do, in a line; and whether it may pass."""
    root = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    state = getattr(root, "sqlstate", None)
    said = next((line.strip() for line in str(root).splitlines() if line.strip()), repr(root))
    if state is None:
        said = " ".join(str(root).split())
        return f"it cannot be reached: is the server up, and the URL right? ({said})", True
    for prefix in (state, state[:2]):
        if (advice := _ADVICE.get(prefix)) is not None:
            return f"{advice} ({said}, SQLSTATE {state})", True
    return f"{said} (SQLSTATE {state})", False
