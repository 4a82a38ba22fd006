"""What the user is told about the daemon: each thing once, in one line."""

import logging
import time

log = logging.getLogger("lrpilot")

# A daemon that comes and goes is told of once in this time.
QUIET_S = 300.0

_once: set[str] = set()


def warn_once(key: str, text: str) -> None:
    """Warn once per process and `key`."""
    if key not in _once:
        _once.add(key)
        log.warning("%s", text)


class Voice:
    """Tells of one agent's line."""

    def __init__(self) -> None:
        self._down = ""  # how it is down, if it is
        self._told = False
        self._quiet_until: dict[str, float] = {}

    def down(self, known: bool, why: str) -> None:
        """The daemon is lost, or, where it never was `known`, not found."""
        if not self._down:
            what = "lost the daemon" if known else "no daemon"
            self._tell("lost", f"{what} ({why}); training goes on, still trying to connect")

    def busy(self, why: str) -> None:
        """The daemon is there, and refuses us for now."""
        if self._down != "busy":
            self._tell("busy", f"the daemon cannot take this run now ({why}); training goes on")

    def _tell(self, how: str, text: str) -> None:
        now = time.monotonic()
        tells = now >= self._quiet_until.get(how, 0.0)
        if tells:
            self._quiet_until[how] = now + QUIET_S
        self._down, self._told = how, self._told or tells
        log.log(logging.WARNING if tells else logging.DEBUG, "LRPilot: %s", text)

    def up(self) -> None:
        """A daemon welcomed us."""
        if self._down:
            # A warning too: who saw that the daemon was lost must see that it is back.
            level = logging.WARNING if self._told else logging.DEBUG
            log.log(level, "LRPilot: connected to the daemon, nothing is wrong any more")
        self._down, self._told = "", False

    def refused(self, why: str) -> None:
        """Nobody will answer this attempt."""
        log.error("LRPilot: the daemon refused this run: %s. Training goes on without it", why)

    def broken(self, error: Exception) -> None:
        """A bug."""
        log.error("LRPilot: no connection to a daemon, training goes on without it: %r", error)
        log.debug("LRPilot: where it failed", exc_info=error)

    def undelivered(self, count: int) -> None:
        """The end came before the daemon had everything."""
        log.warning("LRPilot: %d samples or reports could not be delivered to the daemon", count)
