"""The port between a pilot, which lives in the training thread, and the daemon."""

from collections import deque
from dataclasses import dataclass
from typing import Protocol

from lrpilot_proto.v1 import model_pb2, session_pb2

MAX_SIGNALS = 100

# seq (from 1, consecutive), kind (1 train, 2 validation), step, branch, program, loss, lrs
Item = tuple[int, int, int, int, int, float, tuple[float, ...]]


@dataclass(frozen=True)
class Forgotten:
    """The daemon lacks what one has acknowledged: its journal is an older state, or another."""


@dataclass(frozen=True)
class Finish:
    """The training code of rank 0 wants the run to decay to `end`: a wish that all ranks follow."""

    end: int


# What the daemon can say to the training thread, and rank 0 to the others.
Message = model_pb2.Decision | session_pb2.SnapshotProven | session_pb2.Welcome | Forgotten | Finish


@dataclass(frozen=True)
class Status:
    """How the line stands, as far as the asking thread can tell without a lock.

    Attributes:
        connected: a session is open and was welcomed.
        acked_seq: every item up to here is in the daemon's journal, or was declared lost.
        dropped: items that had to be thrown away: more than the buffer holds, or malformed.
        reconnects: sessions after the first one.
        generation: the highest daemon generation seen.
        refused: why nobody will ever answer, in the daemon's own words where it spoke.
        daemon_version: as the last Welcome said; empty before.
        welcomed: a daemon has welcomed this attempt at least once.
        unacked: items and reports that were handed in and that no daemon has acknowledged.
    """

    connected: bool = False
    acked_seq: int = 0
    dropped: int = 0
    reconnects: int = 0
    generation: int = 0
    refused: str | None = None
    daemon_version: str = ""
    welcomed: bool = False
    unacked: int = 0


class Transport(Protocol):
    """Carries items and reports to the daemon, and its words back; never blocks a step."""

    @property
    def inbox(self) -> "deque[Message]":
        """What the daemon said; the training thread calls `popleft` at a step boundary.

        Decisions are already de-duplicated by id, and those of an older daemon left out.
        """

    @property
    def signals(self) -> "deque[model_pb2.Signal]":
        """What the daemon's detectors saw, for whoever logs it; only the newest are kept.

        Nobody is woken for one, and ranks do not share them.
        """

    def start(self) -> None:
        """Begin to look for the daemon; returns at once."""

    def wait_ready(self, timeout_s: float) -> bool:
        """Wait until a daemon answers.

        Returns:
            True once one does; False at the timeout, or early when nobody will come: an explicit
            address refuses connections, the controller is not installed, the daemon refused.
        """

    def wait(self, timeout_s: float) -> bool:
        """Wait until something lies in the inbox.

        Returns:
            True once something does; False at the timeout, at once where that is 0 or less, or
            early when nothing will come: the session is lost, the daemon refused, this is a
            forked child.
        """

    def open(self, hello: session_pb2.Hello) -> None:
        """Let the session open with `hello`; called by the training thread at its first step.

        Called again before anything was pushed, it opens the session anew with the other hello;
        called later, the hello is what the next reconnect says.
        """

    def push(self, item: Item) -> None:
        """Hand in one sample: the hot path, an append and nothing else."""

    def urgent(self) -> None:
        """Ask for a flush as soon as possible, after an anomaly was pushed; cheap, lock-free."""

    def report(self, report: session_pb2.Report) -> None:
        """Hand in a report; the transport numbers it and never drops it.

        Its place is before the item `before_seq`; where that is 0, before the next item pushed.
        """

    def close(self, timeout_s: float = 2.0) -> None:
        """Deliver what is left, reconnecting if need be, until the deadline; then end."""

    def leave(self, timeout_s: float = 2.0) -> None:
        """As `close`, for a collection, which may come in any thread and at any point of it.

        It waits for nothing and takes no lock; nothing else is called after it.
        """

    @property
    def status(self) -> Status:
        """How the line stands now."""
