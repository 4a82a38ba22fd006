"""A scripted daemon in a process of its own, and an agent that is always closed."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lrpilot.client import Agent, Item, notices
from lrpilot_proto.v1 import session_pb2

SCRIPT = Path(__file__).with_name("scripted_daemon.py")


class DaemonProcess:
    """One life after another of a scripted daemon on one socket and one journal."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.address = f"unix:{folder / 'd.sock'}"
        self.journal = folder / "journal"
        self.process: subprocess.Popen[bytes] | None = None

    def boot(self, *script: str) -> None:
        """Start it and wait until it listens."""
        where = ["--journal", str(self.journal), "--listen", self.address]
        self.process = subprocess.Popen(
            [sys.executable, str(SCRIPT), *where, *script], stdout=subprocess.PIPE
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"ready\n"

    def signal(self, number: int) -> None:
        assert self.process is not None
        os.kill(self.process.pid, number)

    def kill(self) -> None:
        """SIGKILL, and reap."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            assert self.process.stdout is not None
            self.process.stdout.close()
            self.process = None

    def lines(self, kind: str) -> list[dict[str, Any]]:
        """What it journaled of one kind: item, report or hello."""
        text = self.journal.read_text() if self.journal.exists() else ""
        lines = [json.loads(line) for line in text.split("\n")[:-1]]
        return [line for line in lines if line["kind"] == kind]

    def seqs(self) -> list[int]:
        return [line["seq"] for line in self.lines("item")]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A directory whose path is short enough for a socket."""
    path = Path(tempfile.mkdtemp(prefix="lrp"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def daemon(folder: Path) -> Iterator[DaemonProcess]:
    process = DaemonProcess(folder)
    yield process
    if process.process is not None:
        process.signal(signal.SIGCONT)
    process.kill()


@pytest.fixture
def make_agent() -> Iterator[Callable[..., Agent]]:
    agents: list[Agent] = []

    def make(address: str, **options: Any) -> Agent:
        agent = Agent(address, **options)
        agents.append(agent)
        agent.start()
        return agent

    yield make
    for agent in agents:
        agent.close(0.1)


@pytest.fixture(autouse=True)
def _forget_what_was_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notices, "_once", set())


@pytest.fixture
def until() -> Callable[..., None]:
    """Wait for a condition, or fail."""

    def wait(condition: Callable[[], Any], timeout_s: float = 10.0) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, "timed out"
            time.sleep(0.005)

    return wait


@pytest.fixture
def hello() -> Callable[..., session_pb2.Hello]:
    def make(attempt: str = "a", **fields: Any) -> session_pb2.Hello:
        return session_pb2.Hello(attempt=attempt, **fields)

    return make


@pytest.fixture
def item() -> Callable[..., Item]:
    def make(seq: int, *lrs: float) -> Item:
        return (seq, 1, seq - 1, 0, 0, 1.0 / seq, lrs or (0.1,))

    return make
