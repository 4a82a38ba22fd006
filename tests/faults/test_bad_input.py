"""Bad input at the real port: a named refusal each, and the run beside it notices nothing."""

import itertools
import json
import math
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lrpilot.pilot import Pilot
from lrpilot_controller.core.events import Noticed
from lrpilot_proto.v1 import model_pb2, session_pb2
from support.daemon import Daemon, cli
from support.peer import Line, Trainer, hello, session, telemetry
from support.training import Job, attach, job, rollbacks, train, train_until

# Field 1000 and a oneof body 99, as a newer peer may send them.
UNKNOWN_FIELD = b"\xc0\x3e\x07"
UNKNOWN_BODY = b"\x9a\x06\x02hi"

_numbers = itertools.count()


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    """One that has to live through all of this."""
    with tempfile.TemporaryDirectory(prefix="lrp") as folder:
        one = Daemon(Path(folder))
        one.start()
        yield one
        one.kill()


@pytest.fixture
def run() -> str:
    """A run's name, another one in each test."""
    return f"run-{next(_numbers)}"


@pytest.fixture(autouse=True)
def _neighbour(daemon: Daemon) -> Iterator[None]:
    """A well-behaved run, under way before and after."""
    name = f"neighbour-{next(_numbers)}"
    one = job()
    with attach(one, daemon.address, name) as pilot:
        train_until(one, pilot, lambda: pilot.summary().connected)
        yield
        assert pilot.summary().connected
        one.spoil()
        train_until(one, pilot, lambda: rollbacks(pilot) == 1)
        train(one, pilot, range(20))
        steps = pilot.step_count
    assert daemon.seqs(name) == list(range(1, steps + 1))
    assert daemon.story(name)["state"] == "finished"
    assert daemon.story(name)["attempts"] == 1
    assert daemon.process is not None
    assert daemon.process.poll() is None
    assert "Traceback" not in daemon.log, daemon.log


@pytest.mark.parametrize(
    "bytes_",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        bytes(range(256)) * 256,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff\xff\xff" + b"\x00" * 6 + b"x" * 4096,
    ],
    ids=["HTTP/1", "garbage", "a huge HTTP/2 frame"],
)
def test_what_is_no_grpc_is_hung_up_on(daemon: Daemon, bytes_: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as raw:
        raw.settimeout(20)
        raw.connect(str(daemon.socket))
        try:
            raw.sendall(bytes_)
            while raw.recv(4096):
                pass
        except ConnectionError:
            pass


def _without(body: session_pb2.Hello, *fields: str) -> session_pb2.Hello:
    for field in fields:
        body.ClearField(field)  # type: ignore[arg-type]
    return body


@pytest.mark.parametrize(
    ("greeting", "words"),
    [
        (hello(""), "hello.run.name is ''"),
        (hello("a/b"), "hello.run.name is 'a/b'"),
        (hello("r" * 201), "1 to 200 characters"),
        (hello("run\0"), "hello.run.name is 'run\\x00'"),
        (hello("run\n2026-01-01 INFO all is well"), "characters that can be seen"),
        (hello("run\u202e"), "hello.run.name is 'run\\u202e'"),
        (hello("run", attempt=""), "hello.attempt is ''"),
        (_without(hello("run"), "run"), "hello.run.project is ''"),
        (_without(hello("run"), "groups"), "hello.groups is empty"),
        (hello("run", max_lr=math.nan), "max_lr nan"),
        (hello("run", min_lr=1.0), "0 <= min_lr <= max_lr"),
        (hello("run", groups=[session_pb2.ParamGroup(base_lr=math.inf)]), "base_lr"),
    ],
)
def test_a_hello_that_cannot_be(daemon: Daemon, greeting: session_pb2.Hello, words: str) -> None:
    with Line(daemon.address) as line:
        line.say(greeting)
        code, text = line.refusal()
    assert code == "INVALID_ARGUMENT"
    assert words in text


@pytest.mark.parametrize(
    "begin",
    [
        lambda line: line.say(telemetry(1, [1.0])),
        lambda line: line.raw(b""),
        lambda line: line.raw(UNKNOWN_BODY),
        lambda line: line.hang_up(),
    ],
    ids=["telemetry first", "an empty message", "an unknown message", "nothing"],
)
def test_a_session_without_a_hello(daemon: Daemon, begin: Callable[[Line], None]) -> None:
    with Line(daemon.address) as line:
        begin(line)
        code, text = line.refusal()
    assert code == "INVALID_ARGUMENT"
    assert "Hello" in text


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (telemetry(1, [1.0, 2.0], step=[0]), "differ in length"),
        (telemetry(1, [1.0], branch=[]), "differ in length"),
        (telemetry(1, []), "0 rows: 1 to 4096"),
        (telemetry(1, [1.0] * 4097), "4097 rows: 1 to 4096"),
        (telemetry(1, [1.0], lrs=[]), "telemetry.lrs has 0 values"),
        (telemetry(1, [1.0] * 3, lrs=[0.1] * 2), "telemetry.lrs has 2 values"),
        (telemetry(1, [1.0], lrs=[math.nan]), "non-finite learning rate"),
        (telemetry(3, [1.0], step=[2**64 - 1]), "telemetry.step is 18446744073709551615"),
        (hello("run"), "one Hello"),
    ],
)
def test_telemetry_that_cannot_be(
    daemon: Daemon, run: str, body: session_pb2.Telemetry | session_pb2.Hello, words: str
) -> None:
    """It is refused whole: what came before it stays, and the run can go on."""
    with session(daemon.address, hello(run)) as line:
        line.say(telemetry(1, [3.0, 2.0]))
        line.hear_ack(2)
        line.say(body)
        code, text = line.refusal()
    assert code == "INVALID_ARGUMENT"
    assert words in text
    with session(daemon.address, hello(run)) as line:
        line.say(telemetry(3, [1.0]))
        line.hear_ack(3)
    assert daemon.seqs(run) == [1, 2, 3]


def test_telemetry_numbered_0(daemon: Daemon, run: str) -> None:
    with session(daemon.address, hello(run)) as line:
        body = telemetry(1, [1.0])
        body.first_seq = 0
        line.say(body)
        code, text = line.refusal()
    assert code == "INVALID_ARGUMENT"
    assert "numbered from 1" in text


def test_bytes_that_are_no_message(daemon: Daemon, run: str) -> None:
    with session(daemon.address, hello(run)) as line:
        line.raw(b"\xff\xff\xff\xff")
        code, text = line.refusal()
    assert code == "INVALID_ARGUMENT"
    assert "TrainerMessage" in text


def test_a_message_over_1_mib(daemon: Daemon, run: str) -> None:
    with session(daemon.address, hello(run)) as line:
        line.raw(Trainer(telemetry=telemetry(1, [1.0] * 200_000)).SerializeToString())
        code, text = line.refusal()
    assert code == "RESOURCE_EXHAUSTED"
    assert str(1 << 20) in text
    assert daemon.seqs(run) == []


def test_words_of_a_newer_peer_are_ignored(daemon: Daemon, run: str) -> None:
    """Fields, messages, modes and reports that this daemon does not know are not fatal."""
    with Line(daemon.address) as line:
        greeting = hello(run, mode=99)
        line.raw(Trainer(hello=greeting).SerializeToString() + UNKNOWN_FIELD)
        assert line.hear().WhichOneof("body") == "welcome"
        line.raw(UNKNOWN_BODY)
        line.raw(Trainer(telemetry=telemetry(1, [1.0])).SerializeToString() + UNKNOWN_FIELD)
        line.hear_ack(1)
        report = session_pb2.Report(report_seq=1)
        line.raw(Trainer(report=report).SerializeToString() + UNKNOWN_FIELD)
        while line.hear().acked_report < 1:
            pass
        receipt = model_pb2.Receipt(decision_id=77, status=99)  # type: ignore[arg-type]
        line.say(session_pb2.Report(report_seq=2, receipt=receipt))
        while line.hear().acked_report < 2:
            pass
    assert daemon.seqs(run) == [1]
    assert [record.event.kind for record in daemon.records(run, Noticed)] == ["unknown_report"]


def test_repeated_seqs_are_recorded_once(daemon: Daemon, run: str) -> None:
    with session(daemon.address, hello(run)) as line:
        line.say(telemetry(1, [1.0, 1.0, 1.0]))
        line.say(telemetry(1, [9.0, 9.0, 9.0]))
        line.say(telemetry(3, [9.0, 1.0]))
        line.hear_ack(4)
    assert daemon.seqs(run) == [1, 2, 3, 4]
    assert daemon.story(run)["telemetry"]["received"] == 4


def test_steps_out_of_order_are_recorded_as_they_came(daemon: Daemon, run: str) -> None:
    with session(daemon.address, hello(run)) as line:
        line.say(telemetry(1, [1.0] * 4, step=[5, 3, 3, 9]))
        line.say(telemetry(5, [1.0], step=[0]))
        line.hear_ack(5)
    story = daemon.story(run)
    assert story["telemetry"]["received"] == 5
    assert story["step"] == 10
    assert story["decisions"] == []


def test_losses_that_are_no_numbers(daemon: Daemon, run: str) -> None:
    """The run goes on, its story stays strict JSON, and a later blow-up is still seen."""
    one = job()
    with attach(one, daemon.address, run) as pilot:
        pilot.validate(2.0)  # before the first step
        train(one, pilot, range(60))
        for odd in (1e300, -1e300, 1e300, 5e-324, math.inf, 1.0, -math.inf, 1.0, math.nan):
            one.update()
            pilot.step(odd)
        pilot.validate(math.nan)
        train(one, pilot, range(200), pause_s=0.0005)
        assert rollbacks(pilot) == 0
        blow_up(one, pilot)
        steps = pilot.step_count
    shown = cli("show", run, "--json", "--storage", daemon.storage)
    assert shown.returncode == 0, shown.stderr
    story = json.loads(shown.stdout, parse_constant=pytest.fail)
    assert story["telemetry"] == {"received": steps, "dropped": 0}
    assert [d["action"] for d in story["decisions"]].count("rollback") == 1
    assert cli("show", run, "--storage", daemon.storage).returncode == 0


def blow_up(one: Job, pilot: Pilot) -> None:
    one.spoil()
    train_until(one, pilot, lambda: rollbacks(pilot) == 1)
    train(one, pilot, range(20))


def test_a_run_that_nobody_knows(daemon: Daemon, run: str) -> None:
    shown = cli("show", "neighbor", "--storage", daemon.storage)
    assert shown.returncode != 0
    assert "no run 'neighbor'" in shown.stderr
    assert "did you mean" in shown.stderr
    assert "neighbour" in shown.stderr
    assert "Traceback" not in shown.stderr
