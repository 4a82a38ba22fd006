"""Options that several commands share, and the journal that they read."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from lrpilot_controller.errors import NotFound
from lrpilot_controller.journal.base import JournalMissing
from lrpilot_controller.journal.sql import SqlJournal
from lrpilot_controller.storage import Storage

F = TypeVar("F", bound=Callable[..., Any])


class _Storage(click.ParamType[Storage]):
    name = "storage"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Storage:
        """What the text names; a directory that is a file is told at once."""
        if isinstance(value, Storage):
            return value
        storage = Storage.parse(value)
        if storage.folder.is_file():
            self.fail(f"Directory {value!r} is a file.", param, ctx)
        return storage


def storage_option(command: F) -> F:
    """`--storage DIR|URL`: a `Storage`, or None."""
    return click.option(
        "--storage",
        type=_Storage(),
        metavar="DIR|URL",
        help="The daemon's storage. Default: the user's own.",
    )(command)


def json_option(command: F) -> F:
    """`--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


@contextmanager
def journal_in(storage: Storage | None) -> Iterator[SqlJournal]:
    """The journal of a storage, to read; it works beside a running daemon.

    Raises:
        NotFound: there is none.
        JournalError: it cannot be read.
    """
    place = (storage or Storage.default()).journal
    if isinstance(place, Path) and not place.exists():
        told = "no run has been recorded there yet, or --storage names another directory"
        if storage is None and (address := os.environ.get("LRPILOT_ADDRESS", "auto")) != "auto":
            told = (
                f"this command reads the files of a daemon, and the one at {address} keeps them "
                "elsewhere: give its --storage on its host; from another, use `lrpilot watch`"
            )
        raise NotFound(f"no journal at {place}: {told}")
    try:
        journal = SqlJournal.open(place, readonly=True)
    except JournalMissing as error:
        raise NotFound(str(error)) from error
    try:
        yield journal
    finally:
        journal.close()
