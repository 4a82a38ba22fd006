"""Options that several commands share, and the journal that they read."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from lrpilot_controller.errors import NotFound
from lrpilot_controller.journal.base import JOURNAL
from lrpilot_controller.journal.sql import SqlJournal
from lrpilot_proto.rendezvous import default_storage

F = TypeVar("F", bound=Callable[..., Any])


def storage_option(command: F) -> F:
    """`--storage DIR`."""
    return click.option(
        "--storage",
        type=click.Path(file_okay=False, path_type=Path),
        metavar="DIR",
        help="The daemon's storage. Default: the user's own.",
    )(command)


def json_option(command: F) -> F:
    """`--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


@contextmanager
def journal_in(storage: Path | None) -> Iterator[SqlJournal]:
    """The journal of a storage directory, to read; it works beside a running daemon.

    Raises:
        NotFound: there is none.
        JournalError: it cannot be read.
    """
    path = (storage or default_storage()) / JOURNAL
    if not path.exists():
        told = "no run has been recorded there yet, or --storage names another directory"
        if storage is None and (address := os.environ.get("LRPILOT_ADDRESS", "auto")) != "auto":
            told = (
                f"this command reads the files of a daemon, and the one at {address} keeps them "
                "elsewhere: give its --storage on its host; from another, use `lrpilot watch`"
            )
        raise NotFound(f"no journal at {path}: {told}")
    journal = SqlJournal.open(path, readonly=True)
    try:
        yield journal
    finally:
        journal.close()
