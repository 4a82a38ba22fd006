"""Processes that are started a hundred times and must be there soon: forked where all is imported.

A fresh Python needs a second of a core until a daemon listens; one that is forked needs a tenth.
"""

import json
import os
import signal
import subprocess
import threading
from pathlib import Path
from typing import Any

from support.daemon import ENOUGH_S, script, until


class Nursery:
    """A process that starts others; see `scripts/nursery.py`. Any thread may ask it.

    Args:
        module: the script in `scripts/` that they run.
    """

    def __init__(self, module: str) -> None:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        process = script("nursery.py", module, **pipes)
        assert process.stdin is not None
        assert process.stdout is not None
        self._process, self._in, self._out = process, process.stdin, process.stdout
        self._lock = threading.Lock()
        assert self._out.readline() == "ready\n"

    def start(
        self, log: Path, *arguments: str, environment: dict[str, str] | None = None
    ) -> "Child":
        """One more process.

        Args:
            log: where its standard error is appended.
            arguments: those of the script's `main`.
            environment: its own; None for this process's. Python has read `PYTHON...` long ago.
        """
        env = dict(os.environ) if environment is None else environment
        return Child(self, self.ask(start=arguments, log=str(log), environment=env))

    def ask(self, **request: Any) -> Any:
        """Say a line, and hear one."""
        with self._lock:
            self._in.write(json.dumps(request) + "\n")
            self._in.flush()
            line = self._out.readline()
        assert line, f"the nursery ended with status {self._process.wait()}"
        return json.loads(line)

    def close(self) -> None:
        """It ends; what it started does not."""
        self._process.communicate()


class Child:
    """A process that a nursery started; what it can be asked, `subprocess.Popen` is asked too.

    Attributes:
        returncode: its exit status, once it was found to have ended.
    """

    def __init__(self, nursery: Nursery, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._nursery = nursery
        self._lock = threading.Lock()

    def poll(self) -> int | None:
        """Its exit status; None while it runs."""
        with self._lock:
            if self.returncode is None:
                self.returncode = self._nursery.ask(poll=self.pid)
            return self.returncode

    def wait(self, timeout: float = ENOUGH_S) -> int:
        """Its exit status, once it has ended; fails where that takes longer, in seconds."""
        until(lambda: self.poll() is not None, timeout, f"the end of process {self.pid}")
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send it a signal, if it is there."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL, if it is there."""
        self.send_signal(signal.SIGKILL)
