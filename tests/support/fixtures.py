"""Fixtures of the tests with real processes; imported by their conftest.py files."""

import shutil
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from lrpilot.client import notices
from lrpilot.client.timing import Backoff
from support.daemon import Daemon
from support.faults.daemon import FaultyDaemon
from support.nursery import Nursery
from support.training import quiet_threads

__all__ = ["_calm", "daemon", "faulty", "faulty_nursery", "folder", "nursery", "reconnect_soon"]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A directory whose path is short enough for a socket."""
    path = Path(tempfile.mkdtemp(prefix="lrp"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    """Forks daemons, for all tests of this process."""
    one = Nursery("plain_daemon")
    yield one
    one.close()


@pytest.fixture(scope="session")
def faulty_nursery() -> Iterator[Nursery]:
    """Forks those in which something can go wrong."""
    one = Nursery("faulty_daemon")
    yield one
    one.close()


@pytest.fixture
def daemon(folder: Path, nursery: Nursery) -> Iterator[Daemon]:
    """A daemon that was not started yet."""
    one = Daemon(folder, nursery)
    yield one
    one.kill()


@pytest.fixture
def faulty(folder: Path, faulty_nursery: Nursery) -> Iterator[FaultyDaemon]:
    """One in which something can go wrong; not started yet."""
    one = FaultyDaemon(folder, faulty_nursery)
    yield one
    one.kill()


@pytest.fixture
def reconnect_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or most of a test would be waiting to connect."""
    monkeypatch.setattr("lrpilot.client.agent.Backoff", partial(Backoff, high_s=0.1))


@pytest.fixture(autouse=True)
def _calm(monkeypatch: pytest.MonkeyPatch) -> None:
    """One thread for torch, no settings of a developer's own, and nothing told before."""
    quiet_threads()
    monkeypatch.delenv("LRPILOT_ADDRESS", raising=False)
    monkeypatch.delenv("LRPILOT", raising=False)
    monkeypatch.setattr(notices, "_once", set())
