"""Fixtures of the tests with real processes; imported by their conftest.py files."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from lrpilot.client import notices
from support.daemon import Daemon
from support.training import quiet_threads

__all__ = ["_calm", "daemon", "folder"]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A directory whose path is short enough for a socket."""
    path = Path(tempfile.mkdtemp(prefix="lrp"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def daemon(folder: Path) -> Iterator[Daemon]:
    """A daemon that was not started yet."""
    one = Daemon(folder)
    yield one
    one.kill()


@pytest.fixture(autouse=True)
def _calm(monkeypatch: pytest.MonkeyPatch) -> None:
    """One thread for torch, no settings of a developer's own, and nothing told before."""
    quiet_threads()
    monkeypatch.delenv("LRPILOT_ADDRESS", raising=False)
    monkeypatch.delenv("LRPILOT", raising=False)
    monkeypatch.setattr(notices, "_once", set())
