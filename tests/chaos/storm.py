"""What goes wrong, and when: drawn from a seed, one thing after another."""

import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence

from tests.chaos.crew import Trainer

from support.faults.daemon import FaultyDaemon
from support.faults.line import BrokenLine

POINTS = (
    "journaling samples",
    "within a transaction",
    "journaled samples",
    "journaling decision",
    "journaled decision",
    "arrived receipt",
    "journaling receipt",
    "journaled receipt",
    "journaling result",
    "journaled result",
    "journaled session",
    "replaying",
)
POINT_WAIT_S = 1.0
HOUR = 3600.0


class Storm:
    """Lets one thing after another go wrong.

    Attributes:
        happened: what did, in order, and the second at which it was over.
        kills: SIGKILLs of the daemon.
    """

    def __init__(
        self, daemon: FaultyDaemon, line: BrokenLine, trainers: Sequence[Trainer], seed: int
    ) -> None:
        self._daemon, self._line, self._trainers = daemon, line, trainers
        self._chance = random.Random(seed)
        self._begin = time.monotonic()
        self.happened: list[tuple[float, str]] = []
        self.kills = 0
        kills: list[tuple[Callable[[], str], int]] = [(self._kill, 50), (self._kill_at, 30)]
        self._faults = [
            *kills,
            (self._stop, 2),
            (self._freeze, 3),
            (self._line_fault, 6),
            (self._disk_fault, 6),
            (self._clock, 2),
            (self._freeze_trainer, 1),
            (self._kill_trainer, 1),
        ]

    def rage(self, over: Callable[[], bool]) -> None:
        """Until it is over; everything is in order again then."""
        while not over():
            [fault] = self._chance.choices(*zip(*self._faults, strict=True))
            self.happened.append((time.monotonic() - self._begin, fault()))
            self._calm()

    @property
    def counts(self) -> Counter[str]:
        """How often each thing happened."""
        return Counter(what.split(":")[0] for _, what in self.happened)

    def _calm(self) -> None:
        """All faults end, and a daemon is there."""
        self._line.now()
        self._daemon.suffer()
        if self._daemon.pid is None:
            self._daemon.start()

    def _for(self, low: float, high: float) -> float:
        seconds = self._chance.uniform(low, high)
        time.sleep(seconds)
        return seconds

    def _kill(self) -> str:
        lived = self._for(0.02, 0.5)
        self._daemon.kill()
        self.kills += 1
        return f"daemon killed: {lived:.2f} s after it came back"

    def _kill_at(self) -> str:
        point, when = self._chance.choice(POINTS), self._chance.choice([1, 1, 2, 5])
        self._daemon.suffer(kill=[point, when])
        deadline = time.monotonic() + POINT_WAIT_S
        while self._daemon.pid is not None and time.monotonic() < deadline:
            time.sleep(0.005)
        reached = self._daemon.pid is None
        self._daemon.kill()
        self.kills += 1
        return f"daemon killed {point if reached else 'elsewhere'}: the {when}. time"

    def _stop(self) -> str:
        self._daemon.send(signal.SIGTERM)
        deadline = time.monotonic() + 5.0
        while self._daemon.pid is not None and time.monotonic() < deadline:
            time.sleep(0.01)
        return "daemon stopped"

    def _freeze(self) -> str:
        self._daemon.freeze()
        seconds = self._for(0.2, self._chance.choice([0.5, 4.0]))
        self._daemon.thaw()
        return f"daemon frozen: {seconds:.1f} s"

    def _line_fault(self) -> str:
        fault = self._chance.choice(
            [
                {"swallow": True},
                {"hold": True},
                {"cut": True},
                {"refuse": True, "cut": True},
                {"reset_every": 0.1},
                {"delay": 0.05},
                {"rate": 20_000},
            ]
        )
        self._line.now(**fault)
        return f"line {next(iter(fault))}: {self._for(0.2, 1.5):.1f} s"

    def _disk_fault(self) -> str:
        name, value = self._chance.choice(
            [
                ("full", None),
                ("readonly", True),
                ("slow", 0.2),
                ("flaky", [0.3, self._chance.getrandbits(32)]),
            ]
        )
        if name == "full":
            with self._daemon.full_disk(self._chance.choice([0, 5000])):
                return f"disk full: {self._for(0.2, 1.5):.1f} s"
        self._daemon.suffer(**{name: value})
        return f"disk {name}: {self._for(0.2, 1.5):.1f} s"

    def _clock(self) -> str:
        offset = self._chance.choice([-HOUR, HOUR])
        self._daemon.suffer(clock=offset)
        self._for(0.1, 0.5)
        return f"clock {offset:+g} s"

    def _freeze_trainer(self) -> str:
        trainer = self._chance.choice(self._trainers)
        trainer.process.send_signal(signal.SIGSTOP)
        seconds = self._for(0.2, self._chance.choice([0.5, 4.0]))
        trainer.process.send_signal(signal.SIGCONT)
        return f"trainer frozen: {trainer.name}, {seconds:.1f} s"

    def _kill_trainer(self) -> str:
        trainer = self._chance.choice(self._trainers)
        trainer.process.kill()
        trainer.process.wait()
        trainer.start()
        return f"trainer killed: {trainer.name}"
