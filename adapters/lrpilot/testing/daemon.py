"""A transport without a daemon: the test is the daemon."""

from collections import deque
from collections.abc import Callable

from lrpilot.client.base import Item, Message, Status
from lrpilot_proto.v1 import model_pb2, session_pb2


class FakeDaemon:
    """A `Transport` that keeps what it is given; a test says what the daemon answers.

    Args:
        answer: called on each report, in order; what it returns is sent at once, as by a daemon
            that answers within no time.
        searches: what the welcome says of a search; whether there is an `answer` unless given.

    Attributes:
        items: the telemetry pushed so far.
        reports: the reports so far.
        hello: the newest Hello; None before the first step.
        urgencies: how often a flush was asked for at once.
        waits: the seconds that the training thread would have waited, each time.
        status: how the line stands; connected, unless a test says otherwise.
    """

    def __init__(
        self,
        answer: Callable[[session_pb2.Report], model_pb2.Decision | None] | None = None,
        searches: bool | None = None,
    ) -> None:
        self._answer = answer
        self._searches = answer is not None if searches is None else searches
        self.status = Status(connected=True, welcomed=True)
        self.waits: list[float] = []
        self.inbox: deque[Message] = deque()
        self.signals: deque[model_pb2.Signal] = deque()
        self.items: list[Item] = []
        self.reports: list[session_pb2.Report] = []
        self.hello: session_pb2.Hello | None = None
        self.urgencies = 0
        self.closed = False

    def start(self) -> None:
        """Nothing to look for."""

    def wait_ready(self, timeout_s: float) -> bool:
        """It always answers."""
        return True

    def wait(self, timeout_s: float) -> bool:
        """Whether the test has said something; takes no time."""
        if timeout_s <= 0:
            return False
        if not self.inbox:
            self.waits.append(timeout_s)
        return bool(self.inbox)

    def open(self, hello: session_pb2.Hello) -> None:
        """Keep the Hello, and welcome it."""
        self.hello = session_pb2.Hello()
        self.hello.CopyFrom(hello)
        searches = self._searches and hello.search
        self.inbox.append(session_pb2.Welcome(mode=hello.mode, searches=searches))

    def push(self, item: Item) -> None:
        """Keep the item."""
        self.items.append(item)

    def urgent(self) -> None:
        """Count it."""
        self.urgencies += 1

    def report(self, report: session_pb2.Report) -> None:
        """Keep the report, and answer it."""
        self.reports.append(report)
        decision = self._answer(report) if self._answer is not None else None
        if decision is not None:
            self.inbox.append(decision)

    def close(self, timeout_s: float = 2.0) -> None:
        """Remember it."""
        self.closed = True
        self.status = Status(welcomed=True)

    def leave(self, timeout_s: float = 2.0) -> None:
        """Remember it."""
        self.close()

    def decide(self, decision: model_pb2.Decision) -> None:
        """Let the daemon send a decision."""
        self.inbox.append(decision)

    def prove(self, snapshot: int) -> None:
        """Let the daemon call a snapshot proven."""
        self.inbox.append(session_pb2.SnapshotProven(id=snapshot))

    def see(self, signal: model_pb2.Signal) -> None:
        """Let a detector of the daemon see something."""
        self.signals.append(signal)

    @property
    def receipts(self) -> list[model_pb2.Receipt]:
        """The receipts among the reports."""
        return [r.receipt for r in self.reports if r.WhichOneof("body") == "receipt"]

    @property
    def results(self) -> list[session_pb2.ProgramResult]:
        """The results of programs among the reports."""
        return [r.program for r in self.reports if r.WhichOneof("body") == "program"]

    @property
    def losses(self) -> list[float]:
        """The train losses among the items."""
        return [item[5] for item in self.items if item[1] == session_pb2.ITEM_KIND_TRAIN]
