"""When to flush, when to give up on a silent daemon, and when to try again.

Each class is told the time, so that a test needs no clock.
"""

import random

FLUSH_S = 0.25
EAGER_FLUSH_S = 0.05
EAGER_S = 1.0
URGENT_GAP_S = 0.005
# The longest that a busy daemon may ask for: more would make what it decides too late.
ASKED_MAX_S = 5.0
STEADY_S = 1.0


class Pace:
    """Chooses the flush interval.

    A flush wakes two threads and evicts what the training thread had in the processor's caches: it
    costs about as much for one sample as for a hundred. So there are four a second, however fast
    the loop is. A daemon of many runs may ask for fewer; what is urgent does not wait.
    """

    def __init__(self) -> None:
        self._last = 0.0
        self._eager_until = 0.0
        self._asked = 0.0

    def opened(self, now: float) -> None:
        """A session opened: the first samples are wanted soon, they decide about the search."""
        self._eager_until = now + EAGER_S
        self._last = now - FLUSH_S

    def asked(self, flush_ms: int) -> None:
        """The daemon says how many milliseconds it would like between flushes; 0: as you like."""
        self._asked = min(flush_ms / 1000, ASKED_MAX_S)

    def flushed(self, now: float) -> None:
        """What was there was sent."""
        self._last = now

    def interval(self, now: float) -> float:
        """Seconds between two flushes."""
        return max(EAGER_FLUSH_S if now < self._eager_until else FLUSH_S, self._asked)

    def due(self, now: float, urgent: bool) -> float:
        """Seconds from now until the next flush; 0 or less: flush now."""
        gap = URGENT_GAP_S if urgent else self.interval(now)
        return self._last + gap - now


class Watchdog:
    """Notices a daemon that holds the connection but answers no more.

    Keepalive pings cannot: on a unix socket they queue behind a blocked write for ever.
    """

    def __init__(self, limit_s: float, lag_s: float = 1.0) -> None:
        self._limit_s = limit_s
        self._lag_s = lag_s
        self._since: float | None = None
        self._ticked: float | None = None

    def expect(self, now: float) -> None:
        """Something is awaited from now on, if nothing was before."""
        if self._since is None:
            self._since = now

    def heard(self, now: float, more: bool) -> None:
        """The daemon answered; with `more`, something else is still awaited."""
        self._since = now if more else None

    def expired(self, now: float) -> bool:
        """Whether the daemon has been silent for too long. Ask at every tick.

        If we were stopped ourselves (suspend, a long hold of the GIL), the silence may have been
        ours: it starts to count anew.
        """
        late = self._ticked is not None and now - self._ticked > self._lag_s
        self._ticked = now
        if late and self._since is not None:
            self._since = now
        return self._since is not None and now - self._since >= self._limit_s


class Backoff:
    """Full jitter: a random wait below a bound that doubles with each failure.

    A daemon that answers that it is too busy is given more time than one that does not answer.
    """

    def __init__(self, low_s: float = 0.05, high_s: float = 2.0, busy_s: float = 30.0) -> None:
        self._low_s = low_s
        self._high_s = high_s
        self._busy_s = busy_s
        self._failures = 0
        # A generator of its own: seeding and state of the user's `random` stay as they are.
        self._random = random.Random()

    def next(self, *, busy: bool = False) -> float:
        """Seconds to wait before the next try."""
        high_s = self._busy_s if busy else self._high_s
        bound = min(high_s, self._low_s * 2 ** min(self._failures, 30))
        self._failures += 1
        return self._random.uniform(0.2 * self._low_s, bound)

    def progress(self, after_s: float) -> None:
        """A session got something done, so long after it was begun.

        One that lasts says that all is well again. Many short ones would cost the training
        process more than no session does: they become as rare as vain tries.
        """
        if after_s >= STEADY_S:
            self._failures = 0
