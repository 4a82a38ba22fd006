"""A daemon's socket under fuzzed sessions and random bytes, and a well-behaved job beside them."""

import asyncio
import itertools
import os
import random
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc

from lrpilot_proto.v1 import session_pb2
from support.fuzz import Fuzzer
from support.peer import METHOD, Trainer, hello, telemetry

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
OPTIONS = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
AT_ONCE = 6
MESSAGES = 200  # in a session, at most
PAUSE_S, BATCH = 0.05, 10
ENOUGH_S = 60.0  # for an answer, on a machine that others use too

Down = session_pb2.ControllerMessage


class Neighbour:
    """A job of 200 steps per second that minds its own business.

    Attributes:
        steps: how many it has sent, all acknowledged once `run` has returned.
        waits: seconds from a batch to its acknowledgement.
    """

    def __init__(self, address: str, name: str = "neighbour") -> None:
        self._address = address
        self._name = name
        self.steps = 0
        self.waits: list[float] = []

    async def run(self, over: asyncio.Event) -> None:
        """Train until it is over."""
        async with grpc.aio.insecure_channel(self._address, options=OPTIONS) as channel:
            call = channel.stream_stream(METHOD, None, Down.FromString)()
            await call.write(Trainer(hello=hello(self._name)).SerializeToString())
            assert (await call.read()).WhichOneof("body") == "welcome"
            while not over.is_set():
                begin = time.monotonic()
                losses = [1.0 + 0.01 * random.random() for _ in range(BATCH)]
                message = Trainer(telemetry=telemetry(self.steps + 1, losses))
                await call.write(message.SerializeToString())
                self.steps += BATCH
                await asyncio.wait_for(self._acknowledged(call), ENOUGH_S)
                self.waits.append(time.monotonic() - begin)
                await asyncio.sleep(PAUSE_S)
            await call.done_writing()

    async def _acknowledged(self, call: "grpc.aio.StreamStreamCall[bytes, Down]") -> None:
        while (message := await call.read()).acked_seq < self.steps:
            assert message is not grpc.aio.EOF


async def fuzz_messages(
    address: str, seed: int, messages: int, progress: Callable[[int], None] = lambda done: None
) -> Counter[str]:
    """Send so many messages in fuzzed sessions, a few at a time; how the sessions ended.

    In threads: a peer on `grpc.aio` that is refused while it writes does not learn the code.
    """
    ends: Counter[str] = Counter()
    sent = itertools.count(1)
    last = 0

    def counted(session: Iterator[bytes]) -> Iterator[bytes]:
        nonlocal last
        for raw in session:
            last = next(sent)
            yield raw

    def peer(number: int) -> None:
        runs = [f"run-{seed}-{number}"] * 9 + [f"shared-{seed}"]
        fuzzer = Fuzzer(seed * 1000 + number, runs)
        while last < messages:
            with grpc.insecure_channel(address, options=OPTIONS) as channel:
                for _ in range(500):
                    ends[_hold(channel, counted(fuzzer.session(MESSAGES)), fuzzer)] += 1
                    progress(last)
                    if last >= messages:
                        break

    await asyncio.gather(*(asyncio.to_thread(peer, number) for number in range(AT_ONCE)))
    return ends


def _hold(channel: grpc.Channel, messages: Iterator[bytes], fuzzer: Fuzzer) -> str:
    """One session; the name of the code that it ended with."""
    call = channel.stream_stream(METHOD, None, Down.FromString)(messages, timeout=ENOUGH_S)
    try:
        for message in call:
            fuzzer.heard(message)
    except grpc.RpcError as error:
        return error.code().name
    return "OK"


def byte_strings(seed: int, count: int) -> Iterator[bytes]:
    """Bytes that are no session: noise, and HTTP/2 up to some point."""
    rng = random.Random(seed)
    headers = b"\x00\x00\x20\x01\x04\x00\x00\x00\x01" + rng.randbytes(32)
    for _ in range(count):
        noise = rng.randbytes(rng.choice((1, 9, 64, 500, 4096)))
        frame = len(noise).to_bytes(3, "big") + rng.randbytes(6) + noise
        begins = (b"", b"", PREFACE[: rng.randrange(24)], PREFACE, PREFACE + SETTINGS)
        begin = rng.choice((*begins, PREFACE + SETTINGS + headers))
        yield begin + (frame if rng.random() < 0.5 else noise)


def throw(path: Path, raw: bytes) -> str:
    """Throw bytes at a socket, say no more, and wait until it is hung up on; how it was."""
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(ENOUGH_S)
        peer.connect(str(path))
        try:
            peer.sendall(raw)
            peer.shutdown(socket.SHUT_WR)
            while peer.recv(4096):
                pass
        except ConnectionError:
            return "reset"
    return "closed"


def memory_mib(pid: int) -> float:
    """Resident memory of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
