"""The append-only record of every run: the port, its two homes, and the thread that writes."""

from lrpilot_controller.errors import JournalError, JournalUnavailable, JournalVersionError
from lrpilot_controller.journal.base import (
    Checkpoint,
    Entry,
    Journal,
    JournalCorrupt,
    JournalEntryError,
    JournalMissing,
    JournalSuperseded,
    Record,
    RunKey,
)
from lrpilot_controller.journal.memory import MemoryJournal
from lrpilot_controller.journal.sql import SqlJournal
from lrpilot_controller.journal.writer import JournalWriter

__all__ = [
    "Checkpoint",
    "Entry",
    "Journal",
    "JournalCorrupt",
    "JournalEntryError",
    "JournalError",
    "JournalMissing",
    "JournalSuperseded",
    "JournalUnavailable",
    "JournalVersionError",
    "JournalWriter",
    "MemoryJournal",
    "Record",
    "RunKey",
    "SqlJournal",
]
