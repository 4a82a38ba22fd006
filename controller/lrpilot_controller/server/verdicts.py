"""A person's verdict on a decision: checked, recorded and told, with a daemon or without one."""

import time
from contextlib import closing
from pathlib import Path

from lrpilot_controller.core.events import Commanded, Decided
from lrpilot_controller.errors import NotFound, NotNow
from lrpilot_controller.journal.base import Reader, RunKey
from lrpilot_controller.journal.sql import SqlJournal
from lrpilot_controller.server.address import sole_owner
from lrpilot_controller.storage import Storage
from lrpilot_controller.story import find_run
from lrpilot_controller.story.model import word_of

MAX_TEXT = 1000  # of a person's name or reason, in the journal for ever


def find_decision(journal: Reader, run: RunKey, number: int) -> None:
    """Make sure that a run has a decision of this number.

    Raises:
        NotNow: it has none.
        JournalError: the journal cannot be read.
    """
    decided = [record.event for record in journal.records(run, kinds=[Decided])]
    numbers = {event.decision.id for event in decided if isinstance(event, Decided)}
    if number not in numbers:
        known = f"1 to {max(numbers)}" if numbers else "none"
        raise NotNow(
            f"run {run} has no decision {number} (its decisions: {known}); `lrpilot show {run}` "
            "lists them"
        )


def verdict_on(number: int, good: bool, who: str, why: str) -> Commanded:
    """A verdict as the journal keeps it."""
    return Commanded("verdict", who[:MAX_TEXT], why[:MAX_TEXT], decision_id=number, good=good)


def verdict_told(run: RunKey, command: Commanded) -> str:
    """What follows from a verdict, in a sentence."""
    word = word_of(bool(command.good))
    return (
        f"decision {command.decision_id} of run {run} is judged {word}: it counts as a "
        f"{'success' if command.good else 'failure'} for runs to come"
    )


def write_verdict(storage: Storage, run: str, command: Commanded) -> str:
    """Record a verdict where no daemon runs; what follows from it.

    Args:
        storage: whose journal.
        run: `project/name`, or `name` where that is unique.
        command: the verdict.

    Raises:
        NotFound: there is no journal, or no such run.
        NotNow: it has no such decision.
        DaemonExists: a daemon holds the journal, at another address than it was asked at.
        JournalError: it cannot be written.
    """
    place = storage.journal
    if isinstance(place, Path) and not place.exists():
        raise NotFound(f"no journal at {place}: no run has been recorded there yet")
    with sole_owner(storage.make_folder() / "daemon.lock", str(storage)):
        # Opening it to write would make one where there is none, and count as a daemon's start.
        with closing(SqlJournal.open(place, readonly=True)) as journal:
            key = find_run(journal, run)
            find_decision(journal, key, command.decision_id or 0)
        with closing(SqlJournal.open(place)) as journal:
            journal.append([(key, time.time(), command)])
    return verdict_told(key, command)
