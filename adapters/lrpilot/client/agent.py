"""The thread between the training loop and the daemon."""

import contextlib
import os
import threading
import time
from collections import deque

from lrpilot.client import forks, notices
from lrpilot.client.base import MAX_SIGNALS, Item, Message, Status
from lrpilot.client.bell import Bell
from lrpilot.client.buffer import CAPACITY, Outbox
from lrpilot.client.call import Ended
from lrpilot.client.connecting import Connector
from lrpilot.client.conversation import Conversation, End, Memory
from lrpilot.client.discovery import Finder
from lrpilot.client.timing import Backoff
from lrpilot_proto.v1 import model_pb2, session_pb2

# A join waits this much longer than the agent's own deadline.
JOIN_SLACK_S = 0.2


class Agent:
    """Implements `Transport` with one daemon thread.

    The training thread appends to deques and reads `inbox`; all other work is the agent thread's,
    which alone writes the state, so that there is no lock. Whatever goes wrong here, training
    goes on. One agent serves one attempt.
    """

    def __init__(
        self, address: str = "auto", *, token: str | None = None, capacity: int = CAPACITY
    ) -> None:
        """Prepare; nothing runs before `start`.

        Args:
            address: `auto`, `unix:PATH` or `HOST:PORT`.
            token: for a daemon on TCP; else from the environment (`lrpilot_proto.access`).
            capacity: samples kept while no daemon takes them; the oldest go first.

        Raises:
            ValueError: the address is malformed, or it is on TCP and there is no token, or a
                certificate that cannot be used.
        """
        self.inbox: deque[Message] = deque()
        self.signals: deque[model_pb2.Signal] = deque(maxlen=MAX_SIGNALS)
        self._outbox = Outbox(capacity)
        self._append = self._outbox.items.append
        self._bell = Bell()
        self._connector = Connector(Finder(address, token), self._bell)
        self._pid = os.getpid()
        self._thread: threading.Thread | None = None
        self._live = self._left = False
        self._news = threading.Event()  # something is in the inbox, or the session ended
        self._refused: str | None = None
        self._hello: session_pb2.Hello | None = None
        self._reopen = False
        self._memory = Memory()
        self._voice = notices.Voice()
        self._backoff = Backoff()

    # -- the training thread

    def start(self) -> None:
        """Begin to look for the daemon; returns at once."""
        if self._thread is not None or os.getpid() != self._pid:
            return
        try:
            self._bell.hang()
        except OSError as error:  # this process can open no more files
            self._refuse(repr(error))
            self._voice.broken(error)
            return
        self._live = True
        self._thread = threading.Thread(target=self._run, name="lrpilot-agent", daemon=True)
        forks.remember(self)
        self._thread.start()

    def wait_ready(self, timeout_s: float) -> bool:
        """Wait until a daemon answers; False at the timeout, or early when nobody will come."""
        if self._live and os.getpid() == self._pid:
            self._connector.settled.wait(timeout_s)
        return self._connector.ready

    def wait(self, timeout_s: float) -> bool:
        """Wait until something lies in the inbox; False at the timeout, or when nothing will."""
        if timeout_s <= 0:
            return False
        deadline = time.monotonic() + timeout_s
        while not self.inbox and os.getpid() == self._pid:
            left = deadline - time.monotonic()
            lost = self._memory.welcomes > 0 and not self._memory.connected
            if left <= 0 or lost or not self._live:
                break
            # What rang before this call only costs another turn: the inbox is looked at first.
            if self._news.wait(left):
                self._news.clear()
        return bool(self.inbox)

    def open(self, hello: session_pb2.Hello) -> None:
        """Let the session open with `hello`; a later one, with nothing pushed yet, re-opens it."""
        if os.getpid() != self._pid:
            return
        copy = session_pb2.Hello()
        copy.CopyFrom(hello)
        again = self._hello is not None and self._outbox.newest == 0
        self._hello = copy
        self._reopen = self._reopen or again
        self._bell.ring()

    def push(self, item: Item) -> None:
        """Hand in one sample: an append and nothing else."""
        self._append(item)

    def urgent(self) -> None:
        """Ask for a flush as soon as possible."""
        if self._live:
            self._bell.hurry()

    def report(self, report: session_pb2.Report) -> None:
        """Hand in a report: numbered here, sent at once, never dropped.

        A snapshot is no news that anybody must have now; it goes with the next flush.
        """
        if self._refused is not None or os.getpid() != self._pid:
            return
        self._outbox.add_report(report)
        if not report.HasField("snapshot"):
            self.urgent()

    def close(self, timeout_s: float = 2.0) -> None:
        """Deliver what is left, reconnecting if need be, until the deadline; then end."""
        if os.getpid() != self._pid or self._thread is None:
            return
        self._end_by(timeout_s)
        self._thread.join(timeout_s + JOIN_SLACK_S)
        if not self._thread.is_alive():
            self._bell.take_down()
        forks.forget(self)

    def leave(self, timeout_s: float = 2.0) -> None:
        """As `close`, without waiting for it; the thread tidies up, as nobody rings any more."""
        if os.getpid() != self._pid or self._thread is None:
            return
        self._left = True
        self._end_by(timeout_s)
        if not self._thread.is_alive():  # it had ended before
            self._tidy()

    def _end_by(self, timeout_s: float) -> None:
        if self._bell.deadline is None:
            self._bell.deadline = time.monotonic() + timeout_s
            self._bell.ring()

    def _tidy(self) -> None:
        self._bell.take_down()
        forks.forget(self)

    def disarm(self) -> None:
        """In a forked child: do nothing, ever again, and hold nothing open."""
        self._live = self._connector.ready = False
        self._append = deque[Item](maxlen=0).append
        self._memory.connected = False
        self.inbox = deque()
        self._bell.abandon()
        if self._connector.link is not None:
            self._connector.link.abandon()

    @property
    def status(self) -> Status:
        """How the line stands now."""
        outbox, memory = self._outbox, self._memory
        return Status(
            connected=memory.connected,
            acked_seq=outbox.acked_seq,
            dropped=outbox.dropped if memory.connected else outbox.dropped_now(),
            reconnects=max(0, memory.welcomes - 1),
            generation=memory.generation,
            refused=self._refused,
            daemon_version=memory.daemon_version,
            welcomed=memory.welcomes > 0,
            unacked=outbox.pending,
        )

    # -- the agent thread

    def _run(self) -> None:
        try:
            self._supervise()
        except Exception as error:  # a bug
            self._refuse(f"internal error: {error!r}")
            self._voice.broken(error)
        finally:
            self._memory.connected = self._live = False
            self._news.set()
            with contextlib.suppress(Exception):
                self._connector.drop()
            if self._refused is None and self._memory.welcomes and not self._outbox.empty:
                self._voice.undelivered(self._outbox.pending)
            self._connector.settled.set()
            if self._left:
                self._tidy()

    def _supervise(self) -> None:
        failures = 0
        while not self._over():
            try:
                end, why = self._attempt()
            except Exception as error:  # no more threads or files: a later try may succeed
                notices.log.debug("LRPilot: a session failed", exc_info=True)
                end, why = End.LOST, repr(error)
            self._memory.connected = False
            self._news.set()
            self._connector.drop()
            if end is End.CLOSED or self._refused is not None:
                return
            if end is End.REFUSED and self._connector.token_renewed:
                end = End.LOST  # the one that was refused was revoked meanwhile
            if end is End.REFUSED:
                self._refuse(why)
                self._voice.refused(why)
                return
            if end is End.REOPEN:
                continue
            if self._over() and self._outbox.empty:
                return  # closed while connecting, and nothing was to be said
            failures += 1
            if end is End.BUSY:
                self._voice.busy(why)
            # The first session may fail because the daemon ended while nobody needed it.
            elif self._memory.welcomes or failures > 1 or not self._connector.ready:
                self._voice.down(self._memory.welcomes > 0, why)
            self._rest(self._backoff.next(busy=end is End.BUSY))

    def _attempt(self) -> tuple[End, str]:
        """Connect once and hold one session."""
        link = self._connector.connect(self._over)
        if self._connector.never:
            self._refuse(self._connector.why)
        if link is None:
            return End.LOST, self._connector.why
        left = False  # a daemon that nobody needs may end; another one is started once it is needed
        while self._hello is None:
            if self._bell.deadline is not None:
                return End.CLOSED, ""
            if any(isinstance(event, Ended) for event in link.take()):
                left = True
                self._bell.watch(None)
            self._bell.pause(10.0)
        if left:
            return End.LOST, "the daemon went away before the first step"
        self._reopen = False
        begun = time.monotonic()
        conversation = Conversation(
            link,
            self._bell,
            self._outbox,
            self.inbox,
            self.signals,
            self._memory,
            on_welcome=self._voice.up,
            on_progress=lambda: self._backoff.progress(time.monotonic() - begun),
            on_news=self._news.set,
        )
        return conversation.hold(self._hello, over=self._over, reopen=lambda: self._reopen)

    def _rest(self, seconds: float) -> None:
        """Wait out a backoff; a close() that begins meanwhile wants a try at once."""
        closing = self._bell.deadline is not None
        until = time.monotonic() + (min(seconds, 0.1) if closing else seconds)
        while (left := until - time.monotonic()) > 0 and not self._over():
            self._bell.pause(left)
            if self._bell.deadline is not None and not closing:
                return

    def _over(self) -> bool:
        """Whether close() was called and has nothing left to wait for."""
        if self._bell.deadline is None:
            return False
        line = self._connector
        hopeless = line.settled.is_set() and not (self._memory.welcomes or line.ready)
        return (
            self._hello is None
            or hopeless
            or self._outbox.empty
            or time.monotonic() >= self._bell.deadline
        )

    def _refuse(self, why: str) -> None:
        """Nobody will take anything any more: hold nothing."""
        self._refused = why
        self._connector.ready = False
        self._append = deque[Item](maxlen=0).append
        self._outbox.clear()
        self._connector.settled.set()
