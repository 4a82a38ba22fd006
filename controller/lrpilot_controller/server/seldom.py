"""Log lines that a peer can cause, so often as it likes: the first one, and then a count."""

import logging
import time

from lrpilot_controller.server.limits import Clock

GAP_S = 60.0
MAX_KEYS = 1000


class Seldom:
    """Logs at most once in a minute per key; the next line says what was left out.

    Args:
        log: where to.
    """

    def __init__(self, log: logging.Logger, clock: Clock = time.monotonic) -> None:
        self._log = log
        self._clock = clock
        self._told: dict[str, tuple[float, int]] = {}  # when, and how many were left out since

    def info(self, key: str, text: str) -> None:
        """Log `text`, unless something of this key was logged a moment ago."""
        if (more := self._more(key)) is not None:
            self._log.info("%s%s", text, more)

    def error(self, key: str, text: str, error: Exception) -> None:
        """Log `text` as an error, with where `error` came from."""
        if (more := self._more(key)) is not None:
            self._log.error("%s%s", text, more, exc_info=error)

    def _more(self, key: str) -> str | None:
        """What a line of this key must add, or None where none is due."""
        now = self._clock()
        at, left_out = self._told.get(key, (now - GAP_S, 0))
        if now - at < GAP_S:
            self._told[key] = (at, left_out + 1)
            return None
        if len(self._told) >= MAX_KEYS:
            self._told.clear()
        self._told[key] = (now, 0)
        return f" ({left_out} more like this since the last time)" if left_out else ""
