"""How often trainers are asked to flush: less often while this daemon is busy.

A message costs about the same whether it carries ten samples or a hundred. Whoever has a core to
itself and few runs asks for nothing, and hears of every loss within a quarter of a second; with
hundreds of runs on that core, larger messages are what lets it hear of them at all.
"""

import asyncio
import time

TICK_S = 0.25
BUSY, CALM = 0.7, 0.6
"""Shares of one core: above, less is asked for, and below, more again."""
LATE_S = 0.1
"""A tick that comes so late shows a busy loop too: others may have most of the core."""
MEMORY = 0.5
FIRST_MS, MOST_MS = 250, 2000
"""The least that is worth asking for, and the most: what is noticed so late must be in time."""
SLOWER, FASTER = 1.3, 0.95


class FlushPace:
    """Steers what trainers are asked for by how busy this process is.

    Attributes:
        flush_ms: milliseconds between two flushes of a trainer; 0: as it likes.
    """

    def __init__(self) -> None:
        self.flush_ms = 0
        self._busy = 0.0
        self._late = 0.0

    @property
    def busy(self) -> float:
        """The share of one core that this process used lately."""
        return self._busy

    @property
    def late_s(self) -> float:
        """How late ticks came lately, in seconds."""
        return max(0.0, self._late)

    def tick(self, busy: float, late_s: float) -> None:
        """Learn from a tick: the share of a core that was used since the last, and its delay."""
        self._busy += MEMORY * (busy - self._busy)
        self._late += MEMORY * (late_s - self._late)
        if self._busy > BUSY or self._late > LATE_S:
            self.flush_ms = min(round(max(self.flush_ms, FIRST_MS) * SLOWER), MOST_MS)
        elif self._busy < CALM and self.flush_ms:
            faster = round(self.flush_ms * FASTER)
            self.flush_ms = faster if faster > FIRST_MS else 0

    async def keep(self) -> None:
        """Tick until cancelled."""
        now, used = time.monotonic(), time.process_time()
        while True:
            await asyncio.sleep(TICK_S)
            last, before = now, used
            now, used = time.monotonic(), time.process_time()
            self.tick((used - before) / (now - last), now - last - TICK_S)
