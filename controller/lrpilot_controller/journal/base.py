"""The journal as a port: what a daemon writes down before it speaks, and what anyone may read."""

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from lrpilot_controller.core.events import Event
from lrpilot_controller.core.telemetry import Thinned
from lrpilot_controller.errors import JournalError, JournalUnavailable


class JournalSuperseded(JournalUnavailable):
    """A newer daemon has opened this journal for writing; this one must stop."""


class JournalEntryError(JournalError):
    """An entry that no journal can hold; nothing of its call was written."""


class JournalMissing(JournalError):
    """There is no journal at this place, and reading does not make one."""


class JournalCorrupt(JournalError):
    """The file is not a journal, or a record in it cannot be read."""


@dataclass(frozen=True, slots=True, order=True)
class RunKey:
    """A run's name, unique in one journal."""

    project: str
    name: str

    def __str__(self) -> str:
        return f"{self.project}/{self.name}"


@dataclass(frozen=True, slots=True)
class Record:
    """One event of a run.

    Attributes:
        n: The event's number within its run, from 1; gaps only where telemetry was thinned.
        at: Wall clock when the daemon took it in, unix seconds.
        event: What happened.
    """

    n: int
    at: float
    event: Event


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What an engine knew after a record: who has it need not read the records up to there.

    Attributes:
        n: The number of that record.
        at: When that record was taken in, unix seconds.
        state: The engine's state, in words of its own.
    """

    n: int
    at: float
    state: str


class Held(NamedTuple):
    """A record of telemetry: its number, how many items it covers, and whether all are there."""

    n: int
    items: int
    whole: bool


KEPT_CHECKPOINTS = 2  # of each run: should the newest be of no use, one is left

Entry = tuple[RunKey, float, Event]
"""What `append` takes: the run, the wall clock in unix seconds, the event."""


class Reader(Protocol):
    """The half of a journal that tells stories. Every method may be called by any thread."""

    def runs(self) -> list[RunKey]:
        """Every run, in order of its first appearance."""
        ...

    def records(
        self, run: RunKey, *, after: int = 0, kinds: Collection[type] | None = None
    ) -> Iterator[Record]:
        """The records of a run that exist when the iteration begins, in order.

        Args:
            run: A run that the journal does not know has no records.
            after: Only records with a higher number.
            kinds: Only events of these classes; the others are not even decoded. None: all.

        Raises:
            TypeError: `kinds` holds something that is not an event class.
            JournalUnavailable: It cannot be read now.
            JournalCorrupt: A record is damaged.
        """
        ...

    def across(
        self, kinds: Collection[type], newest_of: Collection[type], count: int
    ) -> Iterator[tuple[RunKey, list[Record]]]:
        """Some records of every run that has any of them, run by run; quick for many runs.

        Args:
            kinds: All events of these classes,
            newest_of: and of these others
            count: the newest so many of each run; in one order.

        Raises:
            As `records`.
        """
        ...


class Journal(Reader, Protocol):
    """Append-only events of many runs, numbered per run. Every method may be called by any thread.

    What was written is never changed, but old telemetry may be thinned, and a run be dropped.

    Attributes:
        generation: How often this journal has been opened for writing, from 1, or higher.
    """

    generation: int

    def outgrow(self, generation: int) -> None:
        """Raises the generation above this one, unless it is as high already.

        Raises:
            JournalUnavailable: It cannot be written now; nothing was.
        """
        ...

    def append(self, entries: Sequence[Entry]) -> list[int]:
        """Writes the entries in one transaction, all or nothing; unknown runs are created.

        Once it returns, the entries outlive the death of this process.

        Args:
            entries: In the order in which they happened.

        Returns:
            The number that each entry was given within its run.

        Raises:
            JournalUnavailable: It cannot be written now; nothing was.
            JournalEntryError: An entry cannot be stored by any journal; nothing was written.
        """
        ...

    def save_checkpoint(self, run: RunKey, n: int, state: str) -> None:
        """Keeps an engine's state as it was right after record `n`; the newest two are kept.

        Args:
            run: A run of this journal.
            n: The number of one of its records.
            state: Any text; one that was saved for the same record is replaced.

        Raises:
            JournalUnavailable: It cannot be written now; nothing was.
            JournalEntryError: There is no such record, or the text is not valid Unicode.
        """
        ...

    def newest(self, kinds: Collection[type]) -> list[tuple[RunKey, Record]]:
        """The newest record of these event classes of each run that has one; quick.

        Raises:
            TypeError: `kinds` holds something that is not an event class.
            JournalUnavailable: It cannot be read now.
            JournalCorrupt: A record is damaged.
        """
        ...

    def checkpoint(self, run: RunKey, *, before: int | None = None) -> Checkpoint | None:
        """The newest state that is kept of a run; None where there is none.

        Args:
            run: A run that the journal does not know has none.
            before: Only a state after this record or an earlier one.

        Raises:
            JournalUnavailable: It cannot be read now.
            JournalCorrupt: It is damaged.
        """
        ...

    def telemetry(self, run: RunKey) -> list[Held]:
        """Which records of a run hold telemetry, in order; none of it is read for this.

        Raises:
            JournalUnavailable: It cannot be read now.
        """
        ...

    def thin(self, run: RunKey, first: int, last: int, thinned: Thinned) -> None:
        """Replaces a run's telemetry by what is to be left of it; other records stay.

        Args:
            run: A run of this journal.
            first: The number of the first record that goes, if it is telemetry.
            last: The number of the last one, which is telemetry; `thinned` takes its place.
            thinned: What all of it covered.

        Raises:
            JournalUnavailable: It cannot be written now; nothing was.
            JournalEntryError: The last record is no telemetry of that attempt.
        """
        ...

    def last_seen(self) -> list[tuple[RunKey, float]]:
        """When the newest record of each run was taken in, the longest ago first.

        Raises:
            JournalUnavailable: It cannot be read now.
        """
        ...

    def forget(self, run: RunKey) -> None:
        """Drops a run with everything of it; a later one of its name begins anew.

        Raises:
            JournalUnavailable: It cannot be written now; nothing was.
        """
        ...

    def sweep(self) -> bool:
        """Gives back some of the room of what was dropped; whether there is more to do.

        Raises:
            JournalUnavailable: It cannot be written now.
        """
        ...

    def size(self) -> int:
        """Bytes that its records take, and what lies about them in the file; cheap to ask.

        Raises:
            JournalUnavailable: It cannot be read now.
        """
        ...

    def close(self) -> None:
        """Lets go of the file. Later calls raise JournalUnavailable; closing twice is harmless."""
        ...


def check_entry(run: RunKey, at: float) -> None:
    """Refuses what could be written by one journal but not by another.

    Raises:
        JournalEntryError: The time is not finite, or a name is not valid Unicode text.
    """
    if not math.isfinite(at):
        raise JournalEntryError(
            f"an entry of run {str(run)!r} has the time {at!r}; give finite unix seconds"
        )
    if "\0" in run.project or "\0" in run.name:
        raise JournalEntryError(f"the run name {str(run)!r} holds a NUL character; remove it")
    try:
        str(run).encode()
    except UnicodeEncodeError as error:
        raise JournalEntryError(
            f"the run name {str(run)!r} is not valid Unicode ({error.reason}); rename the run"
        ) from error


def not_telemetry(run: RunKey, n: int) -> JournalEntryError:
    """What thinning anything else is refused with."""
    return JournalEntryError(
        f"record {n} of run {str(run)!r} is not the telemetry that it was taken for; nothing was "
        "changed"
    )


def no_such_record(run: RunKey, n: int) -> JournalEntryError:
    """What a checkpoint of a record that is not there is refused with."""
    return JournalEntryError(
        f"run {str(run)!r} has no record {n}, so no state after it can be kept; append it first"
    )
