"""One session with the daemon, from hello to its end."""

import enum
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from lrpilot.client.base import Forgotten, Message
from lrpilot.client.bell import Bell
from lrpilot.client.buffer import ConfusedError, Outbox
from lrpilot.client.call import Ended, Event, Received
from lrpilot.client.session import Link
from lrpilot.client.timing import Pace, Watchdog
from lrpilot_proto.v1 import model_pb2, session_pb2

ACK_LIMIT_S = 3.0
WELCOME_LIMIT_S = 5.0
IDLE_S = 0.25
GOODBYE_S = 0.25
# A flush is answered by several messages; read together, they wake the agent once.
GATHER_S = 0.03
MAX_INBOX = 1000

PERMANENT = frozenset(
    {
        "UNAUTHENTICATED",
        "PERMISSION_DENIED",
        "INVALID_ARGUMENT",
        "FAILED_PRECONDITION",
        "ALREADY_EXISTS",
        "UNIMPLEMENTED",
    }
)


class _MissedError(Exception):
    """The line lost a message, or swapped two: a new session begins where this one was whole."""


class End(enum.Enum):
    """Why a session ended."""

    LOST = "lost"
    BUSY = "busy"  # refused for now: a limit of the daemon
    REFUSED = "refused"
    REOPEN = "reopen"
    CLOSED = "closed"


@dataclass
class Memory:
    """What outlives a session. Written by the agent thread alone."""

    connected: bool = False
    welcomes: int = 0
    generation: int = 0
    last_decision: int = 0
    daemon_version: str = ""
    identity: tuple[str, str, str] | None = None  # project, run, attempt


class Conversation:
    """Says hello, sends what is due, listens, and notices silence."""

    def __init__(
        self,
        link: Link,
        bell: Bell,
        outbox: Outbox,
        inbox: "deque[Message]",
        signals: "deque[model_pb2.Signal]",
        memory: Memory,
        on_welcome: Callable[[], None],
        on_progress: Callable[[], None],
        on_news: Callable[[], None],
    ) -> None:
        self._link = link
        self._bell = bell
        self._outbox = outbox
        self._inbox = inbox
        self._signals = signals
        self._memory = memory
        self._on_welcome = on_welcome
        self._on_progress = on_progress
        self._on_news = on_news
        self._pace = Pace()
        self._welcome = Watchdog(WELCOME_LIMIT_S)
        self._acks = Watchdog(ACK_LIMIT_S)
        self._rest_waits = False  # for acknowledgements; it goes as soon as they are there
        self._stale: int | None = None  # a generation of the past that spoke in this session

    def hold(
        self,
        hello: session_pb2.Hello,
        over: Callable[[], bool],
        reopen: Callable[[], bool],
    ) -> tuple[End, str]:
        """Hold the session until it is lost, refused, `over`, or to be re-opened; says why."""
        self._complete(hello)
        self._link.open(hello)
        self._welcome.expect(time.monotonic())
        while True:
            for event in self._link.take():
                if (end := self._hear(event)) is not None:
                    return end
            if over() or (self._bell.deadline is not None and self._outbox.empty):
                return self._say_goodbye()
            if reopen():
                self._link.finish()
                return End.REOPEN, ""
            now = time.monotonic()
            calm = self._memory.connected and self._flush_if_due(now)
            if self._acks.expired(now):
                return End.LOST, f"no acknowledgement for {ACK_LIMIT_S:g} s"
            if self._welcome.expired(now):
                old = "" if self._stale is None else f", only words of generation {self._stale}"
                return End.LOST, f"no welcome for {WELCOME_LIMIT_S:g} s{old}"
            if calm:
                self._bell.pause(GATHER_S, listening=False)
            else:
                self._bell.pause(self._until_next(now))

    def _complete(self, hello: session_pb2.Hello) -> None:
        """Add to the hello what only the agent knows."""
        memory = self._memory
        identity = (hello.run.project, hello.run.name, hello.attempt)
        if memory.identity not in (None, identity):
            self._outbox.restart()
            memory.last_decision = 0
        memory.identity = identity
        hello.generation = memory.generation = max(memory.generation, hello.generation)
        memory.last_decision = max(memory.last_decision, hello.last_decision_id)
        hello.last_decision_id = memory.last_decision
        hello.oldest_seq = self._outbox.oldest_seq
        hello.oldest_report = self._outbox.oldest_report

    def _hear(self, event: Event) -> tuple[End, str] | None:
        if isinstance(event, Ended):
            if event.code in PERMANENT:
                return End.REFUSED, event.words
            if event.code == "RESOURCE_EXHAUSTED":
                return End.BUSY, event.words
            return End.LOST, f"{event.code}: {event.words}"
        if isinstance(event, Received):
            try:
                progress = self._listen(event.message)
            except _MissedError as error:
                return End.LOST, str(error)
            except ConfusedError as error:
                return End.REFUSED, str(error)
            if progress:
                self._acks.heard(time.monotonic(), more=self._outbox.awaiting)
                self._on_progress()
        return None

    def _listen(self, message: session_pb2.ControllerMessage) -> bool:
        """Take in one message; returns whether it acknowledged anything."""
        memory = self._memory
        if message.generation < memory.generation:
            self._stale = message.generation
            return False
        memory.generation = message.generation
        if message.after_decision > memory.last_decision:
            raise _MissedError(
                f"decision {message.after_decision} was sent and did not come; the newest that "
                f"came is {memory.last_decision}"
            )
        self._pace.asked(message.flush_ms)
        body = message.WhichOneof("body")
        welcome = body == "welcome" and not memory.connected
        forgot = welcome and self._outbox.forgotten(message.acked_seq, message.acked_report)
        progress = self._outbox.acknowledge(message.acked_seq, message.acked_report)
        if welcome:
            self._welcomed(message.welcome, forgot=forgot)
        elif body == "decision" and message.decision.id > memory.last_decision:
            memory.last_decision = message.decision.id
            self._inbox.append(message.decision)
            self._on_news()
        elif body == "signal":
            self._signals.append(message.signal)
        elif body == "proven":
            self._inbox.append(message.proven)
            self._on_news()
        if len(self._inbox) > MAX_INBOX:
            raise ConfusedError(f"the daemon sent over {MAX_INBOX} messages that wait to be read")
        return progress

    def _welcomed(self, welcome: session_pb2.Welcome, *, forgot: bool) -> None:
        now = time.monotonic()
        self._outbox.rewind()
        self._pace.opened(now)
        self._welcome.heard(now, more=False)
        self._memory.connected = True
        self._memory.welcomes += 1
        self._memory.daemon_version = welcome.daemon_version
        self._inbox.append(welcome)
        if forgot:
            self._inbox.append(Forgotten())
        self._on_news()
        self._on_welcome()

    def _flush_if_due(self, now: float) -> bool:
        """Send what there is once it is time; returns whether the answer may wait a little."""
        hurried, sent = self._hurried(), False
        if self._pace.due(now, hurried) > 0:
            return False
        self._bell.urgent = False
        while (message := self._outbox.take()) is not None:
            self._link.send(message)
            sent = True
        self._rest_waits = self._outbox.blocked
        self._pace.flushed(now)
        if self._outbox.awaiting:
            self._acks.expect(now)
        return sent and not hurried and not self._rest_waits

    def _until_next(self, now: float) -> float:
        if not self._memory.connected:
            return IDLE_S
        return min(max(self._pace.due(now, self._hurried()), 0.001), IDLE_S)

    def _hurried(self) -> bool:
        return self._bell.urgent or self._rest_waits or self._bell.deadline is not None

    def _say_goodbye(self) -> tuple[End, str]:
        """Let the daemon see an orderly end of the stream; a hang-up would do as well."""
        self._link.finish()
        until = min(time.monotonic() + GOODBYE_S, self._bell.deadline or 0.0)
        while self._outbox.empty and (left := until - time.monotonic()) > 0:
            if any(isinstance(event, Ended) for event in self._link.take()):
                break
            self._bell.pause(left)
        return End.CLOSED, ""
