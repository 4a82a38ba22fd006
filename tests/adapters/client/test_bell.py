"""What wakes the agent, and what may wait until it wakes anyway."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from lrpilot.client.bell import Bell

LONG_S = 3600.0
SOON_S = 0.2


class Talkative:
    """A line on which something was said already."""

    over = unread = False

    def __init__(self, *, unwritten: bool) -> None:
        self.unwritten = unwritten
        self._ours, theirs = socket.socketpair()
        theirs.send(b"an acknowledgement")
        theirs.close()

    def fileno(self) -> int:
        return self._ours.fileno()

    def flush(self) -> None: ...

    def close(self) -> None:
        self._ours.close()


@contextmanager
def paused(*, listening: bool, unwritten: bool) -> Iterator[tuple[Bell, threading.Thread]]:
    """A thread in a pause that would end after an hour."""
    bell, line = Bell(), Talkative(unwritten=unwritten)
    watched: Any = line
    bell.hang()
    bell.watch(watched)
    thread = threading.Thread(target=bell.pause, args=[LONG_S], kwargs={"listening": listening})
    thread.start()
    try:
        yield bell, thread
    finally:
        bell.ring()
        thread.join()
        bell.watch(None)
        bell.take_down()
        line.close()


def test_what_the_daemon_says_may_wait_but_not_what_the_training_thread_wants() -> None:
    with paused(listening=False, unwritten=False) as (bell, thread):
        thread.join(SOON_S)
        assert thread.is_alive()
        bell.hurry()
        thread.join()


@pytest.mark.parametrize(("listening", "unwritten"), [(True, False), (False, True)])
def test_a_line_that_is_listened_to_or_cannot_be_written_to_ends_a_pause(
    listening: bool, unwritten: bool
) -> None:
    with paused(listening=listening, unwritten=unwritten) as (_, thread):
        thread.join()
