"""A command on a terminal of a given size, and what a person sees on it."""

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pyte

from support.daemon import environment


class Terminal:
    """A process on a pseudo terminal."""

    def __init__(self, command: list[str], columns: int, rows: int) -> None:
        self._screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self._screen)
        self._master, slave = pty.openpty()
        self._set_size(columns, rows)
        env = environment(TERM="xterm-256color") | {
            key: os.environ[key] for key in ("LRPILOT_ADDRESS",) if key in os.environ
        }
        for name in ("COLUMNS", "LINES", "NO_COLOR"):
            env.pop(name, None)
        self.process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, env=env, start_new_session=True
        )
        os.close(slave)

    def _set_size(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def resize(self, columns: int, rows: int) -> None:
        """A person drags the window's corner."""
        self._screen.resize(rows, columns)
        self._screen.reset()
        self._set_size(columns, rows)

    @property
    def lines(self) -> list[str]:
        """What is on the screen."""
        return [line.rstrip() for line in self._screen.display]

    def see(self, what: Callable[[str], bool] | str, timeout_s: float = 30.0) -> str:
        """Waits until the screen shows something; the whole screen."""
        deadline = time.monotonic() + timeout_s
        while True:
            self._read(0.1)
            text = "\n".join(self.lines)
            if what in text if isinstance(what, str) else what(text):
                return text
            assert time.monotonic() < deadline, f"never seen: {what!r}\n{text}"

    def interrupt(self) -> int:
        """Ctrl-C; the exit status."""
        self.process.send_signal(signal.SIGINT)
        deadline = time.monotonic() + 15
        while self.process.poll() is None and time.monotonic() < deadline:
            self._read(0.1)
        self._read(0.1)
        return self.process.wait(1)

    def close(self) -> None:
        """Ends the process and lets go of the terminal."""
        self.process.kill()
        self.process.wait()
        os.close(self._master)

    def _read(self, timeout_s: float) -> None:
        while select.select([self._master], [], [], timeout_s)[0]:
            try:
                self._stream.feed(os.read(self._master, 1 << 16))
            except OSError:  # the process has let go of it
                return
            timeout_s = 0.0


@contextmanager
def terminal(command: list[str], columns: int = 80, rows: int = 24) -> Iterator[Terminal]:
    """A command on a terminal."""
    one = Terminal(command, columns, rows)
    try:
        yield one
    finally:
        one.close()
