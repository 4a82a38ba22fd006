"""One thread that writes: whatever waits while a commit runs goes into the next commit together."""

import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future

from lrpilot_controller.errors import JournalUnavailable
from lrpilot_controller.journal.base import (
    Entry,
    Journal,
    JournalEntryError,
)

# A transaction costs as much as several records in it. A daemon of many runs would do little else,
# so it makes one per GAP_S on average; after a pause some go at once, for a few runs all of them.
GAP_S = 0.005
AT_ONCE = 5

_Submission = tuple[list[Entry], "Future[list[int]]"]


class JournalWriter:
    """Appends to a journal from one thread, in order of submission, several at a time.

    Any thread may submit. A submission cannot be taken back: cancelling its future does nothing,
    because the caller's other records may build on it.

    Args:
        journal: Where to append. The writer does not close it.
        group: The most submissions in one transaction.
    """

    def __init__(self, journal: Journal, *, group: int = 512) -> None:
        if group < 1:
            raise ValueError(f"a group holds at least 1 submission, not {group}")
        self._journal = journal
        self._group = group
        self._waiting: deque[_Submission] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._due = 0.0  # when the next transaction may begin
        self._thread = threading.Thread(target=self._run, name="lrpilot-journal", daemon=True)
        self._thread.start()

    def submit(self, entries: Sequence[Entry]) -> "Future[list[int]]":
        """Queues entries that must be written together.

        Returns:
            The number of each entry within its run, once they are durable. Fails with
            JournalUnavailable when the transaction that they were in failed (submit them again,
            or do not acknowledge them), or with JournalEntryError when these entries cannot be
            stored at all.

        Raises:
            JournalUnavailable: The writer was closed.
        """
        future: Future[list[int]] = Future()
        future.set_running_or_notify_cancel()
        with self._changed:
            if self._closed:
                raise JournalUnavailable("the journal's writer was closed; nothing is written now")
            self._waiting.append((list(entries), future))
            self._changed.notify()
        return future

    def close(self) -> None:
        """Writes what was submitted and ends the thread. Closing twice is harmless."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while group := self._next():
            self._commit(group)

    def _next(self) -> list[_Submission]:
        """What goes into the next transaction; empty once closed and drained."""
        with self._changed:
            while not self._waiting and not self._closed:
                self._changed.wait()
        now = time.monotonic()
        if now < self._due and not self._closed:
            time.sleep(self._due - now)
        self._due = max(self._due, now - AT_ONCE * GAP_S) + GAP_S
        with self._changed:
            return [self._waiting.popleft() for _ in range(min(self._group, len(self._waiting)))]

    def _commit(self, group: list[_Submission]) -> None:
        try:
            numbers = iter(self._journal.append([e for entries, _ in group for e in entries]))
            results = [[next(numbers) for _ in entries] for entries, _ in group]
        except JournalEntryError as error:
            if len(group) == 1:
                group[0][1].set_exception(error)
                return
            # One run's impossible entry must not cost the other runs their records.
            for submission in group:
                self._commit([submission])
        except Exception as error:
            failure = error
            if not isinstance(error, JournalUnavailable):
                failure = JournalUnavailable(f"the journal could not be written: {error!r}")
                failure.__cause__ = error
            for _, future in group:
                future.set_exception(failure)
        else:
            for (_, future), result in zip(group, results, strict=True):
                future.set_result(result)
