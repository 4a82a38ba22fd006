"""Runs that are set aside: LRPilot failed on them, and would fail again at each replay."""

import logging

from lrpilot_controller.errors import RunFailed
from lrpilot_controller.journal.base import RunKey
from lrpilot_controller.server.codes import words_of

log = logging.getLogger(__name__)


class Aside:
    """Refuses the runs that failed, until the daemon is started again: it may be a newer one."""

    def __init__(self) -> None:
        self._failures: dict[RunKey, str] = {}

    def check(self, key: RunKey) -> None:
        """Let a run pass that did not fail.

        Raises:
            RunFailed: it did.
        """
        if (words := self._failures.get(key)) is not None:
            raise RunFailed(words)

    def put(self, key: RunKey, error: Exception) -> RunFailed:
        """Set a run aside, and say once in the log where it failed; what its trainer is told."""
        words = (
            f"LRPilot failed on this run ({type(error).__name__}: {words_of(error)}); training "
            "goes on unguarded. A daemon that is started anew tries again; this one's log has more"
        )
        if key not in self._failures:
            log.error("run %s is set aside", key, extra={"run": str(key)}, exc_info=error)
        self._failures[key] = words
        return RunFailed(words)

    def forget(self, key: RunKey) -> None:
        """There is nothing left of it that could fail."""
        self._failures.pop(key, None)
