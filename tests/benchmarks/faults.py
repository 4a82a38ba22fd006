"""What a fault of the daemon or of the line to it costs a training loop: nothing, says law 2.

One guarded run in one process. In each round of blocks the daemon or the line is broken in one of
them and in order in the two others; their order is drawn at random, and each begins once all is in
order and delivered. A freeze and a black hole are noticed after three seconds: their blocks begin
up to four seconds after the fault. Given is the mean over rounds of the relative difference of the
faulty block's time to that of the round's first sound one, with a 95 % bootstrap interval, and the
same of the two sound ones, which is the machine's noise. The trainer has a core of its own, its
agent's thread included.
"""

import logging
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from tests.benchmarks._fleet import pinned
from tests.benchmarks._report import save, table
from tests.benchmarks.overhead import block, compare, guarded, rows_for
from tests.benchmarks.step import deliver

from lrpilot.pilot import Pilot
from support.daemon import until
from support.faults.daemon import FaultyDaemon
from support.faults.line import BrokenLine, broken_line
from support.training import quiet_threads

STEP_MS = 2.0
ROUNDS = 12
BLOCK_S = 0.8
NOTICED_S = 4.0

Fault = Callable[[], AbstractContextManager[None]]


def main() -> dict[str, Any]:
    """Run it: six minutes."""
    quiet_threads()
    logging.getLogger("lrpilot").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory(prefix="lrp") as folder:
        daemon = FaultyDaemon(Path(folder))
        with pinned(1):
            daemon.start()
        try:
            with broken_line(daemon.address, daemon.folder) as line, pinned(0):
                rows = measure(line.address, faults_of(daemon, line))
        finally:
            daemon.kill()
    table(
        f"time of a guarded loop during a fault against without ({ROUNDS} blocks of {BLOCK_S} s)",
        ("fault", "difference %", "95 % low", "high", "noise %", "low", "high"),
        [
            (name, *row["fault"]["mean_95_pct"], *row["noise"]["mean_95_pct"])
            for name, row in rows.items()
        ],
    )
    return save("faults", {"rounds": ROUNDS, "block_s": BLOCK_S, "faults": rows})


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
        "daemon frozen": frozen,
        "daemon killed": killed,
        "disk full": daemon.full_disk,
        "black hole": lambda: on_the_line(swallow=True),
        "reset every 100 ms": lambda: on_the_line(reset_every=0.1),
    }


def measure(address: str, faults: Mapping[str, Fault]) -> dict[str, Any]:
    """Every fault on one run."""
    step, pilot = guarded(rows_for(STEP_MS), address, "faults")
    calls = round(BLOCK_S * 1000 / STEP_MS)
    rng = random.Random(0)
    block(step, 100)  # warms up, and opens the session

    def sound() -> float:
        in_order(pilot, step)
        return block(step, calls)

    def faulty(fault: Fault, lead_s: float) -> float:
        in_order(pilot, step)
        with fault():
            until_then = time.monotonic() + lead_s
            while time.monotonic() < until_then:
                step()
            return block(step, calls)

    rows = {}
    for name, fault in faults.items():
        noticed_late = name in ("daemon frozen", "black hole")
        times: dict[str, list[float]] = {"fault": [], "sound": [], "again": []}
        order = list(times)
        for _ in range(ROUNDS):
            rng.shuffle(order)
            for kind in order:
                lead_s = rng.uniform(0.0, NOTICED_S if noticed_late else 0.3)
                times[kind].append(faulty(fault, lead_s) if kind == "fault" else sound())
        rows[name] = {
            "fault": compare(times["fault"], times["sound"], calls),
            "noise": compare(times["again"], times["sound"], calls),
        }
        print(name, rows[name]["fault"]["mean_95_pct"], rows[name]["noise"]["mean_95_pct"])
    pilot.close()
    return rows


def in_order(pilot: Pilot, step: Callable[[], None]) -> None:
    """Train on until the daemon is back and has everything."""
    deadline = time.monotonic() + 30.0
    while not pilot.summary().connected:
        assert time.monotonic() < deadline
        block(step, 5)
    until(lambda: pilot.summary().connected)
    deliver(pilot)
