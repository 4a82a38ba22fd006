"""What was handed in and is not acknowledged yet, in order and ready to be sent again."""

from collections import deque
from collections.abc import Sequence

from lrpilot.client.base import Item
from lrpilot_proto.v1 import session_pb2

CAPACITY = 200_000  # items: 200 s at 1 kHz
MAX_BATCH = 4096
MAX_IN_FLIGHT = 8
MAX_BYTES = 1 << 19  # of a batch or a report: half of what the daemon takes in


class ConfusedError(Exception):
    """The daemon acknowledged what was never sent: it mixes this attempt up with another."""


class _Batch:
    """Items of consecutive seqs and equally many LRs."""

    __slots__ = ("first", "items")

    def __init__(self, items: list[Item]) -> None:
        self.items = items
        self.first = items[0][0]

    @property
    def last(self) -> int:
        return self.first + len(self.items) - 1


class Outbox:
    """Samples and reports on their way.

    The training thread only appends, to two deques; all else belongs to the agent thread. A full
    deque drops its oldest item by itself, which shows later as a gap between seqs. At most
    `MAX_IN_FLIGHT` batches are out of the deque and unacknowledged, so that memory is bounded.
    """

    def __init__(self, capacity: int = CAPACITY) -> None:
        self.items: deque[Item] = deque(maxlen=capacity)
        self.reports: deque[session_pb2.Report] = deque()
        self.acked_seq = 0
        self._unacked: list[_Batch | session_pb2.Report] = []
        self._cursor = 0  # first entry of _unacked that this session has not sent
        self._held: Item | None = None  # popped, but it belongs to the next batch
        self._taken = 0  # newest seq ever put into a batch
        self._newest = 0  # newest seq seen in the deque
        self._report_seq = 0
        self._acked_report = 0
        self._dropped = 0

    # -- the training thread

    def add_report(self, report: session_pb2.Report) -> None:
        """Append a copy of `report`, placed before the next item if it names no place."""
        copy = session_pb2.Report()
        copy.CopyFrom(report)
        if not copy.before_seq:
            copy.before_seq = self.newest + 1
        if (size := copy.ByteSize()) > MAX_BYTES:
            # Sent, it would end every session for ever.
            text = f"a {copy.WhichOneof('body')} report of {size} bytes was too large to be sent"
            copy.notice.CopyFrom(session_pb2.Notice(kind="report_too_large", text=text))
        self.reports.append(copy)

    @property
    def newest(self) -> int:
        """The newest seq pushed; exact in the training thread.

        The agent notes the newest seq before it takes items out, and takes none beyond it: when
        the deque is empty, the note is what was pushed last.
        """
        try:
            return self.items[-1][0]
        except IndexError:
            return self._newest

    # -- any thread

    @property
    def dropped(self) -> int:
        """Items thrown away so far, as far as known when items were last taken."""
        return self._dropped

    def dropped_now(self) -> int:
        """The same, and what the full deque has let go since; only while nobody takes items."""
        try:
            head = self._held or self.items[0]
        except IndexError:
            return self._dropped
        return self._dropped + max(0, head[0] - self._taken - 1)

    @property
    def pending(self) -> int:
        """Items and reports that are not acknowledged."""
        inside = sum(len(e.items) if isinstance(e, _Batch) else 1 for e in list(self._unacked))
        return inside + (self._held is not None) + len(self.items) + len(self.reports)

    # -- the agent thread

    @property
    def empty(self) -> bool:
        """Whether everything handed in is acknowledged."""
        return not (self._unacked or self._held or self.items or self.reports)

    @property
    def awaiting(self) -> bool:
        """Whether something that was sent is not acknowledged."""
        return self._cursor > 0

    @property
    def blocked(self) -> bool:
        """Whether only acknowledgements let more be sent."""
        return bool(self.items) and self._in_flight() >= MAX_IN_FLIGHT

    @property
    def oldest_seq(self) -> int:
        """The oldest item that can still be sent, or the next one to come."""
        for entry in self._unacked:
            if isinstance(entry, _Batch):
                return entry.first
        head = self._head()
        return head[0] if head is not None else self._taken + 1

    @property
    def oldest_report(self) -> int:
        """The oldest report that can still be sent, or the next one to come."""
        for entry in self._unacked:
            if not isinstance(entry, _Batch):
                return entry.report_seq
        return self._report_seq + 1

    def restart(self) -> None:
        """Another attempt begins before anything was pushed: reports are numbered anew."""
        waiting = [e for e in self._unacked if not isinstance(e, _Batch)]
        self.reports.extendleft(reversed(waiting))
        self._unacked = []
        self._cursor = self._report_seq = self._acked_report = 0

    def clear(self) -> None:
        """Nobody will take anything: hold nothing."""
        self.items.clear()
        self.reports.clear()
        self._unacked = []
        self._held = None
        self._cursor = 0

    def rewind(self) -> None:
        """A new session: what is unacknowledged will be sent again, in its order."""
        self._cursor = 0

    def forgotten(self, acked_seq: int, acked_report: int) -> bool:
        """Whether a daemon that begins to speak lacks what was acknowledged; noticed once."""
        lost = acked_seq < self.acked_seq or acked_report < self._acked_report
        self.acked_seq = min(self.acked_seq, acked_seq)
        self._acked_report = min(self._acked_report, acked_report)
        return lost

    def acknowledge(self, acked_seq: int, acked_report: int) -> bool:
        """Forget what the daemon has; returns whether it had anything new.

        Raises:
            ConfusedError: it claims to have what was never sent.
        """
        if acked_seq > self._taken or acked_report > self._report_seq:
            raise ConfusedError(
                f"the daemon acknowledged sample {acked_seq} and report {acked_report}, but only "
                f"{self._taken} and {self._report_seq} were sent"
            )
        progress = acked_seq > self.acked_seq or acked_report > self._acked_report
        self.acked_seq = max(self.acked_seq, acked_seq)
        self._acked_report = max(self._acked_report, acked_report)
        if progress:
            self._forget()
        return progress

    def _forget(self) -> None:
        kept: list[_Batch | session_pb2.Report] = []
        sent = 0
        for i, entry in enumerate(self._unacked):
            if isinstance(entry, _Batch):
                if entry.last <= self.acked_seq:
                    continue
                if entry.first <= self.acked_seq:
                    entry.items = entry.items[self.acked_seq - entry.first + 1 :]
                    entry.first = entry.items[0][0]
            elif entry.report_seq <= self._acked_report:
                continue
            sent += i < self._cursor
            kept.append(entry)
        self._unacked = kept
        self._cursor = sent

    def take(self) -> session_pb2.TrainerMessage | None:
        """The next message to send; None: nothing can go now."""
        while self._cursor < len(self._unacked) or self._gather():
            entry = self._unacked[self._cursor]
            if not isinstance(entry, _Batch):
                self._cursor += 1
                return session_pb2.TrainerMessage(report=entry)
            try:
                telemetry = _pack(entry.items, self._dropped)
            except (TypeError, ValueError, OverflowError):
                # Something that is no number was pushed. Losing the batch is bad; an agent that
                # trips over it for ever would be worse.
                self._dropped += len(entry.items)
                del self._unacked[self._cursor]
                continue
            self._cursor += 1
            return session_pb2.TrainerMessage(telemetry=telemetry)
        return None

    def _gather(self) -> bool:
        """Move the next batch or report out of the deques."""
        # First the newest item, then the reports: a report that comes later lies behind it.
        self._newest = max(self._newest, self.newest)
        limit = self._newest + 1
        report = self.reports[0] if self.reports else None
        if report is not None:
            limit = min(limit, report.before_seq)
        head = self._head()
        if head is not None and head[0] < limit:
            if self._in_flight() < MAX_IN_FLIGHT and (items := self._collect(limit)):
                self._unacked.append(_Batch(items))
                return True
            return False
        if report is None:
            return False
        self.reports.popleft()
        self._report_seq += 1
        report.report_seq = self._report_seq
        self._unacked.append(report)
        return True

    def _collect(self, limit: int) -> list[Item]:
        items: list[Item] = []
        room = MAX_BATCH
        while len(items) < room:
            item = self._pop()
            if item is None:
                break
            seq = item[0]
            if seq <= self._taken:
                continue  # out of order: not ours to repair
            breaks = items and (seq != self._taken + 1 or len(item[6]) != len(items[0][6]))
            if seq >= limit or breaks:
                self._held = item
                self._newest = max(self._newest, seq)
                break
            if not items:
                room = max(1, min(MAX_BATCH, MAX_BYTES // (40 + 8 * len(item[6]))))
            self._dropped += seq - self._taken - 1
            self._taken = seq
            items.append(item)
        return items

    def _head(self) -> Item | None:
        if self._held is not None:
            return self._held
        try:
            return self.items[0]
        except IndexError:
            return None

    def _pop(self) -> Item | None:
        if self._held is not None:
            item, self._held = self._held, None
            return item
        try:
            return self.items.popleft()
        except IndexError:
            return None

    def _in_flight(self) -> int:
        return sum(isinstance(entry, _Batch) for entry in self._unacked)


def _pack(items: Sequence[Item], dropped: int) -> session_pb2.Telemetry:
    """Columns: an eighth of the cost of one message per sample."""
    _, kinds, steps, branches, programs, losses, lrs = zip(*items, strict=True)
    same = lrs.count(lrs[0]) == len(lrs)
    return session_pb2.Telemetry(
        first_seq=items[0][0],
        kind=kinds,
        step=steps,
        branch=branches,
        program=programs,
        loss=losses,
        lrs=lrs[0] if same else [lr for row in lrs for lr in row],
        dropped_total=dropped,
    )
