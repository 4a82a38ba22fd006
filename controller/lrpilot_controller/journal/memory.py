"""A journal that lives and dies with its process: for tests and for runs inside one process."""

import threading
from collections.abc import Collection, Iterator, Sequence

from lrpilot_controller.errors import JournalUnavailable
from lrpilot_controller.journal.base import (
    KEPT_CHECKPOINTS,
    Checkpoint,
    Entry,
    Journal,
    Record,
    RunKey,
    check_entry,
    no_such_record,
)
from lrpilot_controller.journal.codec import encode, kind_names, pack_text


class MemoryJournal(Journal):
    """Keeps every record in a list. It refuses what a stored journal would refuse."""

    def __init__(self) -> None:
        self.generation = 1
        self._records: dict[RunKey, list[Record]] = {}
        self._checkpoints: dict[RunKey, dict[int, Checkpoint]] = {}
        self._lock = threading.Lock()
        self._closed = False

    def append(self, entries: Sequence[Entry]) -> list[int]:
        """See `Journal.append`."""
        for run, at, event in entries:
            check_entry(run, at)
            encode(event)
        numbers = []
        with self._lock:
            self._check_open()
            for run, at, event in entries:
                records = self._records.setdefault(run, [])
                records.append(Record(len(records) + 1, at, event))
                numbers.append(len(records))
        return numbers

    def runs(self) -> list[RunKey]:
        """See `Journal.runs`."""
        with self._lock:
            self._check_open()
            return list(self._records)

    def records(
        self, run: RunKey, *, after: int = 0, kinds: Collection[type] | None = None
    ) -> Iterator[Record]:
        """See `Journal.records`."""
        wanted = None if kinds is None else frozenset(kinds)
        kind_names(wanted or ())
        with self._lock:
            self._check_open()
            found = self._records.get(run, [])[max(after, 0) :]
        return (r for r in found if wanted is None or type(r.event) in wanted)

    def save_checkpoint(self, run: RunKey, n: int, state: str) -> None:
        """See `Journal.save_checkpoint`."""
        pack_text(state)
        with self._lock:
            self._check_open()
            records = self._records.get(run, [])
            if not 1 <= n <= len(records):
                raise no_such_record(run, n)
            kept = self._checkpoints.setdefault(run, {})
            kept[n] = Checkpoint(n, records[n - 1].at, state)
            for old in sorted(kept)[:-KEPT_CHECKPOINTS]:
                del kept[old]

    def checkpoint(self, run: RunKey, *, before: int | None = None) -> Checkpoint | None:
        """See `Journal.checkpoint`."""
        with self._lock:
            self._check_open()
            kept = self._checkpoints.get(run, {})
            fitting = [n for n in kept if before is None or n <= before]
            return kept[max(fitting)] if fitting else None

    def close(self) -> None:
        """See `Journal.close`."""
        with self._lock:
            self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise JournalUnavailable("this journal was closed; open another one")
