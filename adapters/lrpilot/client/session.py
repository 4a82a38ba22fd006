"""One channel and one stream to the daemon, with events instead of blocking calls.

The only module that touches grpc, and it imports it inside its functions: the import happens in
the agent thread. `grpc.aio` is never used: a forked child of a process that runs it crashes.
"""

import logging
import os
import queue
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lrpilot.client import forks
from lrpilot.client.address import Address
from lrpilot.client.tunnel import Tunnel
from lrpilot_proto.access import Access
from lrpilot_proto.v1 import session_pb2

if TYPE_CHECKING:
    import grpc

# A bare keepalive_timeout does not bound the detection of a dead peer: ping_timeout does.
OPTIONS = (
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.ping_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.enable_retries", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.max_send_message_length", 1 << 20),
    ("grpc.max_receive_message_length", 1 << 20),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
)


QUIET = "NONE"
POLLING_S = 1.0


@dataclass(frozen=True)
class Ready:
    """The daemon speaks HTTP/2: it is there, and not frozen."""


@dataclass(frozen=True)
class Received:
    """The daemon said something."""

    message: session_pb2.ControllerMessage


@dataclass(frozen=True)
class Ended:
    """The stream is over; `code` is the name of a grpc status code."""

    code: str
    words: str


Event = Ready | Received | Ended


def hush_grpc() -> None:
    """Let grpc's core not write to the standard error of a training run.

    It would at every fork, so at the start of every DataLoader worker, and it reads its setting
    when it is imported. Call this in the thread that owns the process's environment, not in the
    agent: changing the environment while another thread of C reads it can crash.
    """
    if "grpc" not in sys.modules:
        os.environ.setdefault("GRPC_VERBOSITY", QUIET)
    # Without any handler, Python would print grpc's own complaints to standard error.
    if not logging.getLogger("grpc").handlers:
        logging.getLogger("grpc").addHandler(logging.NullHandler())


class Link:
    """One connection: it becomes ready, carries one stream, and ends.

    Events are delivered by threads of grpc and by the reader, so `deliver` must be thread-safe
    and quick.
    """

    def __init__(
        self,
        address: Address,
        deliver: "Callable[[Link, Event], None]",
        access: Access | None = None,
    ) -> None:
        """Begin to connect.

        Args:
            address: where.
            deliver: takes the events.
            access: for a daemon on TCP; None: a unix socket, where the file is the lock.

        Raises:
            Unreachable: no daemon can be talked to there.
            OSError, ValueError: the token or a certificate cannot be read now.
        """
        self._deliver = deliver
        self._shown = access.metadata() if access else None
        self._tunnel = Tunnel(access, address.host, address.port) if access else None
        target = self._tunnel.target if self._tunnel else address.target
        self._outgoing: queue.SimpleQueue[session_pb2.TrainerMessage | None] = queue.SimpleQueue()
        self._call: Any = None
        self._pid = os.getpid()
        with forks.importing:
            import grpc

            from lrpilot_proto.v1 import session_pb2_grpc

            # Within the lock too: this imports more of grpc.
            self._channel: Any = grpc.insecure_channel(target, options=OPTIONS)
            self._stub = session_pb2_grpc.SessionServiceStub
            self._ready = grpc.ChannelConnectivity.READY
            self._channel.subscribe(self._changed, try_to_connect=True)

    def _changed(self, state: "grpc.ChannelConnectivity") -> None:
        if state is self._ready:
            self._deliver(self, Ready())

    def settled(self) -> None:
        """No longer watch the connectivity: grpc would poll it in a thread of its own."""
        self._channel.unsubscribe(self._changed)

    def open(self, hello: session_pb2.Hello) -> None:
        """Begin the stream with `hello`."""
        self._outgoing.put(session_pb2.TrainerMessage(hello=hello))
        stub = self._stub(self._channel)  # type: ignore[no-untyped-call]
        self._call = stub.Session(iter(self._outgoing.get, None), metadata=self._shown)
        threading.Thread(target=self._read, name="lrpilot-reader", daemon=True).start()

    def send(self, message: session_pb2.TrainerMessage) -> None:
        """Queue a message; never blocks."""
        self._outgoing.put(message)

    def finish(self) -> None:
        """Say that nothing more will come; the daemon then ends the stream."""
        self._outgoing.put(None)

    def close(self) -> None:
        """Cut the connection. Never in a forked child, where it would hang."""
        if os.getpid() != self._pid:
            return
        self._outgoing.put(None)  # else grpc's sending thread would wait for ever
        if self._call is not None:
            self._call.cancel()
        self._await_polling()
        self._channel.close()

    def _await_polling(self) -> None:
        """Let grpc's thread that watched the connectivity end: it writes a traceback to standard
        error where the channel is closed under it. It looks every 200 ms whether it is wanted."""
        self.settled()
        until = time.monotonic() + POLLING_S
        watched = getattr(self._channel, "_connectivity_state", None)
        while getattr(watched, "polling", False) and time.monotonic() < until:
            time.sleep(0.005)

    def abandon(self) -> None:
        """In a forked child: let go of what the parent must be able to close."""
        if self._tunnel is not None:
            self._tunnel.abandon()

    def _read(self) -> None:
        ended = Ended("UNAVAILABLE", "the daemon ended the session")
        try:
            for message in self._call:
                self._deliver(self, Received(message))
        except Exception as error:
            code = getattr(error, "code", None)
            words = getattr(error, "details", None)
            ended = Ended(
                code().name if callable(code) else "UNKNOWN",
                (words() if callable(words) else None) or str(error),
            )
        self._deliver(self, ended)
