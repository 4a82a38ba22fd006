"""How the agent thread waits, and how others wake it."""

import contextlib
import queue
import time
from collections import deque

from lrpilot.client.session import Event, Link, Received


class Bell:
    """A wake-up without a lock that the training thread could wait for, and the events it tells of.

    Attributes:
        urgent: a flush is wanted now; also keeps a loop of urgent calls from piling up wake-ups.
        deadline: when close() stops waiting; None while the agent is to go on.
        acks_ring: acknowledgements matter at once, not at the next tick.
        relaxed: the daemon is busy, and asked for fewer flushes.
    """

    def __init__(self) -> None:
        self.urgent = False
        self.deadline: float | None = None
        self.acks_ring = False
        self.relaxed = False
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._events: deque[tuple[Link, Event]] = deque()

    def ring(self) -> None:
        """Wake the agent."""
        self._wake.put(None)

    def hurry(self) -> None:
        """Wake the agent for a flush."""
        if not self.urgent:
            self.urgent = True
            self._wake.put(None)

    def deliver(self, link: Link, event: Event) -> None:
        """Called by threads of grpc. A mere acknowledgement can wait for the next tick."""
        self._events.append((link, event))
        if (
            not isinstance(event, Received)
            or self.acks_ring
            or self.deadline is not None
            or event.message.WhichOneof("body") is not None
        ):
            self._wake.put(None)

    def take(self, link: Link) -> list[Event]:
        """What happened on `link`; events of another one, which was cut, are forgotten."""
        events = []
        while self._events:
            origin, event = self._events.popleft()
            if origin is link:
                events.append(event)
        return events

    def pause(self, seconds: float) -> None:
        """Wait for a wake-up or the time, never beyond the deadline."""
        if self.deadline is not None:
            seconds = min(seconds, self.deadline - time.monotonic())
        with contextlib.suppress(queue.Empty):
            self._wake.get(timeout=max(0.0, seconds))
            while True:
                self._wake.get_nowait()
