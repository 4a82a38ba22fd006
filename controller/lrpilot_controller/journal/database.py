"""What a database system must do to hold a journal, beside the SQL that all of them speak."""

from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

from sqlalchemy import Connection, Engine


class Lines(NamedTuple):
    """Engines on a journal's database: `writer` is None where it is only read."""

    reader: Engine
    writer: Engine | None

    def close(self) -> None:
        """Closes every connection."""
        self.reader.dispose()
        if self.writer is not None:
            self.writer.dispose()


class Database(Protocol):
    """A place for a journal.

    Attributes:
        name: how a person calls it; it holds no password.
    """

    name: str

    def connect(self, *, readonly: bool, timeout: float) -> Lines:
        """Lines to it. A transaction on the writer keeps every other writer out until its end.

        Args:
            readonly: to read what is there; else it is made where there is none.
            timeout: seconds to wait for a lock.

        Raises:
            JournalMissing: reading, and there is none.
            JournalUnavailable: it cannot be reached, made or written.
        """
        ...

    def explained(self, doing: str) -> AbstractContextManager[None]:
        """Turns its errors within the body into ones that say what to do."""
        ...

    def tables(self, connection: Connection) -> set[str]:
        """The tables that are there."""
        ...

    def prepare(self, writer: Engine, *, empty: bool) -> None:
        """What comes before the tables of a new journal, or before another use of an old one."""
        ...

    def shrink(self, connection: Connection) -> bool:
        """Gives back room within one transaction; whether there is more to give back."""
        ...

    def size(self, connection: Connection) -> int:
        """Bytes that the journal takes, to judge by whether something must be dropped."""
        ...

    def on_disk(self) -> int:
        """Bytes on its disk, told without waiting for a network.

        Raises:
            OSError: the disk cannot be looked at.
        """
        ...

    def free(self) -> float:
        """Bytes that its disk has left; infinite where that cannot be known.

        Raises:
            OSError: the disk cannot be looked at.
        """
        ...
