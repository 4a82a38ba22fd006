"""A real daemon of which a test says what goes wrong in it, and when."""

import json
import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from support.daemon import Daemon, until
from support.nursery import Nursery


class FaultyDaemon(Daemon):
    """`lrpilot serve` under `scripts/faulty_daemon.py`, which says what can go wrong.

    Attributes:
        doomed: whether it is to die somewhere.
        deaths: how often it was found dead of what the test asked for.
    """

    def __init__(self, folder: Path, nursery: Nursery) -> None:
        super().__init__(folder, nursery)
        self._conditions = folder / "conditions.json"
        self.first = (str(self._conditions),)
        self.deaths = 0
        self.suffer()

    def suffer(self, **conditions: Any) -> None:
        """From now on this goes wrong, and nothing else; see the script for what can."""
        self.doomed = "kill" in conditions
        new = self._conditions.with_suffix(".new")
        new_text = json.dumps(conditions)
        new.write_text(new_text)
        os.replace(new, self._conditions)
        told = self._conditions.with_suffix(f".{self.pid}")
        until(lambda: not self.pid or (told.exists() and told.read_text() == new_text))

    @property
    def pid(self) -> int | None:
        """Of its process; None where it does not run."""
        running = self.process is not None and self.process.poll() is None
        return self.process.pid if self.process is not None and running else None

    @property
    def died(self) -> bool:
        """Whether it ended by itself; it is reaped then."""
        if self.process is None or self.process.poll() is None:
            return False
        assert self.process.returncode == -signal.SIGKILL, self.log
        self.process = None
        self.deaths += 1
        return True

    def freeze(self) -> None:
        """SIGSTOP."""
        self.send(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self.send(signal.SIGCONT)

    def send(self, number: int) -> None:
        """Send it a signal, if it is there."""
        if (pid := self.pid) is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    @contextmanager
    def full_disk(self, room: int = 0) -> Iterator[None]:
        """No file of its storage may become larger than its journal is now, and `room` bytes.

        Works without privileges. The system then says EFBIG where a full disk says ENOSPC.
        """
        files = self.storage.glob("journal.db*")
        limit = max((file.stat().st_size for file in files), default=0) + room
        _limit_files(self.pid, limit)
        try:
            yield
        finally:
            _limit_files(self.pid, resource.RLIM_INFINITY)


def _limit_files(pid: int | None, size: int) -> None:
    if pid is not None:
        with suppress(ProcessLookupError):
            hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)[1]
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, hard))
