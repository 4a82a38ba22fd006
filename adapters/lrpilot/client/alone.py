"""A line that leads nowhere: for what follows its last plan and has nobody to talk to."""

from collections import deque

from lrpilot.client.base import Item, Message, Status
from lrpilot_proto.v1 import model_pb2, session_pb2


class Alone:
    """Implements `Transport` without a daemon: nothing is kept, nothing ever comes."""

    status = Status()

    def __init__(self) -> None:
        self.inbox: deque[Message] = deque(maxlen=0)
        self.signals: deque[model_pb2.Signal] = deque(maxlen=0)

    def start(self) -> None:
        """There is nobody to look for."""

    def wait_ready(self, timeout_s: float) -> bool:
        """Nobody will answer; takes no time."""
        return False

    def wait(self, timeout_s: float) -> bool:
        """Nothing will come; takes no time."""
        return False

    def open(self, hello: session_pb2.Hello) -> None:
        """Nobody hears it."""

    def push(self, item: Item) -> None:
        """Let it go."""

    def urgent(self) -> None:
        """Nobody is to hurry."""

    def report(self, report: session_pb2.Report) -> None:
        """Let it go."""

    def close(self, timeout_s: float = 2.0) -> None:
        """Nothing was open."""

    def leave(self, timeout_s: float = 2.0) -> None:
        """Nothing was open."""
