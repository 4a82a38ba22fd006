"""What a fault of the daemon or of the line to it costs a training loop: nothing, says law 2.

One guarded run in one process. A pair is four short blocks of the same loop: in order, faulty,
faulty, in order; what drifts in the machine meanwhile falls out of the ratio of the faulty two to
the others. Faults take turns, and one of them is none at all: its row is the machine's noise. A
freeze and a black hole are noticed after three seconds: their blocks begin up to four seconds after
the fault. Given is the median over pairs, with a 95 % bootstrap interval. The trainer has a core of
its own, its agent's thread included. What the threads beside the loop take of that core is given as
well: it can be told on a busy machine, too.
"""

import logging
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

from tests.benchmarks._fleet import pinned
from tests.benchmarks._report import middle, percentile, save, table
from tests.benchmarks.overhead import RESAMPLES, block, guarded, rows_for
from tests.benchmarks.step import deliver

from lrpilot.pilot import Pilot
from support.daemon import until
from support.faults.daemon import FaultyDaemon
from support.faults.line import BrokenLine, broken_line
from support.nursery import Nursery
from support.training import quiet_threads

STEP_MS = 2.0
PAIRS = 14
BLOCK_S = 0.3
LEAD_S = 0.3
NOTICED_S = 4.0
NOTICED_LATE = ("daemon frozen", "black hole")

Fault = Callable[[], AbstractContextManager[None]]


def main() -> dict[str, Any]:
    """Run it: five minutes."""
    quiet_threads()
    logging.getLogger("lrpilot").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory(prefix="lrp") as folder, ExitStack() as held:
        with pinned(1):  # the line is a process, too, and no part of what a loop pays for
            nursery = Nursery("faulty_daemon")
            held.callback(nursery.close)
            daemon = FaultyDaemon(Path(folder), nursery)
            held.callback(daemon.kill)
            daemon.start()
            line = held.enter_context(broken_line(daemon.address, daemon.folder))
        with pinned(0):
            rows = measure(line.address, faults_of(daemon, line))
    table(
        f"time of a guarded loop during a fault against without ({PAIRS} pairs)",
        ("fault", "difference %", "95 % low", "high", "threads % of a core", "without"),
        [
            (name, *row["median_95_pct"], row["threads_pct"], row["threads_pct_without"])
            for name, row in rows.items()
        ],
    )
    return save("faults", {"pairs": PAIRS, "block_s": BLOCK_S, "faults": rows})


def faults_of(daemon: FaultyDaemon, line: BrokenLine) -> dict[str, Fault]:
    """Each begins when it is entered, and all is in order again at its end."""

    @contextmanager
    def frozen() -> Iterator[None]:
        daemon.freeze()
        yield
        daemon.thaw()

    @contextmanager
    def killed() -> Iterator[None]:
        daemon.kill()
        yield
        with pinned(1):
            daemon.start()

    @contextmanager
    def on_the_line(**fault: Any) -> Iterator[None]:
        line.now(**fault)
        yield
        line.now()

    return {
        "none": nullcontext,
        "daemon frozen": frozen,
        "daemon killed": killed,
        "disk full": daemon.full_disk,
        "black hole": lambda: on_the_line(swallow=True),
        "reset every 100 ms": lambda: on_the_line(reset_every=0.1),
    }


def measure(address: str, faults: Mapping[str, Fault]) -> dict[str, Any]:
    """Every fault on one run, in turns."""
    step, pilot = guarded(rows_for(STEP_MS), address, "faults")
    calls = round(BLOCK_S * 1000 / STEP_MS)
    rng = random.Random(0)
    in_order(pilot, step)

    def pair(name: str) -> Pair:
        first = sound()
        with faults[name]():
            lead(rng.uniform(0.0, NOTICED_S if name in NOTICED_LATE else LEAD_S))
            faulty = timed(step, 2 * calls)
        second = sound()
        return Pair(faulty, (first[0] + second[0], first[1] + second[1]))

    def sound() -> tuple[float, float]:
        in_order(pilot, step)  # which rests meanwhile: its first steps are slow ones
        lead(LEAD_S)
        return timed(step, calls)

    def lead(seconds: float) -> None:
        until_then = time.monotonic() + seconds
        while time.monotonic() < until_then:
            step()

    found: dict[str, list[Pair]] = {name: [] for name in faults}
    order = list(faults)
    for _ in range(PAIRS):
        rng.shuffle(order)
        for name in order:
            found[name].append(pair(name))
    pilot.close()
    return {name: figures(pairs) for name, pairs in found.items()}


class Pair(NamedTuple):
    """Seconds of as many steps in a fault and without, and what the other threads took of them."""

    faulty: tuple[float, float]
    sound: tuple[float, float]


def timed(step: Callable[[], None], calls: int) -> tuple[float, float]:
    """Seconds that the steps took, and CPU seconds of the process's other threads meanwhile."""
    before = time.process_time() - time.thread_time()
    took = block(step, calls)
    return took, time.process_time() - time.thread_time() - before


def figures(pairs: Sequence[Pair]) -> dict[str, Any]:
    """What all pairs of one fault say."""
    pct = [100 * (pair.faulty[0] / pair.sound[0] - 1) for pair in pairs]

    def share(kind: str) -> float:
        seconds, others = zip(*(getattr(pair, kind) for pair in pairs), strict=True)
        return round(100 * sum(others) / sum(seconds), 2)

    return {
        "median_95_pct": median(pct),
        "threads_pct": share("faulty"),
        "threads_pct_without": share("sound"),
        "all_pct": [round(value, 2) for value in pct],
    }


def median(values: list[float]) -> list[float]:
    """It, and where it lies in 95 % of resamples."""
    rng = random.Random(1)
    medians = [middle(rng.choices(values, k=len(values))) for _ in range(RESAMPLES)]
    bounds = (middle(values), percentile(medians, 0.025), percentile(medians, 0.975))
    return [round(value, 2) for value in bounds]


def in_order(pilot: Pilot, step: Callable[[], None]) -> None:
    """Train on until the daemon is back and has everything."""
    deadline = time.monotonic() + 30.0
    while not pilot.summary().connected:
        assert time.monotonic() < deadline
        block(step, 5)
    until(lambda: pilot.summary().connected)
    deliver(pilot)
