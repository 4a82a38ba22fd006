"""Processes that die a thousand times and must be back soon: forked where all is imported."""

import json
import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

from support.daemon import script, until
from support.faults.daemon import FaultyDaemon


class Nursery:
    """A process that starts others; see `scripts/nursery.py`."""

    def __init__(self, module: str) -> None:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        process = script("nursery.py", module, **pipes)
        assert process.stdin is not None
        assert process.stdout is not None
        self._process, self._in, self._out = process, process.stdin, process.stdout
        assert self._out.readline() == "ready\n"

    def start(self, log: Path, *arguments: str) -> "Child":
        """One more process."""
        self._in.write(json.dumps([str(log), *arguments]) + "\n")
        self._in.flush()
        return Child(int(self._out.readline()))

    def close(self) -> None:
        """It ends; what it started does not."""
        self._process.communicate()


class Child:
    """A process that a nursery started. The system reaps it."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    @property
    def alive(self) -> bool:
        """Whether it is there."""
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        return True

    def send(self, number: int) -> None:
        """Send it a signal, if it is there."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.send(signal.SIGKILL)
        until(lambda: not self.alive, what=f"the end of process {self.pid}")


class StormDaemon(FaultyDaemon):
    """A daemon out of a nursery."""

    def __init__(self, folder: Path, nursery: Nursery) -> None:
        self._nursery = nursery
        self._child: Child | None = None
        super().__init__(folder)

    def start(self, *options: str) -> None:
        """Start it, and wait until it accepts connections or has died of its conditions."""
        serve = ("serve", "--listen", self.address, "--storage", str(self.storage), *options)
        self._child = self._nursery.start(self.log_file, str(self._conditions), *serve)
        until(lambda: self.answers() or not self.pid, what="the daemon")
        assert self.answers() or self.doomed, f"the daemon ended at once:\n{self.log[-2000:]}"

    @property
    def pid(self) -> int | None:
        """Of its process; None where it does not run."""
        return self._child.pid if self._child is not None and self._child.alive else None

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        if self._child is not None:
            self._child.kill()
