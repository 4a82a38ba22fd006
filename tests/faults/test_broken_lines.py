"""The line between trainer and daemon goes silent, crawls, breaks, or says things twice."""

import logging

import pytest

from support.daemon import Daemon, until
from support.faults.books import check_run
from support.faults.line import broken_line, mangled_line
from support.training import attach, job, rollbacks, train, train_until


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the user was told."""
    return [record.getMessage() for record in caplog.records if record.name == "lrpilot"]


def rescued(one, pilot) -> None:  # type: ignore[no-untyped-def]
    """A blow-up, the rollback that follows, and some more steps."""
    before = rollbacks(pilot)
    one.spoil()
    train_until(one, pilot, lambda: rollbacks(pilot) > before)
    train(one, pilot, range(50), pause_s=0.001)


@pytest.mark.parametrize("tcp", [False, True], ids=["unix", "tcp"])
@pytest.mark.parametrize("fault", ["swallow", "hold"])
def test_a_black_hole(
    daemon: Daemon, fault: str, tcp: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """No step waits for it; the run is told of it once, and is controlled again after it."""
    daemon.start()
    one = job()
    with (
        caplog.at_level(logging.WARNING, "lrpilot"),
        broken_line(daemon.address, daemon.folder, tcp=tcp) as line,
        attach(one, line.address, "run") as pilot,
    ):
        train_until(one, pilot, lambda: pilot.summary().connected)
        line.now(**{fault: True})
        train_until(one, pilot, lambda: not pilot.summary().connected, pause_s=0.002)
        assert "no acknowledgement for 3 s" in told(caplog)[0]
        train(one, pilot, range(500), pause_s=0.002)
        line.now()
        train_until(one, pilot, lambda: pilot.summary().connected, pause_s=0.002)
        rescued(one, pilot)
    check_run(daemon, "run", pilot, one.loss())
    down, up = told(caplog)
    assert "lost the daemon" in down
    assert "connected to the daemon" in up


def test_nobody_answers_at_the_other_end_from_the_start(daemon: Daemon) -> None:
    one = job()
    daemon.start()
    with (
        broken_line(daemon.address, daemon.folder) as line,
        attach(one, line.address, "run") as pilot,
    ):
        line.now(swallow=True)
        train(one, pilot, range(1500), pause_s=0.002)
        assert not pilot.summary().connected
        line.now()
        train_until(one, pilot, lambda: pilot.summary().connected, pause_s=0.002)
        rescued(one, pilot)
    check_run(daemon, "run", pilot, one.loss())


@pytest.mark.parametrize("tcp", [False, True], ids=["unix", "tcp"])
def test_a_stream_that_is_reset_every_100_ms(
    daemon: Daemon, tcp: bool, caplog: pytest.LogCaptureFixture, reconnect_soon: None
) -> None:
    """What can be said in a tenth of a second is said, once, and the log stays readable."""
    daemon.start()
    one = job()
    with (
        caplog.at_level(logging.WARNING, "lrpilot"),
        broken_line(daemon.address, daemon.folder, tcp=tcp) as line,
        attach(one, line.address, "run") as pilot,
    ):
        train_until(one, pilot, lambda: pilot.summary().connected)
        line.now(reset_every=0.1)
        train(one, pilot, range(2000), pause_s=0.001)
        rescued(one, pilot)
        assert pilot.summary().reconnects >= 5
        line.now()
        train_until(one, pilot, lambda: pilot.summary().connected)
    check_run(daemon, "run", pilot, one.loss())
    assert len(told(caplog)) <= 2, "of a line that comes and goes the user is told once"


@pytest.mark.parametrize("faults", [{"delay": 0.2}, {"rate": 20_000}], ids=["slow", "narrow"])
def test_a_line_that_crawls(daemon: Daemon, faults: dict[str, float]) -> None:
    """Decisions come late, and still once."""
    daemon.start()
    one = job()
    with (
        broken_line(daemon.address, daemon.folder) as line,
        attach(one, line.address, "run") as pilot,
    ):
        line.now(**faults)
        train_until(one, pilot, lambda: pilot.summary().connected)
        train(one, pilot, range(300), pause_s=0.002)
        rescued(one, pilot)
        assert pilot.summary().reconnects == 0
        line.now()
    check_run(daemon, "run", pilot, one.loss())


@pytest.mark.parametrize(
    "faults",
    [
        {"repeat": 1.0},
        {"delay": 0.1},
        {"swap": 0.2},
        {"repeat": 0.3, "swap": 0.1, "delay": 0.02},
    ],
    ids=["repeated", "delayed", "swapped", "all of it"],
)
def test_messages_that_are_not_passed_on_as_they_were_sent(
    daemon: Daemon, faults: dict[str, float], reconnect_soon: None
) -> None:
    daemon.start()
    one = job()
    with (
        mangled_line(daemon.address, daemon.folder, **faults) as address,
        attach(one, address, "run") as pilot,
    ):
        train_until(one, pilot, lambda: pilot.summary().connected)
        for _ in range(3):
            train(one, pilot, range(500), pause_s=0.001)
            rescued(one, pilot)
        train_until(one, pilot, lambda: pilot.summary().connected)
    check_run(daemon, "run", pilot, one.loss())
