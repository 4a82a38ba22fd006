"""A journal that lives and dies with its process: for tests and for runs inside one process."""

import threading
from collections.abc import Collection, Iterator, Sequence

from lrpilot_controller.core.telemetry import Samples, Thinned
from lrpilot_controller.errors import JournalUnavailable
from lrpilot_controller.journal.base import (
    KEPT_CHECKPOINTS,
    Checkpoint,
    Entry,
    Held,
    Journal,
    Record,
    RunKey,
    check_entry,
    no_such_record,
    not_telemetry,
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

    def outgrow(self, generation: int) -> None:
        """See `Journal.outgrow`."""
        with self._lock:
            if self.generation < generation:
                self.generation = generation + 1

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
                records.append(Record(records[-1].n + 1 if records else 1, at, event))
                numbers.append(records[-1].n)
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
            found = list(self._records.get(run, []))
        return (r for r in found if r.n > after and (wanted is None or type(r.event) in wanted))

    def newest(self, kinds: Collection[type]) -> list[tuple[RunKey, Record]]:
        """See `Journal.newest`."""
        found = ((run, list(self.records(run, kinds=kinds))) for run in self.runs())
        return [(run, records[-1]) for run, records in found if records]

    def across(
        self, kinds: Collection[type], newest_of: Collection[type], count: int
    ) -> Iterator[tuple[RunKey, list[Record]]]:
        """See `Reader.across`."""
        for run in self.runs():
            found = [*self.records(run, kinds=kinds)]
            found += [*self.records(run, kinds=newest_of)][-count:]
            if found:
                yield run, sorted(found, key=lambda record: record.n)

    def save_checkpoint(self, run: RunKey, n: int, state: str) -> None:
        """See `Journal.save_checkpoint`."""
        pack_text(state)
        with self._lock:
            self._check_open()
            at = next((r.at for r in self._records.get(run, []) if r.n == n), None)
            if at is None:
                raise no_such_record(run, n)
            kept = self._checkpoints.setdefault(run, {})
            kept[n] = Checkpoint(n, at, state)
            for old in sorted(kept)[:-KEPT_CHECKPOINTS]:
                del kept[old]

    def checkpoint(self, run: RunKey, *, before: int | None = None) -> Checkpoint | None:
        """See `Journal.checkpoint`."""
        with self._lock:
            self._check_open()
            kept = self._checkpoints.get(run, {})
            fitting = [n for n in kept if before is None or n <= before]
            return kept[max(fitting)] if fitting else None

    def telemetry(self, run: RunKey) -> list[Held]:
        """See `Journal.telemetry`."""
        return [
            Held(r.n, r.event.next_seq - r.event.first_seq, isinstance(r.event, Samples))
            for r in self.records(run, kinds=[Samples, Thinned])
            if isinstance(r.event, Samples | Thinned)
        ]

    def thin(self, run: RunKey, first: int, last: int, thinned: Thinned) -> None:
        """See `Journal.thin`."""
        encode(thinned)
        with self._lock:
            self._check_open()
            kept = []
            for record in self._records.get(run, []):
                if record.n == last and _is_telemetry(record, thinned.attempt):
                    kept.append(Record(last, record.at, thinned))
                elif not (first <= record.n < last and _is_telemetry(record, thinned.attempt)):
                    kept.append(record)
            if not any(record.event is thinned for record in kept):
                raise not_telemetry(run, last)
            self._records[run] = kept

    def last_seen(self) -> list[tuple[RunKey, float]]:
        """See `Journal.last_seen`."""
        with self._lock:
            self._check_open()
            found = [(run, records[-1].at) for run, records in self._records.items()]
        return sorted(found, key=lambda seen: seen[1])

    def forget(self, run: RunKey) -> None:
        """See `Journal.forget`."""
        with self._lock:
            self._check_open()
            self._records.pop(run, None)
            self._checkpoints.pop(run, None)

    def sweep(self) -> bool:
        """See `Journal.sweep`; nothing is left lying about here."""
        self._check_open()
        return False

    def size(self) -> int:
        """See `Journal.size`; as many bytes as the rows of a stored one."""
        with self._lock:
            self._check_open()
            rows = [encode(r.event) for records in self._records.values() for r in records]
        return sum(len(row.payload) for row in rows)

    def close(self) -> None:
        """See `Journal.close`."""
        with self._lock:
            self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise JournalUnavailable("this journal was closed; open another one")


def _is_telemetry(record: Record, attempt: str) -> bool:
    return isinstance(record.event, Samples | Thinned) and record.event.attempt == attempt
