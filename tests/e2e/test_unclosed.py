"""Nobody calls `close`: the run ends for the daemon all the same, and leaves nothing behind."""

import gc
import logging
import subprocess
import sys
import threading
from textwrap import dedent

import pytest

from support.daemon import Daemon, environment, until
from support.training import attach, job, train

SCRIPT = """
    import sys
    from support.training import attach, job, train
    one = job()
    pilot = attach(one, sys.argv[1], "run")
    train(one, pilot, range(30))
"""


@pytest.mark.parametrize(
    ("last_line", "state"), [("", "finished"), ("raise RuntimeError('of the loop')", "stopped")]
)
def test_a_script_that_ends(daemon: Daemon, last_line: str, state: str) -> None:
    daemon.start()
    text = dedent(SCRIPT) + last_line
    command = [sys.executable, "-c", text, daemon.address]
    subprocess.run(command, env=environment(PYTHONPATH="tests"), timeout=60, capture_output=True)
    until(lambda: daemon.story("run")["state"] == state)
    assert daemon.seqs("run") == list(range(1, 31))


def test_a_script_that_ends_before_its_first_step(daemon: Daemon) -> None:
    """Its pilot is collected as the interpreter ends, where no thread can be started."""
    daemon.start()
    text = dedent(SCRIPT).replace("train(one, pilot, range(30))", "knot = [pilot]; knot += [knot]")
    command = [sys.executable, "-c", text, daemon.address]
    env = environment(PYTHONPATH="tests")
    done = subprocess.run(command, env=env, timeout=60, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_pilot_that_is_dropped_together_with_its_job(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A collection may come while a thread is being started, and must not start another one."""
    daemon.start()
    one = job()
    pilot = attach(one, daemon.address, "run")
    train(one, pilot, range(30))
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", lambda _: pytest.fail("a thread is started"))
        del one, pilot
        gc.collect()
    until(lambda: daemon.story("run")["state"] == "stopped")
    until(lambda: "lrpilot-agent" not in {thread.name for thread in threading.enumerate()})
    assert daemon.seqs("run") == list(range(1, 31))


def test_another_pilot_for_the_same_optimizer(
    daemon: Daemon, caplog: pytest.LogCaptureFixture
) -> None:
    """Two of them would take each other's LRs for the native ones."""
    daemon.start()
    one = job()
    first = attach(one, daemon.address, "first")
    train(one, first, range(30))
    with (
        caplog.at_level(logging.WARNING, "lrpilot"),
        attach(one, daemon.address, "second") as next_one,
    ):
        train(one, next_one, range(30))
        assert first.closed
        assert not next_one.closed
    assert "has a pilot already: run default/first ends here" in caplog.text
    assert daemon.story("first")["state"] == "stopped"
    assert daemon.story("second")["state"] == "finished"


def test_one_that_only_observes_ends_no_other(daemon: Daemon) -> None:
    daemon.start()
    one = job()
    with (
        attach(one, daemon.address, "first") as first,
        attach(one, daemon.address, "second", mode="observe") as second,
    ):
        assert not first.closed
        assert not second.closed
