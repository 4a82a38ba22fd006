"""What a pilot says to the daemon, in order: numbered samples, and reports between them."""

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from lrpilot.client.base import Item, Transport
from lrpilot.losses import Row
from lrpilot_proto.v1 import session_pb2

log = logging.getLogger("lrpilot")

TRAIN, VALIDATION = session_pb2.ITEM_KIND_TRAIN, session_pb2.ITEM_KIND_VALIDATION


@dataclass(slots=True)
class Stamp:
    """What every sample is stamped with at the moment that it is pushed.

    Attributes:
        branch: the trajectory since the last restore; 0 at attach.
        program: the id of the program that trains now; 0 for none.
    """

    branch: int = 0
    program: int = 0


class Line:
    """Numbers items and asks for haste where a loss is worse than all before.

    Args:
        transport: carries them.
        quiet: whether another rank tells the user.
        in_order: whether a validation waits until the train losses before it have come, as those
            that several ranks average.

    Attributes:
        on_report: called after each report: training may stand elsewhere than before.
    """

    def __init__(
        self, transport: Transport, *, quiet: bool = False, in_order: bool = False
    ) -> None:
        self.quiet = quiet
        self._in_order = in_order
        self._later: deque[Item] = deque()
        self.transport = transport
        self.inbox = transport.inbox
        self.seq = 0
        self._push = transport.push
        self._worst = -float("inf")
        self.on_report: Callable[[], None] = lambda: None

    def next_seq(self) -> int:
        """The number of the next item."""
        self.seq += 1
        return self.seq

    def train(self, row: Row, loss: float) -> None:
        """Hand in a train loss."""
        seq, step, branch, program, lrs = row
        if self._later:
            self._push_later(seq)
        self._push((seq, TRAIN, step, branch, program, loss, lrs))
        if not loss <= self._worst:
            if loss == loss:
                self._worst = loss
            self.transport.urgent()

    def validation(self, row: Row, loss: float) -> None:
        """Hand in a validation loss."""
        seq, step, branch, program, lrs = row
        item = (seq, VALIDATION, step, branch, program, loss, lrs)
        if self._in_order:
            self._later.append(item)
        else:
            self._push(item)

    def _push_later(self, before: float) -> None:
        while self._later and self._later[0][0] < before:
            self._push(self._later.popleft())

    def report(self, report: session_pb2.Report) -> None:
        """Hand in a report; its place is before the next item."""
        report.before_seq = self.seq + 1
        self.transport.report(report)
        self.on_report()

    def tell(self, level: int, text: str) -> None:
        """Tell the user, once for all ranks."""
        log.log(logging.DEBUG if self.quiet else level, "%s", text)

    def notice(self, kind: str, step: int, text: str) -> None:
        """Tell the user, and the run's story."""
        self.tell(logging.WARNING, f"LRPilot: {text}")
        self.report(session_pb2.Report(notice=session_pb2.Notice(kind=kind, step=step, text=text)))

    def goodbye(self, reason: str, step: int) -> None:
        """Say that nothing more will come, and why."""
        self._push_later(float("inf"))
        self.report(session_pb2.Report(goodbye=session_pb2.Goodbye(reason=reason, step=step)))

    def restored(self) -> None:
        """The weights went back: what is worse than all before begins anew."""
        self._worst = -float("inf")
