"""LRPilot itself fails on a run: that one goes on unguarded, and all others are served as ever.

What fails is a detector of another package, installed as any other is: an entry point on the path.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from lrpilot_controller.core.events import SessionLost, SessionOpened, SignalSeen
from lrpilot_proto.v1 import session_pb2
from support.daemon import Daemon, cli, environment, until
from support.peer import hello, session, telemetry
from support.training import attach, job, train

pytestmark = pytest.mark.slow

FAILS = "raise RuntimeError('step 13 is bad luck')"
NONSENSE = "from lrpilot_controller.core.model import Signal; return [Signal('odd', 1, 1, 'high')]"


def install(where: Path, at_step_13: str) -> None:
    """A package with a detector that does this at a run's step 13."""
    (where / "unlucky-1.dist-info").mkdir(parents=True, exist_ok=True)
    (where / "unlucky-1.dist-info" / "METADATA").write_text("Name: unlucky\nVersion: 1\n")
    points = "[lrpilot.detectors]\nunlucky = unlucky:Unlucky\n"
    (where / "unlucky-1.dist-info" / "entry_points.txt").write_text(points)
    (where / "unlucky.py").write_text(
        "class Unlucky:\n"
        "    name = 'unlucky'\n"
        "    def update(self, step, train_loss, val_loss, lr):\n"
        "        if step == 13 and train_loss == 1.0:\n"
        f"            {at_step_13}\n"
        "        return ()\n"
        "    def state_dict(self): return {}\n"
        "    def load_state_dict(self, state): pass\n"
    )


@pytest.fixture
def guest(daemon: Daemon) -> Callable[[str], None]:
    """Installs it for the daemon's next life."""
    daemon.nursery = None  # a fresh Python, which looks for what is installed

    def there(at_step_13: str) -> None:
        install(daemon.folder / "site", at_step_13)
        daemon.environment = environment(PYTHONPATH=daemon.folder / "site")

    return there


@pytest.mark.parametrize("fault", [FAILS, NONSENSE])
def test_that_run_goes_on_unguarded_and_the_others_are_served(
    daemon: Daemon, guest: Callable[[str], None], fault: str
) -> None:
    guest(fault)
    daemon.start()
    calm = attach(job(), daemon.address, "calm")
    with session(daemon.address, hello("other")) as other:
        unlucky = job()
        pilot = attach(unlucky, daemon.address, "unlucky")
        for k in range(20):
            pilot.step(1.0 if k == 13 else unlucky.update().item())
        until(lambda: pilot.summary().refused, what="the refusal")
        assert "LRPilot failed on this run" in str(pilot.summary().refused)
        assert "'unlucky'" in str(pilot.summary().refused)
        train(unlucky, pilot, range(20, 40))  # training goes on
        other.say(telemetry(1, [0.1] * 100))
        other.hear_ack(100)
    pilot.close()
    train(job(), calm, range(40))
    calm.close()
    assert len(daemon.seqs("calm")) == 40
    assert daemon.log.count("run default/unlucky is set aside") == 1
    assert daemon.log.count("Traceback") == 1 + daemon.log.count("direct cause")
    told = cli("show", "unlucky", "--storage", daemon.storage)
    assert "LRPilot failed on this run" in told.stdout
    assert cli("runs", "--storage", daemon.storage).returncode == 0
    assert daemon.records("unlucky", SessionLost)
    assert daemon.records("unlucky", SignalSeen) == []


def test_whoever_comes_back_to_this_daemon_gets_the_same_answer_and_the_log_no_more(
    daemon: Daemon, guest: Callable[[str], None]
) -> None:
    guest(FAILS)
    daemon.start()
    with session(daemon.address, hello("unlucky")) as line:
        line.say(telemetry(1, [1.0] * 20))
        assert line.refusal()[0] == "FAILED_PRECONDITION"
    for attempt in ("a", "b"):
        with pytest.raises(Exception, match="failed on this run"):  # noqa: SIM117
            with session(daemon.address, hello("unlucky", attempt)):
                pass
    assert len(daemon.records("unlucky", SessionOpened)) == 1
    assert daemon.log.count("is set aside") == 1


def test_a_daemon_that_is_started_anew_tries_again(
    daemon: Daemon, guest: Callable[[str], None]
) -> None:
    guest(FAILS)
    daemon.start()
    greeting = hello("unlucky")
    with session(daemon.address, greeting) as line:
        line.say(telemetry(1, [1.0] * 20))
        assert line.refusal()[0] == "FAILED_PRECONDITION"
    assert daemon.terminate() == 0
    daemon.start()
    with pytest.raises(Exception, match="failed on this run"):  # noqa: SIM117
        with session(daemon.address, greeting):
            pass
    assert daemon.terminate() == 0
    guest("return ()")  # a version in which it is repaired
    daemon.start()
    with session(
        daemon.address, session_pb2.Hello.FromString(greeting.SerializeToString())
    ) as line:
        line.say(telemetry(21, [1.0] * 20))
        line.hear_ack(40)
    assert daemon.seqs("unlucky") == list(range(1, 41))
