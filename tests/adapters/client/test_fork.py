"""Forked children, interpreter exit, and what an import brings in: each in a process of its own."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

PRELUDE = """
import os, signal, sys, threading, time
from lrpilot.client import Agent
from lrpilot_proto.v1 import session_pb2

def item(seq):
    return (seq, 1, seq, 0, 0, 1.0, (0.1,))

def connect(address):
    agent = Agent(address)
    agent.start()
    assert agent.wait_ready(10)
    agent.open(session_pb2.Hello(attempt="a"))
    while not agent.status.connected:
        time.sleep(0.005)
    return agent
"""

FORKS = """
agent = connect(sys.argv[1])
seq = 0
def train(seconds):
    global seq
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        seq += 1
        agent.push(item(seq))
        time.sleep(0.0005)

train(0.2)
for number in range(24):
    pid = os.fork()
    if pid == 0:
        signal.alarm(100)  # a child that hangs dies of it
        if number % 3:
            agent.push(item(10**6))
            agent.urgent()
            agent.report(session_pb2.Report(goodbye=session_pb2.Goodbye(reason="child")))
            agent.open(session_pb2.Hello(attempt="child"))
            agent.start()
            assert not agent.wait_ready(3600)
            assert not agent.status.connected
            agent.close(3600)
        if number % 2:
            sys.exit(0)
        os._exit(0)
    train(0.03)
    assert os.waitpid(pid, 0)[1] == 0, number

def pushes_late():
    agent.push(item(2 * 10**6))
import multiprocessing
context = multiprocessing.get_context("fork")
workers = [context.Process(target=pushes_late) for _ in range(2)]
for worker in workers:
    worker.start()
train(0.1)
for worker in workers:
    worker.join(10)
    assert worker.exitcode == 0
agent.close(5)
status = agent.status
assert (status.reconnects, status.unacked, status.dropped) == (0, 0, 0), status
print(seq)
"""


def run(script: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PRELUDE + script, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, **environment},
    )


def test_children_do_nothing_and_disturb_nothing(daemon: Any) -> None:
    daemon.boot()
    done = run(FORKS, daemon.address)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert daemon.seqs() == list(range(1, int(done.stdout) + 1))
    assert len(daemon.lines("hello")) == 1


def test_an_exit_without_close_still_delivers(daemon: Any) -> None:
    daemon.boot()
    script = "agent = connect(sys.argv[1])\nfor seq in range(1, 5001): agent.push(item(seq))"
    done = run(script, daemon.address)
    assert (done.returncode, done.stderr) == (0, "")
    assert daemon.seqs() == list(range(1, 5001))


def test_an_exit_with_a_frozen_daemon_does_not_hang(daemon: Any) -> None:
    daemon.boot()
    script = """
agent = connect(sys.argv[1])
os.kill(int(sys.argv[2]), signal.SIGSTOP)
agent.push(item(1))
"""
    done = run(script, daemon.address, str(daemon.process.pid))  # fails where it hangs
    daemon.signal(signal.SIGCONT)
    assert done.returncode == 0
    assert "could not be delivered" in done.stderr


def test_an_import_brings_in_neither_grpc_nor_torch(tmp_path: Path) -> None:
    script = """
import lrpilot.client
lrpilot.client.Agent(f"unix:{sys.argv[1]}/none")
heavy = {"grpc", "torch", "numpy", "optuna", "lrpilot_controller"}
print(sorted(heavy & set(sys.modules)), threading.active_count())
"""
    done = run(script, str(tmp_path))
    assert (done.stdout, done.stderr) == ("[] 1\n", "")
