"""The daemon's disk is full, read-only, slow or unsteady, and then it is in order again."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from lrpilot.pilot import Pilot
from support.daemon import cli, until
from support.faults.books import check_run
from support.faults.daemon import FaultyDaemon
from support.faults.disk import fill, small_disk
from support.training import Job, attach, job, rollbacks, train, train_until

pytestmark = pytest.mark.slow


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the user was told of the daemon."""
    said = [record.getMessage() for record in caplog.records if record.name == "lrpilot"]
    return [text for text in said if "daemon" in text]


@contextmanager
def guarded(daemon: FaultyDaemon) -> Iterator[tuple[Job, Pilot]]:
    """A run that a daemon has heard of; at its end it is rescued once more, and whole."""
    daemon.start()
    one = job()
    with attach(one, daemon.address, "run") as pilot:
        train_until(one, pilot, lambda: pilot.summary().connected)
        train(one, pilot, range(60), pause_s=0.001)
        yield one, pilot
        before = rollbacks(pilot)
        one.spoil()
        train_until(one, pilot, lambda: rollbacks(pilot) > before, pause_s=0.002)
        train(one, pilot, range(50), pause_s=0.001)
        until(lambda: pilot.summary().connected)
    check_run(daemon, "run", pilot, one.loss())


def lost_and_back(one: Job, pilot: Pilot) -> None:
    """Train on without a daemon, through a blow-up of which it hears later."""
    train_until(one, pilot, lambda: not pilot.summary().connected, pause_s=0.001)
    train(one, pilot, range(100), pause_s=0.001)
    one.spoil()
    train(one, pilot, range(100), pause_s=0.001)


def test_a_full_disk(faulty: FaultyDaemon, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "lrpilot"), guarded(faulty) as (one, pilot):
        with faulty.full_disk():
            lost_and_back(one, pilot)
            assert rollbacks(pilot) == 0
        train_until(one, pilot, lambda: rollbacks(pilot) == 1, pause_s=0.002)
    down, up = told(caplog)
    assert "the journal" in down
    assert "check its space" in down, "the user is told what to do, and where"
    assert "connected to the daemon" in up


def test_a_small_disk_that_is_full(faulty: FaultyDaemon, caplog: pytest.LogCaptureFixture) -> None:
    """The same with a file system that is really full. No daemon can be started there."""
    with small_disk(faulty.folder / "disk", kib=2048) as disk:
        faulty.storage = disk / "store"
        config = faulty.folder / "lrpilot.toml"
        config.write_text("[server]\nmin_free_mib = 0\n")  # else it asks for more than there is
        faulty.more = ["--config", str(config)]
        with caplog.at_level(logging.WARNING, "lrpilot"), guarded(faulty) as (one, pilot):
            fill(disk / "ballast")
            lost_and_back(one, pilot)
            assert rollbacks(pilot) == 0
            faulty.kill()
            where = ("--listen", faulty.address, "--storage", faulty.storage)
            refused = cli("serve", *where)
            assert refused.returncode == 1
            assert "the disk is full: free some space" in refused.stderr
            (disk / "ballast").unlink()
            faulty.start()
            train_until(one, pilot, lambda: rollbacks(pilot) == 1, pause_s=0.002)
        faulty.kill()
    down, up = told(caplog)
    assert "the disk is full: free some space" in down
    assert "connected to the daemon" in up


def test_a_disk_that_becomes_read_only(
    faulty: FaultyDaemon, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "lrpilot"), guarded(faulty) as (one, pilot):
        faulty.suffer(readonly=True)
        lost_and_back(one, pilot)
        faulty.suffer()
        train_until(one, pilot, lambda: rollbacks(pilot) == 1, pause_s=0.002)
    down, up = told(caplog)
    assert "it is read-only: check the permissions" in down
    assert "connected to the daemon" in up


@pytest.mark.slow
def test_a_slow_disk(faulty: FaultyDaemon) -> None:
    """The session is kept, and no step waits."""
    with guarded(faulty) as (one, pilot):
        faulty.suffer(slow=0.2)
        train(one, pilot, range(1000), pause_s=0.002)
        one.spoil()
        train_until(one, pilot, lambda: rollbacks(pilot) == 1, pause_s=0.02)
        assert pilot.summary().connected
        faulty.suffer()


@pytest.mark.slow
def test_a_disk_that_hangs_for_longer_than_is_waited(faulty: FaultyDaemon) -> None:
    with guarded(faulty) as (one, pilot):
        faulty.suffer(slow=6.0)
        train_until(one, pilot, lambda: not pilot.summary().connected, pause_s=0.002)
        train(one, pilot, range(2000), pause_s=0.002)
        faulty.suffer()
        train_until(one, pilot, lambda: pilot.summary().connected, pause_s=0.002)


def test_a_disk_of_which_every_third_commit_fails(
    faulty: FaultyDaemon, reconnect_soon: None
) -> None:
    """What failed is recorded later, in its place, and what follows from it as well."""
    with guarded(faulty) as (one, pilot):
        faulty.suffer(flaky=[0.3, 0])
        for _ in range(3):
            train(one, pilot, range(200), pause_s=0.002)
            before = rollbacks(pilot)
            one.spoil()
            train_until(one, pilot, lambda before=before: rollbacks(pilot) > before, pause_s=0.002)
        faulty.suffer()
