"""How the agent thread waits, and how others wake it."""

import contextlib
import os
import selectors
import socket
import time

from lrpilot.client.session import Link

# Not epoll: a child of the process would share it.
Selector = getattr(selectors, "PollSelector", selectors.SelectSelector)
READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


class Bell:
    """A wake-up without a lock that the training thread could wait for.

    Attributes:
        urgent: a flush is wanted now; also keeps a loop of urgent calls from piling up wake-ups.
        deadline: when close() stops waiting; None while the agent is to go on.
    """

    def __init__(self) -> None:
        self.urgent = False
        self.deadline: float | None = None
        self._ear: socket.socket | None = None
        self._mouth: socket.socket | None = None
        self._selector = Selector()
        self._ear_alone = Selector()
        self._link: Link | None = None
        self._watched = READ

    def hang(self) -> None:
        """From now on it can ring."""
        self._ear, self._mouth = socket.socketpair()
        for one in (self._ear, self._mouth):
            one.setblocking(False)
        self._selector.register(self._ear, READ)
        self._ear_alone.register(self._ear, READ)

    def take_down(self) -> None:
        """It rings no more.

        To be called by those who ring it: else the file descriptor could be another file's by the
        time that it is written to.
        """
        for one in (self._ear, self._mouth):
            if one is not None:
                one.close()
        self._ear = self._mouth = None

    def ring(self) -> None:
        """Wake the agent."""
        if self._mouth is not None:
            with contextlib.suppress(OSError):  # it is full of wake-ups
                self._mouth.send(b"!")

    def hurry(self) -> None:
        """Wake the agent for a flush."""
        if not self.urgent:
            self.urgent = True
            self.ring()

    def watch(self, link: Link | None) -> None:
        """Wake up for what happens on `link` too, and on no other."""
        if self._link is not None:
            self._selector.unregister(self._link)
        self._link, self._watched = link, READ
        if link is not None:
            self._selector.register(link, READ)

    def pause(self, seconds: float, *, listening: bool = True) -> None:
        """Send what is to be sent; wait for a wake-up or the time, never beyond the deadline.

        Args:
            seconds: the time.
            listening: whether what the daemon says is a wake-up, too; else it is read later.
        """
        if self.deadline is not None:
            seconds = min(seconds, self.deadline - time.monotonic())
        link, selector = self._link, self._selector
        if link is not None:
            link.flush()
            if link.over:
                return
            wanted = READ | WRITE if link.unwritten else READ
            if wanted != self._watched:
                self._selector.modify(link, wanted)
                self._watched = wanted
            if link.unread:
                seconds = 0.0
            if not (listening or link.unwritten):
                selector = self._ear_alone
        selector.select(max(0.0, seconds))
        assert self._ear is not None
        with contextlib.suppress(BlockingIOError):
            self._ear.recv(4096)

    def abandon(self) -> None:
        """In a forked child: wake nobody, whose thread is the parent's."""
        for one in (self._ear, self._mouth):
            if one is not None:
                os.close(one.detach())
        self._ear = self._mouth = None
