"""The daemon itself, as it stands: what `Status` tells."""

import time
from pathlib import Path

from lrpilot_controller.journal.sql import SqlJournal
from lrpilot_controller.server.session import SessionServicer
from lrpilot_controller.version import VERSION
from lrpilot_proto.v1 import operator_pb2


class Vitals:
    """A daemon's age and size, from when this was made."""

    def __init__(self, journal: SqlJournal, sessions: SessionServicer) -> None:
        self._journal = journal
        self._sessions = sessions
        self._since = time.monotonic()

    def status(self) -> operator_pb2.DaemonStatus:
        """What a person asks first."""
        return operator_pb2.DaemonStatus(
            version=VERSION,
            generation=self._journal.generation,
            uptime_seconds=time.monotonic() - self._since,
            sessions=self._sessions.active,
            journal_bytes=size_of(self._journal.path),
        )


def size_of(journal: Path) -> int:
    """Bytes on disk of a journal and what was written ahead of it."""
    return sum(
        path.stat().st_size
        for path in (journal, journal.with_name(journal.name + "-wal"))
        if path.exists()
    )
