"""A clock that jumps by an hour changes what is written beside the records, and nothing else."""

import re
from pathlib import Path

import pytest

from support.daemon import until
from support.faults.books import check_run
from support.faults.daemon import FaultyDaemon
from support.training import attach, job, rollbacks, train, train_until

pytestmark = pytest.mark.slow

HOUR = 3600.0
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("jumps", [(HOUR, 0.0), (-HOUR, 0.0)], ids=["on", "back"])
def test_the_daemons_clock(
    faulty: FaultyDaemon, jumps: tuple[float, ...], reconnect_soon: None
) -> None:
    """Sessions last, decisions are made, and a daemon that starts within it goes on."""
    faulty.start()
    one = job()
    with attach(one, faulty.address, "run") as pilot:
        train_until(one, pilot, lambda: pilot.summary().connected)
        for offset in jumps:
            train(one, pilot, range(100), pause_s=0.001)
            faulty.suffer(clock=offset)
            before = rollbacks(pilot)
            one.spoil()
            train_until(one, pilot, lambda before=before: rollbacks(pilot) > before)
            assert pilot.summary().connected
            faulty.kill()
            faulty.start()
            train_until(one, pilot, lambda: pilot.summary().connected)
        train(one, pilot, range(50), pause_s=0.001)
        until(lambda: pilot.summary().connected)
    check_run(faulty, "run", pilot, one.loss())
    numbers = [record.n for record in faulty.records("run")]
    assert numbers == list(range(1, len(numbers) + 1)), "the order is that of the numbers"


def test_a_trainer_never_looks_at_the_wall_clock() -> None:
    """No timeout, pace or interval of a trainer can be moved by somebody who sets the clock."""
    files = [*(ROOT / "adapters" / "lrpilot").rglob("*.py")]
    assert files
    looks = [
        path.name for path in files if re.search(r"\btime\.time\(|\bnow\(\)", path.read_text())
    ]
    assert looks == []
