"""The ways in which people start training processes."""

import os
import queue
import re
import signal
import subprocess
import time
from pathlib import Path

import grpc
import pytest

from lrpilot_proto import rendezvous
from lrpilot_proto.v1 import session_pb2, session_pb2_grpc
from support.daemon import ENOUGH_S, Daemon, environment, script, until
from support.training import attach, job, train


def test_forked_data_loader_workers(daemon: Daemon) -> None:
    """No hang, no lost sample, and no warning; Python's own on forking with threads aside."""
    daemon.start()
    python = ("-W", "error", "-W", "ignore:This process:DeprecationWarning")
    trainer = script(
        "workers.py",
        daemon.address,
        "run",
        python=python,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    out, err = trainer.communicate(timeout=100)
    assert (trainer.returncode, err) == (0, "")
    steps = int(out)
    assert steps == 4 * 256 // 8
    assert daemon.seqs("run") == list(range(1, steps + 1))
    story = daemon.story("run")
    assert story["state"] == "finished"
    assert story["attempts"] == 1
    assert story["telemetry"]["dropped"] == 0


@pytest.mark.slow
def test_a_scheduler_that_nobody_closes_says_goodbye_with_its_process(daemon: Daemon) -> None:
    daemon.start()
    hows = ("end", "fail")
    trainers = [
        script("scheduled.py", daemon.address, how, how, stderr=subprocess.PIPE) for how in hows
    ]
    for trainer, how in zip(trainers, hows, strict=True):
        _, told = trainer.communicate(timeout=100)
        assert trainer.returncode == (how == "fail"), told
        assert "the loop's own" in told or how == "end"
        assert daemon.seqs(how) == list(range(1, 21))
    assert [daemon.story(how)["state"] for how in hows] == ["finished", "stopped"]


def test_two_scripts_share_one_daemon(folder: Path) -> None:
    env = environment(XDG_STATE_HOME=folder / "state", XDG_RUNTIME_DIR=folder / "runtime")
    (folder / "runtime").mkdir(mode=0o700)
    storage = folder / "state" / "lrpilot"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    trainers = [script("auto.py", run, env=env, **pipes) for run in ("one", "two")]
    daemon = Daemon(folder)
    daemon.storage, daemon.log_file = storage, storage / "daemon.log"
    pids: set[int] = set()
    try:
        steps = [int(trainer.stdout.readline()) for trainer in trainers if trainer.stdout]
        pids = set(map(int, re.findall(r"listening on .* pid (\d+)", daemon.log)))
        for trainer in trainers:
            trainer.communicate(timeout=100)  # closes stdin: the script ends
            assert trainer.returncode == 0
        assert len(pids) == 1, daemon.log
        assert {int((storage / "daemon.lock").read_text())} == pids
        sockets = list((folder / "runtime" / "lrpilot").glob("*.sock"))
        assert [file.stat().st_mode & 0o777 for file in sockets] == [0o600]
        for run, count in zip(("one", "two"), steps, strict=True):
            assert daemon.seqs(run)[:count] == list(range(1, count + 1))
            assert daemon.story(run)["state"] == "finished"
    finally:
        for trainer in trainers:
            trainer.kill()
            trainer.wait()
        for pid in pids:
            os.kill(pid, signal.SIGKILL)


def test_the_socket_of_auto_is_private(folder: Path) -> None:
    """The same rule on both sides, from the storage directory alone."""
    path = rendezvous.socket_path(folder)
    assert path == rendezvous.socket_path(str(folder))
    assert path != rendezvous.socket_path(folder / "other")


def test_a_daemon_ends_after_its_linger(daemon: Daemon) -> None:
    one = job()  # torch's first call takes seconds, in which the daemon would wait for nobody
    daemon.start("--linger", "0.5")
    with attach(one, daemon.address, "run") as pilot:
        train(one, pilot, range(100), pause_s=0.01)  # twice its linger, in a session
        assert pilot.summary().connected
    assert daemon.process is not None
    assert daemon.process.wait(ENOUGH_S) == 0
    assert not daemon.socket.exists()
    assert daemon.story("run")["telemetry"]["received"] == 100
    assert "no session left" in daemon.log
    until(lambda: not daemon.answers())


def test_a_daemon_that_stops_leaves_no_call_behind(daemon: Daemon) -> None:
    """One that came, and has not said yet whose it is: gRPC would print a traceback for it."""
    daemon.start()
    with grpc.insecure_channel(daemon.address) as channel:
        stub = session_pb2_grpc.SessionServiceStub(channel)  # type: ignore[no-untyped-call]
        said: queue.SimpleQueue[session_pb2.TrainerMessage | None] = queue.SimpleQueue()
        call = stub.Session(iter(said.get, None), wait_for_ready=True)
        time.sleep(0.5)  # so that it is there
        assert daemon.terminate() == 0
        assert "the daemon is stopping" in call.details()
        said.put(None)
    assert "Traceback" not in daemon.log
