"""One thread that writes: whatever waits while a commit runs goes into the next commit together."""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple, TypeVar

from lrpilot_controller.buckets import Buckets
from lrpilot_controller.errors import JournalError, JournalUnavailable
from lrpilot_controller.journal.base import (
    Entry,
    Journal,
    JournalEntryError,
    JournalSuperseded,
    RunKey,
)

T = TypeVar("T")

# A transaction costs as much as several records in it. A daemon of many runs would do little else,
# so it makes one per GAP_S on average; after a pause some go at once, for a few runs all of them.
# The more runs wait for one, the longer it may take: up to GAP_MAX_S.
GAP_S, GAP_MAX_S = 0.005, 0.04
AT_ONCE = 5


class _Appending(NamedTuple):
    """Entries that must be written together."""

    entries: list[Entry]
    future: "Future[list[int]] | asyncio.Future[list[int]]"


class _Call(NamedTuple):
    """Another piece of work on the journal; its place is between two transactions."""

    work: Callable[[], Any]
    future: "Future[Any]"


class JournalWriter:
    """Appends to a journal from one thread, in order of submission, several at a time.

    Any thread may submit. A submission cannot be taken back: cancelling its future does nothing,
    because the caller's other records may build on it.

    Args:
        journal: Where to append. The writer does not close it.
        group: The most submissions in one transaction.

    Attributes:
        superseded: has a result once another daemon has the journal: nothing is written any more.
    """

    def __init__(self, journal: Journal, *, group: int = 512) -> None:
        if group < 1:
            raise ValueError(f"a group holds at least 1 submission, not {group}")
        self._journal = journal
        self._group = group
        self._waiting: deque[_Appending | _Call] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self.superseded: Future[JournalSuperseded] = Future()
        self.commits = Buckets()
        self.failures = 0
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
        self._enqueue(_Appending(list(entries), future))
        return future

    async def append(self, entries: Sequence[Entry]) -> list[int]:
        """Like `submit`, and waits: for an event loop, which is woken once for a whole group."""
        future: asyncio.Future[list[int]] = asyncio.get_running_loop().create_future()
        self._enqueue(_Appending(list(entries), future))
        return await future

    def save_checkpoint(self, run: RunKey, n: int, state: str) -> "Future[None]":
        """Queues an engine's state behind what was submitted before; see `Journal`.

        Returns:
            Done once the state is durable. Fails as `Journal.save_checkpoint` does; that costs
            nothing that was submitted beside it.

        Raises:
            JournalUnavailable: The writer was closed.
        """
        return self.call(partial(self._journal.save_checkpoint, run, n, state))

    def call(self, work: Callable[[], T]) -> "Future[T]":
        """Queues another piece of work on the journal; nothing is written while it runs.

        Returns:
            Its result. Fails with a JournalError of the work's own, else with JournalUnavailable.

        Raises:
            JournalUnavailable: The writer was closed.
        """
        future: Future[T] = Future()
        future.set_running_or_notify_cancel()
        self._enqueue(_Call(work, future))
        return future

    def close(self) -> None:
        """Writes what was submitted and ends the thread. Closing twice is harmless."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _enqueue(self, submission: _Appending | _Call) -> None:
        with self._changed:
            if self._closed:
                raise JournalUnavailable("the journal's writer was closed; nothing is written now")
            self._waiting.append(submission)
            self._changed.notify()

    def _run(self) -> None:
        while (group := self._next()) is not None:
            if isinstance(group, _Call):
                self._do(group)
            else:
                self._commit(group)

    def _next(self) -> list[_Appending] | _Call | None:
        """What goes into the next transaction; None once closed and drained."""
        with self._changed:
            while not self._waiting and not self._closed:
                self._changed.wait()
        now = time.monotonic()
        if now < self._due and not self._closed:
            time.sleep(self._due - now)
        with self._changed:
            gap = min(GAP_S * max(1.0, len(self._waiting) / 2), GAP_MAX_S)
            self._due = max(self._due, now - AT_ONCE * GAP_S) + gap
            return self._take() if self._waiting else None

    def _take(self) -> list[_Appending] | _Call:
        """All that may be written together. A call waits until what is before it is written."""
        first = self._waiting.popleft()
        if isinstance(first, _Call):
            return first
        group = [first]
        while self._waiting and len(group) < self._group:
            if isinstance(other := self._waiting[0], _Call):
                break
            self._waiting.popleft()
            group.append(other)
        return group

    def _commit(self, group: list[_Appending]) -> None:
        results: list[list[int]] | JournalError
        try:
            began = time.perf_counter()
            numbers = iter(self._journal.append([e for entries, _ in group for e in entries]))
            self.commits.add(time.perf_counter() - began)
            results = [[next(numbers) for _ in entries] for entries, _ in group]
        except JournalEntryError as error:
            if len(group) > 1:
                # One run's impossible entry must not cost the other runs their records.
                for submission in group:
                    self._commit([submission])
                return
            results = error
        except Exception as error:
            self.failures += 1
            self._look_at(error)
            results = error if isinstance(error, JournalUnavailable) else _unavailable(error)
        _hand_back(group, results)

    def _do(self, call: _Call) -> None:
        try:
            result = call.work()
        except Exception as error:
            self._look_at(error)
            call.future.set_exception(
                error if isinstance(error, JournalError) else _unavailable(error)
            )
        else:
            call.future.set_result(result)

    def _look_at(self, error: Exception) -> None:
        if isinstance(error, JournalSuperseded) and not self.superseded.done():
            self.superseded.set_result(error)


def _hand_back(group: list[_Appending], results: list[list[int]] | JournalError) -> None:
    """Tell everybody who waits; a loop is woken once, however many wait on it."""
    on_loops: dict[asyncio.AbstractEventLoop, list[Callable[[], None]]] = {}
    for place, (_, future) in enumerate(group):
        result = results[place] if isinstance(results, list) else results
        if isinstance(future, asyncio.Future):
            on_loops.setdefault(future.get_loop(), []).append(partial(_settle, future, result))
        else:
            _settle(future, result)
    for loop, settlements in on_loops.items():
        with suppress(RuntimeError):  # it is closed: nobody waits any more
            loop.call_soon_threadsafe(_all, settlements)


def _all(calls: list[Callable[[], None]]) -> None:
    for call in calls:
        call()


def _settle(
    future: "Future[list[int]] | asyncio.Future[list[int]]", result: list[int] | JournalError
) -> None:
    if future.done():
        return  # who waited on a loop was cut off
    if isinstance(result, JournalError):
        future.set_exception(result)
    else:
        future.set_result(result)


def _unavailable(error: Exception) -> JournalUnavailable:
    failure = JournalUnavailable(f"the journal could not be written: {error!r}")
    failure.__cause__ = error
    return failure
