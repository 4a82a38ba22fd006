"""Events as rows of a journal: telemetry as packed columns, everything else as JSON."""

import json
import struct
import zlib
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, cast

from lrpilot_controller.core import events
from lrpilot_controller.core.events import Event
from lrpilot_controller.core.plain import UnknownWord, from_plain, to_plain
from lrpilot_controller.core.telemetry import Samples, Thinned
from lrpilot_controller.journal import columns
from lrpilot_controller.journal.base import JournalCorrupt, JournalEntryError

KINDS: dict[str, type] = {
    "configured": events.Configured,
    "session_opened": events.SessionOpened,
    "session_lost": events.SessionLost,
    "samples": Samples,
    "thinned": Thinned,
    "receipt": events.ReceiptArrived,
    "snapshot_taken": events.SnapshotTaken,
    "notice": events.Noticed,
    "goodbye": events.SaidGoodbye,
    "program_ended": events.ProgramEnded,
    "fell_back": events.FellBack,
    "request": events.Requested,
    "command": events.Commanded,
    "prior": events.PriorAnswered,
    "answer": events.Answered,
    "signal": events.SignalSeen,
    "question": events.Asked,
    "decision": events.Decided,
    "resolved": events.Resolved,
    "refusal": events.Refused,
    "snapshot_proven": events.SnapshotProven,
    "outcome": events.OutcomeMeasured,
    "search_ended": events.SearchEnded,
}
"""The stored name of each event class. A name is never given to another class."""

_NAMES = {cls: name for name, cls in KINDS.items()}

# The first byte of a payload. Small ones are left as they are: zlib would make them longer.
_PLAIN, _DEFLATED = b"P", b"Z"
_SMALL = 100


@dataclass(frozen=True, slots=True)
class Row:
    """An event in the columns of a table.

    Attributes:
        kind: A name in `KINDS`, or one of a newer version.
        attempt: The attempt that it came from, if it came from one.
        first_seq: Telemetry: the seq of the first sample. Reports: their report_seq. Else 0.
        count: How many numbers from first_seq on it holds, or held before it was thinned.
        payload: The rest.
    """

    kind: str
    attempt: str | None
    first_seq: int
    count: int
    payload: bytes


def kind_names(kinds: Collection[type]) -> list[str]:
    """The stored names of these event classes.

    Raises:
        TypeError: One is not an event class.
    """
    for cls in kinds:
        if cls not in _NAMES:
            known = ", ".join(sorted(known.__name__ for known in _NAMES))
            raise TypeError(f"{cls!r} is not a class of events; there are {known}")
    return [_NAMES[cls] for cls in kinds]


def encode(event: Event) -> Row:
    """An event as a row.

    Raises:
        JournalEntryError: The event holds what a row cannot: columns of different lengths,
            integers beyond 64 bits, invalid Unicode in an attempt's name.
    """
    attempt: str | None
    try:
        kind = _NAMES[type(event)]
        if isinstance(event, Samples):
            attempt, first, count = event.attempt, event.first_seq, len(event.step)
            body = columns.pack(event)
        elif isinstance(event, Thinned):
            attempt, first = event.attempt, event.first_seq
            count = event.next_seq - first
            body = columns.pack_thinned(event)
        else:
            attempt, first, count = _address(event)
            plain = to_plain(event)
            body = json.dumps(plain, allow_nan=False, separators=(",", ":")).encode()
        if not 0 <= first < 1 << 63:
            raise OverflowError(f"the sequence number {first} is not within [0, 2**63)")
        if attempt is not None:
            attempt.encode()
    except (KeyError, TypeError, ValueError, OverflowError, struct.error) as error:
        raise JournalEntryError(
            f"this {type(event).__name__} cannot be journaled: {error}; nothing was written"
        ) from error
    return Row(kind, attempt, first, count, _squeeze(body))


def decode(row: Row) -> Event | None:
    """The event of a row; None if only a newer version can understand it.

    Raises:
        JournalCorrupt: The row is damaged.
    """
    cls = KINDS.get(row.kind)
    if cls is None:
        return None
    try:
        body = _expand(row.payload)
        if cls in (Samples, Thinned):
            if row.attempt is None:
                raise ValueError("telemetry without an attempt")
            unpack = columns.unpack if cls is Samples else columns.unpack_thinned
            return unpack(body, attempt=row.attempt, first_seq=row.first_seq, count=row.count)
        return cast(Event, from_plain(cls, json.loads(body)))
    except UnknownWord:
        return None
    except (ValueError, struct.error, zlib.error) as error:
        raise JournalCorrupt(f"a {row.kind!r} record is damaged: {error}") from error


def pack_text(text: str) -> bytes:
    """A text as the bytes of a column.

    Raises:
        JournalEntryError: It is not valid Unicode.
    """
    try:
        return _squeeze(text.encode())
    except UnicodeEncodeError as error:
        raise JournalEntryError(f"this text cannot be journaled: {error.reason}") from error


def unpack_text(payload: bytes) -> str:
    """What `pack_text` packed.

    Raises:
        JournalCorrupt: The bytes are damaged.
    """
    try:
        return _expand(payload).decode()
    except (ValueError, zlib.error) as error:
        raise JournalCorrupt(f"a text is damaged: {error}") from error


def identical(a: Event, b: Event) -> bool:
    """Whether the journal keeps two events as the same bytes; a NaN is the same as a NaN."""
    return a is b or encode(a) == encode(b)


def _address(event: Any) -> tuple[str | None, int, int]:
    if isinstance(event, events.SessionOpened):
        return event.attempt.id, 0, 0
    report = getattr(event, "report_seq", None)
    return getattr(event, "attempt", None), report or 0, 0 if report is None else 1


def _squeeze(body: bytes) -> bytes:
    if len(body) >= _SMALL:
        deflated = zlib.compress(body, 1)
        if len(deflated) < len(body):
            return _DEFLATED + deflated
    return _PLAIN + body


def _expand(payload: bytes) -> bytes:
    tag, body = payload[:1], payload[1:]
    if tag == _DEFLATED:
        return zlib.decompress(body)
    if tag != _PLAIN:
        raise ValueError(f"the payload begins with {tag!r}")
    return body
