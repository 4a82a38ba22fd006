"""One connection and one call to the daemon, with events instead of waiting."""

import time

from lrpilot.client.address import Address
from lrpilot.client.call import Call, Ended, Event
from lrpilot.client.endpoint import Endpoint
from lrpilot_proto.access import Access
from lrpilot_proto.v1 import session_pb2

# A connection that a firewall forgot looks like one on which nobody has anything to say.
PING_AFTER_S = 10.0
PING_LIMIT_S = 5.0


class Link:
    """One connection: it becomes ready, carries one call, and ends. The agent thread's alone."""

    def __init__(self, address: Address, access: Access | None = None) -> None:
        """Connect, and begin to talk.

        Args:
            address: where.
            access: for a daemon on TCP; None: a unix socket, where the file is the lock.

        Raises:
            Unreachable: no daemon can be talked to there.
            OSError, ValueError: the token or a certificate cannot be read now.
        """
        metadata = access.metadata() if access else ()
        authority = address.target if access else "localhost"
        self._call = Call(authority, secure=access is not None, metadata=metadata)
        self._endpoint = Endpoint(address, access)
        self._heard_at = time.monotonic()
        self._pinged_at: float | None = None

    def fileno(self) -> int:
        """The file descriptor, for a selector."""
        return self._endpoint.fileno()

    @property
    def unread(self) -> bool:
        """Whether there is something to read that no selector tells of."""
        return self._endpoint.unread

    @property
    def unwritten(self) -> bool:
        """Whether something waits until the line takes more."""
        return bool(self._endpoint.backlog)

    @property
    def over(self) -> bool:
        """Whether nothing more will come."""
        return self._call.over

    def open(self, hello: session_pb2.Hello) -> None:
        """Begin the session with `hello`."""
        self.send(session_pb2.TrainerMessage(hello=hello))

    def send(self, message: session_pb2.TrainerMessage) -> None:
        """Say something, at the next `flush`."""
        self._call.send(message)

    def finish(self) -> None:
        """Say that nothing more will come; the daemon then ends the session."""
        self._call.finish()

    def flush(self) -> None:
        """Write what can be written; never waits."""
        self._endpoint.write(self._call.outgoing())

    def take(self) -> list[Event]:
        """What happened since it was asked last; never waits."""
        if self._call.over:
            return []
        try:
            data = self._endpoint.read()
        except OSError as error:
            return [self._end(str(error))]
        events = self._call.receive(data) if data else []
        return events + self._keep_alive(heard=bool(data))

    def close(self) -> None:
        """Hang up, after what was said."""
        if not self._call.over:
            self.flush()
        self._call.over = True
        self._endpoint.close()

    def abandon(self) -> None:
        """In a forked child: let go of what the parent must be able to close."""
        self._endpoint.abandon()

    def _keep_alive(self, *, heard: bool) -> list[Event]:
        now = time.monotonic()
        if heard:
            self._heard_at, self._pinged_at = now, None
        elif self._pinged_at is not None:
            if now - self._pinged_at > PING_LIMIT_S:
                return [self._end(f"no answer to a ping for {PING_LIMIT_S:g} s")]
        elif now - self._heard_at > PING_AFTER_S:
            self._pinged_at = now
            self._call.ping()
        return []

    def _end(self, words: str) -> Ended:
        self._call.over = True
        return Ended("UNAVAILABLE", words)
