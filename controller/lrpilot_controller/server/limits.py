"""What the daemon allows, per identity and in all; what is over it gets a refusal with its name.

A refusal is an answer to one peer: sessions that are open go on. It is worth another try later,
so it says when. The owner, on the daemon's own socket, has the limits in all for himself.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from lrpilot_controller.errors import LimitReached
from lrpilot_controller.server.identity import Identity, Role

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """The section `[server]` of the daemon's file.

    Attributes:
        max_sessions: open at once, in all.
        max_sessions_per_identity: open at once, of one token.
        new_sessions_per_minute: of one identity, on average; so many at once, and at least as many
            as it may have open, so that all jobs come back at once after a restart.
        samples_per_second: of one session, on average over ten seconds; a message counts as 50 at
            least. A session that is faster is read no faster, and after a minute refused.
        samples_per_second_per_identity: the same of all sessions of one token together.
        operator_calls_per_second: of one identity, on average over ten seconds.
        max_runs: in the journal, in all.
        max_runs_per_project: in the journal.
        max_attempts_per_run: in the journal.
        max_journal_mib: size of the journal's file beyond which no new run is taken; beyond a
            tenth more, nothing of the runs under way either.
        min_free_mib: space on the journal's disk below which no new run is taken; below half of
            it, nothing of the runs under way either.
    """

    max_sessions: int = 2000
    max_sessions_per_identity: int = 200
    new_sessions_per_minute: int = 300
    samples_per_second: int = 20_000
    samples_per_second_per_identity: int = 100_000
    operator_calls_per_second: int = 20
    max_runs: int = 100_000
    max_runs_per_project: int = 20_000
    max_attempts_per_run: int = 10_000
    max_journal_mib: int = 100 * 1024
    min_free_mib: int = 64


BURST_S = 10.0
"""A rate is an average over so many seconds."""

PATIENCE_S = 60.0
"""How long a session is held back before it is refused."""

MESSAGE_SAMPLES = 50
"""A message costs the daemon about as much as so many samples in one."""


def over(name: str, value: int, asked: str, advice: str) -> LimitReached:
    """The refusal of what is over a limit: what was asked, the limit, and what to do."""
    return LimitReached(f"{asked}; the limit is server.{name} = {value}: {advice}")


class Bucket:
    """Holds up to `size` tokens and gains `rate` of them per second; may be overdrawn."""

    def __init__(self, rate: float, size: float, clock: Clock = time.monotonic) -> None:
        self._rate = rate
        self._size = size
        self._clock = clock
        self._left = size
        self._at = clock()

    def take(self, tokens: float = 1.0) -> float:
        """Take them in any case; seconds until the bucket is no longer overdrawn."""
        self._gain()
        self._left -= tokens
        return max(0.0, -self._left / self._rate)

    def wait(self, tokens: float = 1.0) -> float:
        """Seconds until so many can be taken without overdrawing."""
        self._gain()
        return max(0.0, (tokens - self._left) / self._rate)

    def _gain(self) -> None:
        now = self._clock()
        self._left = min(self._size, self._left + (now - self._at) * self._rate)
        self._at = now


class Meter:
    """Holds back one session that sends faster than it may."""

    def __init__(self, limits: ServerLimits, shared: Bucket | None, clock: Clock) -> None:
        self._limits = limits
        self._shared = shared
        self._clock = clock
        rate = limits.samples_per_second
        self._own = Bucket(rate, rate * BURST_S, clock)
        self._held_since: float | None = None

    def charge(self, samples: int) -> float:
        """Count a message with so many samples; seconds to wait before the next one is read.

        Raises:
            LimitReached: it has been held back for a minute, and still sends as much.
        """
        cost = max(samples, MESSAGE_SAMPLES)
        own = self._own.take(cost)
        pause = max(own, self._shared.take(cost) if self._shared else 0.0)
        if not pause:
            self._held_since = None
            return 0.0
        now = self._clock()
        self._held_since = now if self._held_since is None else self._held_since
        if now - self._held_since > PATIENCE_S:
            name = "samples_per_second" if own else "samples_per_second_per_identity"
            asked = f"more samples than allowed came for {PATIENCE_S:g} s (a message counts as "
            raise over(
                name,
                getattr(self._limits, name),
                f"{asked}{MESSAGE_SAMPLES} at least)",
                "report less often, or raise it in the daemon's --config",
            )
        return pause


class _Guest:
    """What one identity uses just now."""

    def __init__(self, limits: ServerLimits, owner: bool, clock: Clock) -> None:
        self.name, self.most = "max_sessions_per_identity", limits.max_sessions_per_identity
        if owner:
            self.name, self.most = "max_sessions", limits.max_sessions
        self.open = 0
        per_minute = max(limits.new_sessions_per_minute, self.most if owner else 0)
        self.openings = Bucket(per_minute / 60.0, max(per_minute, self.most), clock)
        calls, samples = limits.operator_calls_per_second, limits.samples_per_second_per_identity
        self.calls = Bucket(calls, calls * BURST_S, clock)
        self.samples = None if owner else Bucket(samples, samples * BURST_S, clock)


class Door:
    """Counts who is there. There is an entry per identity, so per token and never per peer."""

    def __init__(self, limits: ServerLimits, clock: Clock = time.monotonic) -> None:
        self._limits = limits
        self._clock = clock
        self._guests: dict[str, _Guest] = {}
        self._open = 0

    @contextmanager
    def session(self, who: Identity) -> Iterator[Meter]:
        """Count a session while it is open; what is to meter it.

        Raises:
            LimitReached: there are too many, or they come too fast.
        """
        guest = self._guest(who)
        self._admit(who, guest)
        self._open += 1
        guest.open += 1
        try:
            yield Meter(self._limits, guest.samples, self._clock)
        finally:
            self._open -= 1
            guest.open -= 1

    def call(self, who: Identity) -> None:
        """Count a call of an operator.

        Raises:
            LimitReached: they come too fast.
        """
        calls = self._guest(who).calls
        if wait := calls.wait():
            raise over(
                "operator_calls_per_second",
                self._limits.operator_calls_per_second,
                f"{who.name} calls too often",
                _later(wait),
            )
        calls.take()

    def _admit(self, who: Identity, guest: _Guest) -> None:
        advice = "end some of them, or raise it in the daemon's --config"
        if guest.open >= guest.most:
            asked = f"{who.name} has {guest.open} sessions open"
            raise over(guest.name, guest.most, asked, advice)
        if self._open >= self._limits.max_sessions:
            asked = f"{self._open} sessions are open in all"
            raise over("max_sessions", self._limits.max_sessions, asked, advice)
        if wait := guest.openings.wait():
            rate = self._limits.new_sessions_per_minute
            asked = f"{who.name} opens sessions too fast"
            raise over("new_sessions_per_minute", rate, asked, _later(wait))
        guest.openings.take()

    def _guest(self, who: Identity) -> _Guest:
        guest = self._guests.get(who.name)
        if guest is None:
            guest = _Guest(self._limits, who.role is Role.LOCAL, self._clock)
            self._guests[who.name] = guest
        return guest


def _later(seconds: float) -> str:
    return f"try again in {max(1, round(seconds))} s"
