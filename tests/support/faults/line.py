"""Lines between trainer and daemon, each a process of its own, that break as a test says."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support.daemon import script


class BrokenLine:
    """A proxy of bytes; `scripts/bytes_proxy.py` says what it can do.

    Attributes:
        address: where the trainer finds it.
    """

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._in, self._out = process.stdin, process.stdout
        self.address = self._out.readline().strip()

    def now(self, **faults: Any) -> None:
        """These faults from now on, and no others; none where none is named."""
        self._in.write(json.dumps(faults) + "\n")
        self._in.flush()
        assert self._out.readline() == "ok\n"


@contextmanager
def broken_line(target: str, folder: Path, *, tcp: bool = False) -> Iterator[BrokenLine]:
    """A line to `target`, in order at first: a unix socket in `folder`, or a port."""
    listen = "127.0.0.1:0" if tcp else f"unix:{folder / 'line.sock'}"
    with _process("bytes_proxy.py", listen, target) as process:
        yield BrokenLine(process)


@contextmanager
def mangled_line(target: str, folder: Path, *, seed: int = 0, **faults: float) -> Iterator[str]:
    """The address of a line that mangles messages; `scripts/messages_proxy.py` says how."""
    listen = f"unix:{folder / 'mangled.sock'}"
    arguments = (listen, target, json.dumps(faults), str(seed))
    with _process("messages_proxy.py", *arguments) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()


@contextmanager
def _process(name: str, *arguments: str) -> "Iterator[subprocess.Popen[str]]":
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with script(name, *arguments, **pipes) as process:
        try:
            yield process
        finally:
            process.kill()
