"""The daemon dies at an exact place: within a commit, before it speaks, before it is answered."""

import pytest
from _pytest.mark.structures import ParameterSet

from support.daemon import until
from support.digits import STEPS, digits
from support.digits import attach as attach_searched
from support.digits import train as train_searched
from support.faults.books import check_run
from support.faults.daemon import FaultyDaemon
from support.training import attach, job, rollbacks, train, train_until

pytestmark = pytest.mark.usefixtures("reconnect_soon")


def at(point: str, when: int, *marks: pytest.MarkDecorator) -> ParameterSet:
    """A place, and at the how many-th time."""
    return pytest.param(point, when, marks=marks, id=point)


GUARDED = [
    at("journaling samples", 3, pytest.mark.slow),
    at("within a transaction", 4, pytest.mark.slow),
    at("journaled samples", 3, pytest.mark.slow),
    at("journaling decision", 1, pytest.mark.slow),
    at("journaled decision", 1),
    at("arrived receipt", 1),
    at("journaling receipt", 2, pytest.mark.slow),
    at("journaled receipt", 2, pytest.mark.slow),
]


@pytest.mark.parametrize(("point", "when"), GUARDED)
def test_a_guarded_run(faulty: FaultyDaemon, point: str, when: int) -> None:
    """Whatever was recorded counts, and what was not is done once by the next daemon."""
    faulty.start()
    one = job()
    with attach(one, faulty.address, "run") as pilot:
        train_until(one, pilot, lambda: pilot.summary().connected)
        train(one, pilot, range(60), pause_s=0.001)
        faulty.suffer(kill=[point, when])
        one.spoil()
        train_until(one, pilot, lambda: faulty.died)
        faulty.suffer()
        faulty.start()
        train_until(one, pilot, lambda: rollbacks(pilot) == 1)
        train(one, pilot, range(50), pause_s=0.001)
        until(lambda: pilot.summary().connected)
    assert rollbacks(pilot) == 1, "what was applied before it died is not applied again"
    check_run(faulty, "run", pilot, one.loss())


@pytest.mark.slow
@pytest.mark.parametrize("times", [3])
def test_a_daemon_that_dies_while_it_reads_its_journal(faulty: FaultyDaemon, times: int) -> None:
    """Also again and again: nothing is written, so nothing is lost."""
    faulty.start()
    one = job()
    with attach(one, faulty.address, "run") as pilot:
        train_until(one, pilot, lambda: pilot.summary().connected)
        train(one, pilot, range(60), pause_s=0.001)
        one.spoil()
        faulty.kill()
        faulty.suffer(kill=["replaying", 1])
        for _ in range(times):
            faulty.start()
            train_until(one, pilot, lambda: faulty.died)
        faulty.suffer(kill=["journaled session", 1])
        faulty.start()
        train_until(one, pilot, lambda: faulty.died)
        faulty.suffer()
        faulty.start()
        train_until(one, pilot, lambda: rollbacks(pilot) == 1)
        train(one, pilot, range(50), pause_s=0.001)
        until(lambda: pilot.summary().connected)
    assert faulty.deaths == times + 1
    check_run(faulty, "run", pilot, one.loss())


SEARCHED = [
    at("journaled decision", 6, pytest.mark.slow),
    at("arrived receipt", 6, pytest.mark.slow),
    at("journaling samples", 12, pytest.mark.slow),
    at("arrived result", 5, pytest.mark.slow),
    at("journaling result", 7, pytest.mark.slow),
    at("journaled result", 8),
]


@pytest.mark.parametrize(("point", "when"), SEARCHED)
def test_a_searched_run(faulty: FaultyDaemon, point: str, when: int) -> None:
    """In the middle of a search, which is finished or given up for its fallback."""
    faulty.suffer(kill=[point, when])
    faulty.start()
    one = digits(100.0)
    back: list[int] = []

    def after_step(made: int) -> None:
        if not back and faulty.died:
            faulty.suffer()
            faulty.start()
            back.append(made)
        if made == STEPS - 50:
            until(lambda: pilot.summary().connected)

    with attach_searched(one, faulty.address, "run") as pilot:
        train_searched(one, pilot, pause_s=0.003, after_step=after_step)
        assert not pilot.searching
    assert back
    check_run(faulty, "run", pilot, one.loss())
