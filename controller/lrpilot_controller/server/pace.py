"""How often trainers are asked to flush: less often while this daemon is busy.

A message costs about the same whether it carries ten samples or a hundred. Whoever has a core to
itself or few runs asks for nothing, and hears of every loss within a quarter of a second; with
hundreds of runs on that core, larger messages are what lets it hear of them at all. With few runs
it is not their messages that keep it, or its host, busy: there would be nothing to gain.

A session is eager in its first second. Where many open at once (a daemon that is back, a sweep that
starts), their number says what is coming before any load does.
"""

import asyncio
import time
from pathlib import Path

TICK_S = 0.25
BUSY, CALM = 0.7, 0.6
"""Shares of one core: above, less is asked for, and below, more again."""
LATE_S = 0.1
"""A tick that comes so late shows a busy loop too: others may have most of the core."""
MEMORY = 0.5
STORM = 5.0
"""Openings lately, half of it per tick: about so many at ten sessions per second."""
CALM_MESSAGES = 400
"""Messages per second of which a core handles so many without effort."""
LIGHT_MESSAGES = 100
"""Messages per second which are no load, whatever else is: nobody is asked for fewer."""
FIRST_MS, MOST_MS, UTMOST_MS = 250, 2000, 4000
"""The least that is worth asking for, and the most: what is noticed so late must be in time. Who is
far too busy at that asks for up to twice as much: else the same time is spent in queues."""
SLOWER, MUCH_SLOWER, FASTER = 1.3, 2.0, 0.95
TOO_BUSY = 0.9
"""A share above which it is far too much: then steps are larger."""
SCHEDULED = Path("/proc/self/schedstat")


class FlushPace:
    """Steers what trainers are asked for by how busy this process is.

    Attributes:
        sessions: how many are open.
    """

    def __init__(self) -> None:
        self.sessions = 0
        self._asked_ms = 0
        self._busy = 0.0
        self._late = 0.0
        self._openings = 0.0

    @property
    def flush_ms(self) -> int:
        """Milliseconds between two flushes of a trainer; 0: as it likes."""
        asked = min(self._asked_ms, round(1000 * self.sessions / LIGHT_MESSAGES))
        return asked if asked > FIRST_MS else 0

    @property
    def busy(self) -> float:
        """The share of one core that this process used, or its loop waited for, lately."""
        return self._busy

    @property
    def late_s(self) -> float:
        """How late ticks came lately, in seconds."""
        return max(0.0, self._late)

    def tick(self, busy: float, late_s: float) -> None:
        """Learn from a tick: the share of a core that was used since the last, and its delay."""
        self._busy += MEMORY * (busy - self._busy)
        self._late += MEMORY * (late_s - self._late)
        self._openings *= MEMORY
        if self._busy > BUSY or self._late > LATE_S:
            far_over = self._busy > TOO_BUSY
            slower, most = (MUCH_SLOWER, UTMOST_MS) if far_over else (SLOWER, MOST_MS)
            asked = min(round(max(self._asked_ms, FIRST_MS) * slower), most)
            self._asked_ms = max(self._asked_ms, asked)
        elif self._busy < CALM and self._asked_ms:
            faster = round(self._asked_ms * FASTER)
            self._asked_ms = faster if faster > FIRST_MS else 0

    def opened(self) -> None:
        """A session opened: many at once are a load that is still to come."""
        self._openings += 1
        ahead = round(1000 * self.sessions / CALM_MESSAGES)
        if self._openings > STORM and ahead > FIRST_MS:
            self._asked_ms = max(self._asked_ms, min(ahead, MOST_MS))

    async def keep(self) -> None:
        """Tick until cancelled. To be awaited on the process's first thread."""
        now, used, wanted = time.monotonic(), time.process_time(), _wanted_s()
        while True:
            await asyncio.sleep(TICK_S)
            before = now, used, wanted
            now, used, wanted = time.monotonic(), time.process_time(), _wanted_s()
            took = now - before[0]
            self.tick(max(used - before[1], wanted - before[2]) / took, took - TICK_S)


def _wanted_s() -> float:
    """Seconds that the process's first thread ran or waited for a core; 0 where none can say.

    Who gets little of a core is as busy as who uses all of it, and needs not be late.
    """
    try:
        ran, waited, _ = SCHEDULED.read_text().split()
    except (OSError, ValueError):
        return 0.0
    return (int(ran) + int(waited)) / 1e9
