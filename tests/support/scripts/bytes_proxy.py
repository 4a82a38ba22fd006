"""A line between trainer and daemon that breaks as it is told. Arguments: where to listen, target.

Each is `unix:PATH` or `HOST:PORT`. Reads one JSON object per line from standard input, which holds
from then on, and answers `ok`:
    hold: true           nothing is passed on; it is later (a delayed or congested line)
    swallow: true        what is sent is taken and lost; when that ends, connections are cut
    refuse: true         new connections are cut at once
    cut: true            all connections are cut now
    reset_every: seconds all connections are cut that often
    delay: seconds       everything takes so much longer
    rate: bytes          per second and direction, at most
Connections are cut with a reset, not with a farewell.
"""

import asyncio
import contextlib
import json
import socket
import struct
import sys
from collections.abc import Coroutine
from typing import Any

CHUNK = 16384
Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Line:
    """Copies bytes both ways, between every connection and one of its own to the target."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._said: dict[str, Any] = {}
        self._open: set[asyncio.StreamWriter] = set()
        self._changed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    def obey(self, said: dict[str, Any]) -> None:
        """This holds from now on."""
        lost = self._said.get("swallow") and not said.get("swallow")
        self._said = said
        if lost or said.get("cut"):
            self.cut()
        self._changed.set()
        self._changed = asyncio.Event()
        if said.get("reset_every"):
            self._spawn(self._reset(said))

    def cut(self) -> None:
        """Reset every connection."""
        for writer in list(self._open):
            _reset(writer)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection."""
        try:
            if self._said.get("refuse"):
                return
            far_reader, far_writer = await _connect(self._target)
            self._open |= {writer, far_writer}
            try:
                ways = [self._copy(reader, far_writer), self._copy(far_reader, writer)]
                await asyncio.wait(map(asyncio.ensure_future, ways), return_when="FIRST_COMPLETED")
            finally:
                self._open -= {writer, far_writer}
                _reset(far_writer)
        except OSError:
            pass  # nobody there
        finally:
            _reset(writer)

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(CHUNK):
                while self._said.get("hold"):
                    await self._changed.wait()
                if self._said.get("swallow"):
                    continue
                if delay := self._said.get("delay"):
                    await asyncio.sleep(delay)
                if rate := self._said.get("rate"):
                    await asyncio.sleep(len(data) / rate)
                writer.write(data)
                await writer.drain()

    async def _reset(self, said: dict[str, Any]) -> None:
        while self._said is said:
            await asyncio.sleep(said["reset_every"])
            self.cut()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _reset(writer: asyncio.StreamWriter) -> None:
    one = writer.get_extra_info("socket")
    if one is not None and one.family != socket.AF_UNIX and one.fileno() >= 0:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def _connect(target: str) -> Pair:
    if target.startswith("unix:"):
        return await asyncio.open_unix_connection(target.removeprefix("unix:"))
    host, _, port = target.rpartition(":")
    return await asyncio.open_connection(host, int(port))


async def main(listen: str, target: str) -> None:
    """Serve until standard input ends."""
    line = Line(target)
    if listen.startswith("unix:"):
        server = await asyncio.start_unix_server(line.serve, listen.removeprefix("unix:"))
        where = listen
    else:
        host, _, port = listen.rpartition(":")
        server = await asyncio.start_server(line.serve, host, int(port))
        where = f"{host}:{server.sockets[0].getsockname()[1]}"
    print(where, flush=True)
    orders = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    while order := await orders.readline():
        line.obey(json.loads(order))
        print("ok", flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
