"""The bytes of a connection, with TLS and without: all of them, in order, and its end."""

import contextlib
import gc
import os
import random
import selectors
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lrpilot.client.address import Address
from lrpilot.client.endpoint import Endpoint
from lrpilot_controller.server.access.certificates import Authority
from lrpilot_proto.access import Access, Unreachable
from support.access import SecureDaemon

Behave = Callable[[socket.socket], None]
Serve = Callable[..., Endpoint]
GREETING = b"hello"


@pytest.fixture(params=["unix", "tls"])
def serve(folder: Path, request: pytest.FixtureRequest) -> Iterator[Serve]:
    """A server that greets, then does one thing with the one connection it gets; our end of it."""
    authority = Authority(1)
    pair, ca = authority.server(folder, []), authority.write(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)
    secure = request.param == "tls"
    if secure:
        listener = socket.create_server(("127.0.0.1", 0))
        address = Address(host="127.0.0.1", port=listener.getsockname()[1])
    else:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(folder / "d.sock"))
        listener.listen()
        address = Address(path=folder / "d.sock")
    threads: list[threading.Thread] = []
    ends: list[Endpoint] = []

    def run(behave: Behave) -> None:
        raw, _ = listener.accept()
        raw.settimeout(20)
        with context.wrap_socket(raw, server_side=True) if secure else raw as line:
            line.sendall(GREETING)
            behave(line)

    def make(behave: Behave) -> Endpoint:
        threads.append(threading.Thread(target=run, args=(behave,)))
        threads[-1].start()
        access = Access("t", {"LRPILOT_CA": str(ca)}) if secure else None
        ends.append(Endpoint(address, access))
        return ends[-1]

    yield make
    for end in ends:
        end.close()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    listener.close()


def wait(end: Endpoint) -> None:
    """Until there is something to read, or to write where something waits for that."""
    with selectors.DefaultSelector() as selector:
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if end.backlog else 0)
        selector.register(end, wanted)
        assert end.unread or selector.select(20)


def read(end: Endpoint, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        wait(end)
        end.write(b"")
        data += end.read()
    return bytes(data)


def hung_up(end: Endpoint) -> bool:
    wait(end)
    try:
        assert end.read() == b""
    except OSError:
        return True
    return False


def receive(line: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        data += line.recv(1 << 16)
    return bytes(data)


def test_all_bytes_pass_both_ways_however_slowly_they_are_read(serve: Serve) -> None:
    sent = random.Random(0).randbytes(24 << 20)
    heard = bytearray()

    def echo(line: socket.socket) -> None:
        time.sleep(0.1)
        heard.extend(receive(line, len(sent)))  # all of it, before a word is said
        line.sendall(heard)

    end = serve(echo)
    end.write(sent)
    assert end.backlog  # more than a line holds
    assert read(end, len(GREETING) + len(sent)) == GREETING + sent
    assert bytes(heard) == sent


def test_nothing_to_read_is_no_end(serve: Serve) -> None:
    go = threading.Event()
    end = serve(lambda line: go.wait(20) and None)
    assert read(end, 5) == GREETING
    assert end.read() == b""
    go.set()


def test_what_came_before_the_end_is_read_before_it_is_told(serve: Serve) -> None:
    end = serve(lambda line: line.sendall(b"bye"))
    data = read(end, len(GREETING) + 3)
    assert data == GREETING + b"bye"
    while not hung_up(end):
        end.write(b"more")  # to one who is gone: no error here


def test_a_close_is_seen_by_the_other_side(serve: Serve) -> None:
    ended = threading.Event()

    def listen(line: socket.socket) -> None:
        with contextlib.suppress(OSError):  # a reset is an end too
            assert line.recv(1) == b""
        ended.set()

    end = serve(listen)
    assert read(end, 5) == GREETING
    end.close()
    assert ended.wait(20)


@pytest.mark.parametrize(
    ("address", "access"),
    [(Address(host="127.0.0.1", port=1), Access("t", {})), (Address(path=Path("/none")), None)],
    ids=["tls", "unix"],
)
def test_what_cannot_be_reached_leaves_nothing_open(
    address: Address, access: Access | None
) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(10):
        with pytest.raises(Unreachable, match="nobody"):
            Endpoint(address, access)
    assert len(os.listdir("/proc/self/fd")) <= before


def test_a_line_that_breaks_after_its_handshake_leaves_nothing_open(folder: Path) -> None:
    authority = Authority(1)
    pair, ca = authority.server(folder, []), authority.write(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)

    def run() -> None:
        with context.wrap_socket(listener.accept()[0], server_side=True) as line:
            os.write(line.fileno(), b"not TLS any more")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=run)
        thread.start()
        access = Access("t", {"LRPILOT_CA": str(ca)})
        with pytest.raises(Unreachable, match="no TLS connection to"):
            Endpoint(Address(host="127.0.0.1", port=listener.getsockname()[1]), access)
        thread.join(20)
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

def sockets():
    held = set()
    for fd in os.listdir("/proc/self/fd"):
        try:
            held.add(os.readlink(f"/proc/self/fd/{fd}"))
        except OSError:
            pass
    return {one for one in held if one.startswith("socket")}

assert len(sockets()) == 3, sockets()  # the line, and two ends of the bell
if os.fork() == 0:
    os._exit(len(sockets()))
assert os.wait()[1] == 0, "a child holds something open"
agent.push((1, 1, 0, 0, 0, 1.0, (0.1,)))
agent.close(5)
assert agent.status.unacked == 0, agent.status
assert sockets() == set()
"""


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="looks into /proc")
def test_a_child_holds_nothing_open_and_an_end_leaves_nothing(folder: Path) -> None:
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
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode == 0, done.stderr
    finally:
        daemon.kill()
