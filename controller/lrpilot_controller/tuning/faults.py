"""What is wrong with the file of trials, in one line for a person."""

import sqlite3
from pathlib import Path

from lrpilot_controller.errors import LRPilotError
from lrpilot_controller.tuning.studies import explain


def words_of(error: Exception, path: Path) -> str:
    """A fault in one line; Optuna wraps what is wrong, and SQLAlchemy adds lines to it."""
    if isinstance(error, LRPilotError):
        return str(error)
    root: BaseException = error
    while root.__cause__ is not None:
        root = root.__cause__
    if isinstance(root, sqlite3.Error):
        return explain(path, root)
    words = (str(root).splitlines() or [""])[0]
    advice = "; pip install 'lrpilot[controller]'" if isinstance(error, ImportError) else ""
    return f"{type(root).__name__}: {words}{advice}"
