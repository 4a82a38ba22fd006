"""A trainer and an engine in one process: everything but gRPC, the journal and the clock.

What passes between them is encoded and decoded as on the wire, and each sample is judged before
the next step, so that a run is the same each time.
"""

from collections import deque

from lrpilot.client.base import Item, Message, Status
from lrpilot_controller.core.engine import Engine
from lrpilot_controller.core.events import Decided, Event, Input, PriorAnswered, SessionOpened
from lrpilot_controller.core.events import SnapshotProven as Proven
from lrpilot_controller.core.model import Attempt, DecisionStatus
from lrpilot_controller.core.settings import CoreSettings
from lrpilot_controller.server import convert
from lrpilot_proto.v1 import model_pb2, session_pb2


class Loopback:
    """A `Transport` whose daemon is an engine.

    Args:
        settings: of the engine.
        prior: the LR that an earlier run of the same job found.

    Attributes:
        record: all inputs and outputs of the engine, in order.
    """

    def __init__(self, settings: CoreSettings | None = None, prior: float | None = None) -> None:
        self.inbox: deque[Message] = deque()
        self.engine = Engine(settings)
        self.record: list[Event] = []
        self._prior = prior
        self._attempt: Attempt | None = None
        self._reports = 0
        self._waiting: list[Item | session_pb2.Report] = []  # until the session opens

    def start(self) -> None:
        """It is there."""

    def wait_ready(self, timeout_s: float) -> bool:
        """It is there."""
        return True

    def wait(self, timeout_s: float) -> bool:
        """Everything was answered when it was said."""
        return bool(self.inbox)

    def open(self, hello: session_pb2.Hello) -> None:
        """Open the session and welcome the trainer."""
        self._attempt = convert.attempt_from(hello)
        self._feed(SessionOpened(self._attempt))
        if self._prior is not None:
            self._feed(PriorAnswered(self._attempt.id, self._prior, "an earlier run"))
        self.inbox.append(session_pb2.Welcome(searches=self.engine.will_search))
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            if isinstance(one, session_pb2.Report):
                self.report(one)
            else:
                self.push(one)

    def push(self, item: Item) -> None:
        """Judge one sample."""
        if self._attempt is None:
            self._waiting.append(item)
        else:
            self._send(item)

    @property
    def signals(self) -> deque[model_pb2.Signal]:
        """They are the engine's, which a test can ask."""
        return deque()

    def urgent(self) -> None:
        """There is no delay to be cut."""

    def report(self, report: session_pb2.Report) -> None:
        """Judge one report."""
        if self._attempt is None:
            self._waiting.append(report)
            return
        self._reports += 1
        report.report_seq = self._reports
        self._feed(convert.report_from(report, self._attempt))

    def close(self, timeout_s: float = 2.0) -> None:
        """Nothing is left to deliver."""

    def leave(self, timeout_s: float = 2.0) -> None:
        """Nothing is left to deliver."""

    @property
    def status(self) -> Status:
        """Connected."""
        return Status(connected=True, welcomed=True)

    def _send(self, item: Item) -> None:
        assert self._attempt is not None
        seq, kind, step, branch, program, loss, lrs = item
        message = session_pb2.Telemetry(
            first_seq=seq,
            kind=[session_pb2.ItemKind.Name(kind)],
            step=[step],
            branch=[branch],
            program=[program],
            loss=[loss],
            lrs=lrs,
        )
        self._feed(convert.samples_from(message, self._attempt))

    def _feed(self, event: Input) -> None:
        self.record.append(event)
        for output in self.engine.feed(event):
            self.record.append(output)
            if isinstance(output, Decided) and output.decision.status is DecisionStatus.SENT:
                self.inbox.append(convert.decision_to(output.decision))
            elif isinstance(output, Proven):
                self.inbox.append(session_pb2.SnapshotProven(id=output.snapshot))
