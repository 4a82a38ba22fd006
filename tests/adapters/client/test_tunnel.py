"""The bytes between gRPC and a daemon on TCP: all of them, in order, and an end to both sides."""

import contextlib
import gc
import os
import random
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest

from lrpilot.client.tunnel import MAX_WAITING, Tunnel
from lrpilot_controller.server.access.certificates import Authority
from lrpilot_proto.access import Access, Unreachable
from support.access import SecureDaemon

Serve = Callable[..., Tunnel]


@pytest.fixture
def serve(folder: Path) -> Iterator[Serve]:
    """A TLS server that does one thing with the one connection it gets, and a tunnel to it."""
    authority = Authority(1)
    pair, ca = authority.server(folder, []), authority.write(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)
    threads: list[threading.Thread] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def make(behave: Callable[[ssl.SSLSocket], None], greeting: bytes = b"hello") -> Tunnel:
        def run() -> None:
            raw, _ = listener.accept()
            raw.settimeout(20)
            with context.wrap_socket(raw, server_side=True) as line:
                line.sendall(greeting)
                behave(line)

        threads.append(threading.Thread(target=run))
        threads[-1].start()
        return Tunnel(Access("t", {"LRPILOT_CA": str(ca)}), "127.0.0.1", listener.getsockname()[1])

    yield make
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    listener.close()


def plain_end(tunnel: Tunnel) -> socket.socket:
    """What gRPC would hold."""
    end = socket.socket(socket.AF_UNIX)
    end.settimeout(20)
    end.connect(unquote(tunnel.target.removeprefix("unix:")))
    return end


def read(end: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size and (more := end.recv(1 << 16)):
        data += more
    return bytes(data)


def test_all_bytes_pass_both_ways_however_slowly_they_are_read(serve: Serve) -> None:
    sent = random.Random(0).randbytes(3 * MAX_WAITING)
    heard = bytearray()

    def echo(line: ssl.SSLSocket) -> None:
        heard.extend(read(line, len(sent)))  # all of it, before a word is said
        line.sendall(heard)

    with plain_end(serve(echo)) as end:
        end.sendall(sent)
        assert read(end, 5 + len(sent)) == b"hello" + sent
    assert bytes(heard) == sent


def test_an_end_of_one_side_is_the_end_of_the_other(
    serve: Serve, until: Callable[..., None]
) -> None:
    ended = threading.Event()

    def listen(line: ssl.SSLSocket) -> None:
        with contextlib.suppress(OSError):  # a reset is an end too
            assert line.recv(1) == b""
        ended.set()

    plain_end(serve(listen)).close()
    until(ended.is_set)
    with plain_end(serve(lambda line: None)) as end:
        assert read(end, 100) == b"hello"
        assert end.recv(1) == b""


def test_nobody_else_can_enter_and_nothing_is_left(
    serve: Serve, until: Callable[..., None]
) -> None:
    tunnel = serve(lambda line: None)
    socket_file = Path(unquote(tunnel.target.removeprefix("unix:")))
    assert socket_file.parent.stat().st_mode & 0o777 == 0o700
    plain_end(tunnel).close()
    until(lambda: not socket_file.parent.exists())


def test_what_cannot_be_reached_leaves_nothing_open() -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(10):
        with pytest.raises(Unreachable, match="nobody listens"):
            Tunnel(Access("t", {}), "127.0.0.1", 1)
    assert len(os.listdir("/proc/self/fd")) <= before


def test_a_line_that_breaks_after_its_handshake_leaves_nothing_open(serve: Serve) -> None:
    with pytest.raises(Unreachable, match="no TLS connection to"):
        serve(lambda line: os.write(line.fileno(), b"not TLS any more"), greeting=b"")
    gc.collect()  # a socket that was left open complains now


FORKED = """
import os, sys, time
from lrpilot.client import Agent
from lrpilot_proto.v1 import session_pb2

agent = Agent("auto")
agent.start()
hello = session_pb2.Hello(attempt="a", max_lr=0.1, world_size=1)
hello.run.project, hello.run.name = "p", "run"
hello.groups.add(name="group 0", base_lr=0.1)
agent.open(hello)
while not agent.status.connected:
    time.sleep(0.005)
links = {os.readlink(f"/proc/self/fd/{fd}") for fd in (agent._link._tunnel._line.fileno(),)}
if os.fork() == 0:
    held = set()
    for fd in os.listdir("/proc/self/fd"):
        try:
            held.add(os.readlink(f"/proc/self/fd/{fd}"))
        except OSError:
            pass
    os._exit(bool(links & held))
assert os.wait()[1] == 0, "a child holds the connection open"
agent.push((1, 1, 0, 0, 0, 1.0, (0.1,)))
agent.close(5)
assert agent.status.unacked == 0, agent.status
"""


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="looks into /proc")
def test_a_child_does_not_hold_the_connection(folder: Path) -> None:
    daemon = SecureDaemon(folder)
    secret = daemon.token("job", "trainer", "p")
    daemon.start()
    try:
        done = subprocess.run(
            [sys.executable, "-c", FORKED],
            env=os.environ | daemon.trust(secret),
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
    finally:
        daemon.kill()
