"""Where a journal is: a file, or a database by URL."""

import os
from pathlib import Path

from sqlalchemy import URL
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from lrpilot_controller.errors import JournalError
from lrpilot_controller.journal.database import Database
from lrpilot_controller.journal.postgres import PostgresDatabase
from lrpilot_controller.journal.sqlite import SqliteFile


def place_of(place: str | os.PathLike[str] | URL) -> Database:
    """The database that a path, or a URL of SQLite or PostgreSQL, names.

    Raises:
        JournalError: The URL is malformed, names another database system, or no database.
    """
    if not isinstance(place, URL):
        text = os.fspath(place)
        if "://" not in text:
            return SqliteFile(Path(text).expanduser().absolute())
        try:
            place = make_url(text)
        except (ArgumentError, ValueError):  # its words repeat the URL, which may hold a password
            raise JournalError("the journal URL is malformed; give a path") from None
    if place.get_backend_name() == "postgresql":
        return PostgresDatabase(place)
    if place.get_backend_name() != "sqlite":
        raise JournalError(
            f"the journal cannot be kept in {place.get_backend_name()!r}, only in SQLite or "
            "PostgreSQL; give a path, or a sqlite:/// or postgresql:// URL"
        )
    if not place.database or place.database == ":memory:" or place.query:
        raise JournalError(
            f"the journal URL {place.render_as_string()!r} must name a file and have no options; "
            "for a journal in memory use MemoryJournal"
        )
    return SqliteFile(Path(place.database).absolute())
