"""A real daemon of which a test says what goes wrong in it, and when."""

import json
import os
import resource
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support.daemon import SCRIPTS, Daemon, until


class FaultyDaemon(Daemon):
    """`lrpilot serve` under `scripts/faulty_daemon.py`, which says what can go wrong.

    Attributes:
        deaths: how often it was found dead of what the test asked for.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._conditions = folder / "conditions.json"
        self.command = (sys.executable, str(SCRIPTS / "faulty_daemon.py"), str(self._conditions))
        self.deaths = 0
        self.suffer()

    def suffer(self, **conditions: Any) -> None:
        """From now on this goes wrong, and nothing else; see the script for what can."""
        new = self._conditions.with_suffix(".new")
        new.write_text(json.dumps(conditions))
        os.replace(new, self._conditions)
        if self.process is not None and self.process.poll() is None:
            told = self._conditions.with_suffix(f".{self.process.pid}")
            until(lambda: told.exists() and told.read_text() == json.dumps(conditions))

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
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    @contextmanager
    def full_disk(self, room: int = 0) -> Iterator[None]:
        """No file of its storage may become larger than its journal is now, and `room` bytes.

        Works without privileges. The system then says EFBIG where a full disk says ENOSPC.
        """
        assert self.process is not None
        files = self.storage.glob("journal.db*")
        limit = max(file.stat().st_size for file in files) + room
        before = resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE, (limit, before[1]))
        try:
            yield
        finally:
            if self.process is not None:
                resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE, before)
