"""What the journal takes: how many runs, how many attempts of each, and how much disk.

Full is never silent and never half: what is not recorded is not acknowledged, its session ends
with a refusal that names the limit, and its trainer trains on and tries again. A limit that is
reached stands in the log once, and once more when there is room again.
"""

import asyncio
import logging
import time
from collections import Counter

from lrpilot_controller.errors import LimitReached
from lrpilot_controller.journal.base import Journal, RunKey
from lrpilot_controller.journal.database import Database
from lrpilot_controller.server.limits import Clock, ServerLimits, over

log = logging.getLogger(__name__)

MIB = 1 << 20
LOOK_S = 1.0  # between two looks at the disk
RECOUNT_S = 10.0  # between two counts of the runs while there are too many
HEADROOM = 1.1  # of the journal's size, for the runs that are under way when it is reached
RESERVE = 0.5  # of the free space, likewise
ROOM = "make room (old runs, another --storage), or change it in the daemon's --config"


class Room:
    """Whether the journal may grow."""

    def __init__(
        self, place: Database, limits: ServerLimits, clock: Clock = time.monotonic
    ) -> None:
        self._place = place
        self._limits = limits
        self._clock = clock
        self._looked = -LOOK_S
        self._full: str | None = None  # why no new run is taken
        self._very_full: str | None = None  # why nothing is

    def check(self, *, new: bool) -> None:
        """Look whether there is room for more of a run, or for a `new` one.

        Raises:
            LimitReached: there is not.
        """
        now = self._clock()
        if now - self._looked >= LOOK_S:
            self._looked = now
            self._look()
        if (refusal := self._full if new else self._very_full) is not None:
            raise LimitReached(refusal)

    def _look(self) -> None:
        before = (bool(self._full), bool(self._very_full))
        try:
            used, free = self._place.on_disk() / MIB, self._place.free() / MIB
        except OSError as error:  # somebody removed it, or unmounted it
            self._full = self._very_full = f"the journal's disk cannot be looked at: {error}"
        else:
            self._full = self._refusal(used, free, 1.0, 1.0)
            self._very_full = self._refusal(used, free, HEADROOM, RESERVE)
        if before == (bool(self._full), bool(self._very_full)):
            return
        if self._very_full:
            log.warning("nothing is recorded any more, training goes on: %s", self._very_full)
        elif self._full:
            log.warning("no new run is taken, those under way go on: %s", self._full)
        else:
            log.info("there is room in the journal again")

    def _refusal(self, used: float, free: float, headroom: float, reserve: float) -> str | None:
        most, least = self._limits.max_journal_mib, self._limits.min_free_mib
        if used > most * headroom:
            return str(over("max_journal_mib", most, f"the journal has {used:.0f} MiB", ROOM))
        if free < least * reserve:
            asked = f"the journal's disk has {free:.0f} MiB left"
            return str(over("min_free_mib", least, asked, ROOM))
        return None


class Intake:
    """Which runs and attempts the journal takes.

    Args:
        journal: asked for its runs when the first one opens, and again while there are too many.
        limits: what is allowed.
        room: of the journal; None where nobody counts.
    """

    def __init__(
        self,
        journal: Journal,
        limits: ServerLimits,
        room: Room | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        self._journal = journal
        self._limits = limits
        self._room = room
        self._clock = clock
        self._known: set[RunKey] | None = None
        self._of_project: Counter[str] = Counter()
        self._counted = 0.0

    async def run(self, key: RunKey) -> None:
        """Let a run in.

        Raises:
            LimitReached: it is a new one, and there are too many; or there is no room.
        """
        if self._known is None or (key not in self._known and self._refusal(key)):
            await self._count()
        assert self._known is not None
        new = key not in self._known
        if self._room is not None:
            self._room.check(new=new)
        if new and (refusal := self._refusal(key)) is not None:
            raise refusal
        if new:
            self._known.add(key)
            self._of_project[key.project] += 1

    def attempt(self, key: RunKey, earlier: int) -> None:
        """Let another attempt of a run in, which has had so many.

        Raises:
            LimitReached: there were too many.
        """
        most = self._limits.max_attempts_per_run
        if earlier >= most:
            asked = f"run {key} has had {earlier} attempts"
            raise over("max_attempts_per_run", most, asked, "choose another run name")

    def forgotten(self, key: RunKey) -> None:
        """It was dropped: there is room for another one."""
        if self._known is not None and key in self._known:
            self._known.remove(key)
            self._of_project[key.project] -= 1

    def more(self) -> None:
        """Let more of a run under way in.

        Raises:
            LimitReached: there is no room.
        """
        if self._room is not None:
            self._room.check(new=False)

    async def _count(self) -> None:
        now = self._clock()
        if self._known is None or now - self._counted >= RECOUNT_S:
            self._counted = now
            self._known = set(await asyncio.to_thread(self._journal.runs))
            self._of_project = Counter(run.project for run in self._known)

    def _refusal(self, key: RunKey) -> LimitReached | None:
        assert self._known is not None
        limits, there = self._limits, self._of_project[key.project]
        if there >= limits.max_runs_per_project:
            asked = f"run {key} is new, and its project has {there} runs"
            return over("max_runs_per_project", limits.max_runs_per_project, asked, ROOM)
        if len(self._known) >= limits.max_runs:
            asked = f"run {key} is new, and the journal has {len(self._known)} runs"
            return over("max_runs", limits.max_runs, asked, ROOM)
        return None
