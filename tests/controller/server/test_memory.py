"""The daemon's memory: one heap for all of its threads, and sessions that leave nothing behind."""

import asyncio
import gc
import platform
import subprocess
import sys
import weakref
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import grpc
import pytest

from lrpilot_controller.server import memory
from lrpilot_controller.server.identity import LOCAL, current
from lrpilot_controller.server.session import TrainerSession
from lrpilot_proto.v1 import session_pb2
from support.inprocess import Aborted, Context, House
from support.peer import Trainer, hello, telemetry

HEAPS = """
import ctypes, re, sys, threading
from lrpilot_controller.server.memory import share_one_heap

assert share_one_heap()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
threads = [threading.Thread(target=lambda: libc.malloc(5000)) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
libc.fopen.restype = ctypes.c_void_p
told = libc.fopen(sys.argv[1].encode(), b"w")
libc.malloc_info(0, ctypes.c_void_p(told))
libc.fclose(ctypes.c_void_p(told))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="asks glibc for its heaps")
def test_threads_share_one_heap(tmp_path: Path) -> None:
    told = tmp_path / "heaps.xml"
    subprocess.run([sys.executable, "-c", HEAPS, str(told)], check=True, timeout=60)
    assert told.read_text().count("<heap nr=") == 1


def test_what_refers_to_itself_is_collected_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "COLLECT_S", 0.01)

    class Itself:
        def __init__(self) -> None:
            self.me = self

    async def story() -> None:
        looking = asyncio.create_task(memory.collect_now_and_then())
        gone = weakref.ref(Itself())
        while gone() is not None:
            await asyncio.sleep(0.01)
        looking.cancel()

    gc.disable()
    try:
        asyncio.run(story())
    finally:
        gc.enable()


class Keeping(Context):
    """Keeps the frames of an aborted call, as gRPC does."""

    async def abort(self, code: grpc.StatusCode, words: str) -> None:
        try:
            await super().abort(code, words)
        except Aborted as error:
            self.kept = error
            raise


def test_a_refused_session_leaves_nothing_behind() -> None:
    """Not even until the next look for cycles, which a daemon takes seldom."""
    house = House()
    bad = telemetry(1, [1.0], step=[2**63 + 1])
    peers: list[Keeping] = []

    async def requests() -> AsyncIterator[session_pb2.TrainerMessage]:
        yield Trainer(hello=hello(f"run {len(peers)}"))
        yield Trainer(telemetry=bad)

    async def story() -> None:
        current.set(LOCAL)
        for _ in range(5):
            peers.append(Keeping(None))
            with suppress(Aborted):
                await house.service.Session(requests(), peers[-1])  # type: ignore[arg-type]

    gc.collect()
    gc.disable()
    try:
        asyncio.run(story())
        assert [peer.code for peer in peers] == ["INVALID_ARGUMENT"] * 5
        kinds = [type(one) for one in gc.get_objects()]
    finally:
        gc.enable()
        house.close()
    assert TrainerSession not in kinds
