"""A little of `python -m tests.benchmarks fuzz`: sessions and bytes at a real socket."""

import asyncio
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.daemon import Daemon
from support.fuzz import load
from support.fuzzed_port import Neighbour, byte_strings, fuzz_messages, memory_mib, throw
from support.peer import Line
from support.sound import NAMED

CORPUS = sorted((Path(__file__).parent / "corpus").glob("*.bin"))


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    with tempfile.TemporaryDirectory(prefix="lrp") as folder:
        one = Daemon(Path(folder))
        one.start()
        yield one
        one.kill()


def unharmed(daemon: Daemon, neighbour: Neighbour) -> None:
    assert daemon.seqs("neighbour") == list(range(1, neighbour.steps + 1))
    assert daemon.process is not None
    assert daemon.process.poll() is None
    assert "Traceback" not in daemon.log, daemon.log


def test_fuzzed_sessions_and_a_job_beside_them(daemon: Daemon) -> None:
    neighbour = Neighbour(daemon.address)

    async def story() -> set[str]:
        over = asyncio.Event()
        beside = asyncio.create_task(neighbour.run(over))
        ends = await fuzz_messages(daemon.address, seed=1, messages=1500)
        over.set()
        await beside
        return set(ends)

    assert asyncio.run(story()) <= NAMED
    unharmed(daemon, neighbour)


def test_what_was_found_once_at_the_socket(daemon: Daemon) -> None:
    for kept in CORPUS:
        with Line(daemon.address) as line:
            for raw in load(kept.read_bytes()):
                line.raw(raw)
            line.hang_up()
            assert line.refusal()[0] in NAMED, kept.name
    assert "Traceback" not in daemon.log, daemon.log


def test_random_bytes_and_a_job_beside_them(daemon: Daemon) -> None:
    neighbour = Neighbour(daemon.address)

    async def story() -> None:
        over = asyncio.Event()
        beside = asyncio.create_task(neighbour.run(over))
        for raw in byte_strings(seed=1, count=300):
            assert await asyncio.to_thread(throw, daemon.socket, raw) in ("closed", "reset")
        over.set()
        await beside

    asyncio.run(story())
    unharmed(daemon, neighbour)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_bytes_leave_nothing_behind_in_memory(daemon: Daemon) -> None:
    assert daemon.process is not None
    for raw in byte_strings(seed=2, count=300):
        throw(daemon.socket, raw)
    before = memory_mib(daemon.process.pid)
    for raw in byte_strings(seed=3, count=1500):
        throw(daemon.socket, raw)
    assert memory_mib(daemon.process.pid) < 1.05 * before
