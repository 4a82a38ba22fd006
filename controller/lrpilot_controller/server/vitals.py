"""The daemon itself, as it stands: what `Status` tells."""

import time

from lrpilot_controller.journal.database import Database
from lrpilot_controller.journal.sql import SqlJournal
from lrpilot_controller.server.sessions import SessionServicer
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
            journal_bytes=size_of(self._journal.place),
        )


def size_of(place: Database) -> int:
    """Bytes on disk of a journal; 0 while nobody can look."""
    try:
        return place.on_disk()
    except OSError:
        return 0
