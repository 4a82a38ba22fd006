"""The line between trainer and daemon goes silent, crawls, breaks, or says things twice."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from lrpilot.pilot import Pilot
from lrpilot_controller.core.events import SessionOpened
from support.access import SecureDaemon
from support.daemon import Daemon
from support.faults.books import check_run
from support.faults.line import broken_line, mangled_line
from support.training import Job, attach, job, rollbacks, train, train_until

pytestmark = pytest.mark.slow


@pytest.fixture
def far(folder: Path, tcp: bool, monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    """A daemon on its own socket, or on TCP, with what its trainer needs in the environment."""
    one = SecureDaemon(folder) if tcp else Daemon(folder)
    if isinstance(one, SecureDaemon):
        for name, value in one.trust(one.token("job", "trainer", "default")).items():
            monkeypatch.setenv(name, value)
    yield one
    one.kill()


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the user was told of the line."""
    said = [record.getMessage() for record in caplog.records if record.name == "lrpilot"]
    return [text for text in said if "daemon" in text]


def sessions(daemon: Daemon) -> int:
    """How often the trainer came."""
    return len(daemon.records("run", SessionOpened))


def rescued(one: Job, pilot: Pilot) -> None:
    """A blow-up, the rollback that follows, and some more steps."""
    before = rollbacks(pilot)
    one.spoil()
    train_until(one, pilot, lambda: rollbacks(pilot) > before)
    train(one, pilot, range(50), pause_s=0.001)


@pytest.mark.parametrize(
    ("fault", "tcp"),
    [
        pytest.param("swallow", False, id="unix"),
        pytest.param("swallow", True, id="tcp", marks=pytest.mark.slow),
        pytest.param("hold", True, id="tcp, and it comes later", marks=pytest.mark.slow),
    ],
)
def test_a_black_hole(far: Daemon, fault: str, tcp: bool, caplog: pytest.LogCaptureFixture) -> None:
    """No step waits for it; the run is told of it once, and is controlled again after it."""
    far.start()
    one = job()
    with (
        caplog.at_level(logging.WARNING, "lrpilot"),
        broken_line(far.address, far.folder, tcp=tcp) as line,
        attach(one, line.address, "run") as pilot,
    ):
        train_until(one, pilot, lambda: pilot.summary().connected)
        line.now(**{fault: True})
        train_until(one, pilot, lambda: not pilot.summary().connected, pause_s=0.002)
        train(one, pilot, range(500), pause_s=0.002)
        line.now()
        train_until(one, pilot, lambda: pilot.summary().connected, pause_s=0.002)
        rescued(one, pilot)
    check_run(far, "run", pilot, one.loss())
    down, up = told(caplog)
    assert "lost the daemon (no acknowledgement for 3 s)" in down
    assert "connected to the daemon" in up


@pytest.mark.slow
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


@pytest.mark.parametrize(
    "tcp", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["unix", "tcp"]
)
def test_a_stream_that_is_reset_every_100_ms(
    far: Daemon, tcp: bool, caplog: pytest.LogCaptureFixture, reconnect_soon: None
) -> None:
    """What can be said in a tenth of a second is said, once, and the log stays readable."""
    far.start()
    one = job()
    with (
        caplog.at_level(logging.WARNING, "lrpilot"),
        broken_line(far.address, far.folder, tcp=tcp) as line,
        attach(one, line.address, "run") as pilot,
    ):
        train_until(one, pilot, lambda: pilot.summary().connected)
        line.now(reset_every=0.1)
        train(one, pilot, range(2000), pause_s=0.001)
        rescued(one, pilot)
        assert sessions(far) >= 5
        line.now()
        train_until(one, pilot, lambda: pilot.summary().connected)
    check_run(far, "run", pilot, one.loss())
    assert len(told(caplog)) <= 2, "of a line that comes and goes the user is told once"


@pytest.mark.slow
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
        line.now()
    assert sessions(daemon) == 1
    check_run(daemon, "run", pilot, one.loss())


@pytest.mark.parametrize(
    "faults",
    [
        {"repeat": 1.0},
        pytest.param({"delay": 0.1}, marks=pytest.mark.slow),
        pytest.param({"swap": 0.2}, marks=pytest.mark.slow),
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
