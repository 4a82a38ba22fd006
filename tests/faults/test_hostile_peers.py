"""Peers that hold what they get, or hold back what they owe: the job beside them is not harmed."""

import resource
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import grpc
import pytest

from lrpilot_proto.v1 import session_pb2
from support.daemon import COMMAND, Daemon, until
from support.fuzzed_port import PREFACE, memory_mib
from support.peer import METHOD, Line, Trainer, hello, session, telemetry

pytestmark = [pytest.mark.slow, pytest.mark.alone]  # the neighbour's waits, the memory

HANDSHAKE_S = 10.0  # what the daemon grants a connection that says nothing


@pytest.fixture
def daemon(daemon: Daemon) -> Daemon:
    """One that is at work."""
    daemon.start()
    return daemon


@contextmanager
def neighbour(daemon: Daemon) -> Iterator[None]:
    """A job that is under way all the time, and whose samples are all stored."""
    over, waits = threading.Event(), list[float]()
    sent = 0

    def train(line: Line) -> None:
        nonlocal sent
        while not over.wait(0.05):
            begin = time.monotonic()
            line.say(telemetry(sent + 1, [1.0] * 10))
            sent += 10
            line.hear_ack(sent)
            waits.append(time.monotonic() - begin)

    with session(daemon.address, hello("neighbour")) as line:
        training = threading.Thread(target=train, args=(line,))
        training.start()
        try:
            yield
        finally:
            over.set()
            training.join()
    assert daemon.seqs("neighbour") == list(range(1, sent + 1))
    assert max(waits) < 3.0, "its client would have taken the daemon for lost"
    assert "Traceback" not in daemon.log, daemon.log


@contextmanager
def silent(daemon: Daemon, count: int, says: bytes = b"") -> Iterator[list[socket.socket]]:
    """Connections that say no more than this."""
    with ExitStack() as open_:
        peers = []
        for _ in range(count):
            peer = open_.enter_context(socket.socket(socket.AF_UNIX))
            peer.settimeout(HANDSHAKE_S + 20)
            with suppress(OSError):  # hung up on already
                peer.connect(str(daemon.socket))
                peer.sendall(says)
            peers.append(peer)
        yield peers


def hung_up(peer: socket.socket) -> bool:
    try:
        while peer.recv(4096):
            pass
    except TimeoutError:
        return False
    except OSError:
        pass
    return True


def test_two_thousand_silent_connections(daemon: Daemon) -> None:
    """New jobs are taken meanwhile, and the silent ones are hung up on."""
    with neighbour(daemon), silent(daemon, 1000), silent(daemon, 1000, PREFACE[:10]) as halves:
        with session(daemon.address, hello("new")) as line:
            line.say(telemetry(1, [1.0]))
            line.hear_ack(1)
        assert hung_up(halves[-1])


def test_a_peer_that_says_a_byte_per_second(daemon: Daemon) -> None:
    with neighbour(daemon), silent(daemon, 1) as [peer]:
        begin = time.monotonic()
        with suppress(OSError):
            for byte in PREFACE:
                peer.send(bytes([byte]))
                time.sleep(1.0)
        assert time.monotonic() - begin < len(PREFACE), "it was hung up on"


def test_a_thousand_streams_on_one_connection_that_say_no_hello(daemon: Daemon) -> None:
    """Eight of them reach the daemon; another connection has eight of its own."""
    with neighbour(daemon), grpc.insecure_channel(daemon.address) as channel:
        open_ = channel.stream_stream(METHOD, None, None)
        never = threading.Event()

        def nothing() -> Iterator[bytes]:
            never.wait()
            yield from ()

        calls = [open_(nothing()) for _ in range(200)]
        with session(daemon.address, hello("new")) as line:
            line.say(telemetry(1, [1.0]))
            line.hear_ack(1)
        for call in calls:
            call.cancel()
        never.set()


def test_a_hello_that_comes_late(daemon: Daemon) -> None:
    with neighbour(daemon), Line(daemon.address) as line:
        time.sleep(2.0)
        line.say(hello("late"))
        assert line.hear().WhichOneof("body") == "welcome"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_peer_that_never_reads(daemon: Daemon) -> None:
    """What waits for it has a bound (tests/controller/server/test_deaf_peer.py)."""
    assert daemon.process is not None
    snapshot = session_pb2.SnapshotTaken(id=1, proven=True)
    with neighbour(daemon), ExitStack() as peers:
        before = memory_mib(daemon.process.pid)

        def flood(name: str) -> Iterator[bytes]:
            yield Trainer(hello=hello(name)).SerializeToString()
            for number in range(1, 20_000):
                report = session_pb2.Report(report_seq=number, snapshot=snapshot)
                yield Trainer(report=report).SerializeToString()

        for i in range(4):
            channel = peers.enter_context(grpc.insecure_channel(daemon.address))
            call = channel.stream_stream(METHOD, None, None)(flood(f"deaf-{i}"))
            peers.callback(call.cancel)
        time.sleep(5.0)
        assert memory_mib(daemon.process.pid) < before + 30


def test_a_daemon_with_few_open_files(daemon: Daemon) -> None:
    """It says so, takes as many connections as it can serve, and goes on when they are gone."""
    daemon.kill()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 2000), hard))
    try:
        with daemon.log_file.open("ab") as log:
            where = ["--listen", daemon.address, "--storage", str(daemon.storage)]
            limited = ["sh", "-c", 'ulimit -n 100 && exec "$@"', "sh", *COMMAND, "serve", *where]
            daemon.process = subprocess.Popen(limited, stderr=log)
        until(daemon.answers)
        assert "may have 100 files open, so 36 connections" in daemon.log
        with neighbour(daemon):
            with silent(daemon, 300):
                time.sleep(1.0)
            until(lambda: _welcomed(daemon))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _welcomed(daemon: Daemon) -> bool:
    with suppress(grpc.RpcError), session(daemon.address, hello("new")):
        return True
    return False


def test_a_generation_that_no_journal_has(daemon: Daemon) -> None:
    """It is refused by name, and the daemon's own does not grow."""
    with Line(daemon.address) as line:
        greeting = hello("peer")
        greeting.generation = 2**63
        line.say(greeting)
        code, words = line.refusal()
        assert (code, str(2**63) in words) == ("INVALID_ARGUMENT", True)
        with session(daemon.address, hello("another")) as other:
            other.say(telemetry(1, [1.0]))
            assert other.hear().generation == 1
