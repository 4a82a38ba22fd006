"""Limits at the real port: a refusal that names the limit, and jobs beside it that go on."""

import logging
from collections.abc import Callable

import grpc
import pytest

from lrpilot_proto.v1 import operator_pb2, operator_pb2_grpc
from support.daemon import Daemon
from support.peer import Line, hello, session, telemetry
from support.training import attach, job, train, train_until

pytestmark = pytest.mark.slow

Serve = Callable[[str], Daemon]


@pytest.fixture
def serve(daemon: Daemon) -> Serve:
    """Starts a daemon under these `[server]` limits."""

    def start(limits: str) -> Daemon:
        config = daemon.folder / "lrpilot.toml"
        config.write_text(f"[server]\n{limits}\n")
        daemon.start("--config", str(config))
        return daemon

    return start


def refusal(daemon: Daemon, run: str, **fields: str) -> tuple[str, str]:
    with Line(daemon.address) as line:
        line.say(hello(run, **fields))
        return line.refusal()


def test_one_session_too_many(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """The job is told once, trains on, and is taken when there is room; the others go on."""
    daemon = serve("max_sessions = 2")
    with session(daemon.address, hello("a")) as a, session(daemon.address, hello("b")) as b:
        code, text = refusal(daemon, "c")
        assert code == "RESOURCE_EXHAUSTED"
        assert "local has 2 sessions open; the limit is server.max_sessions = 2" in text
        one = job()
        with attach(one, daemon.address, "late") as pilot, caplog.at_level(logging.WARNING):
            train_until(one, pilot, lambda: "server.max_sessions" in caplog.text)
            a.say(telemetry(1, [1.0]))
            a.hear_ack(1)
            b.hang_up()
            assert b.refusal() == ("OK", "")
            train_until(one, pilot, lambda: pilot.summary().connected)
            steps = pilot.step_count
        assert caplog.text.count("server.max_sessions") == 1
    assert daemon.seqs("late") == list(range(1, steps + 1))
    assert "Traceback" not in daemon.log


def test_a_loop_that_opens_sessions(serve: Serve) -> None:
    daemon = serve("max_sessions = 5\nnew_sessions_per_minute = 20")
    with session(daemon.address, hello("neighbour")) as neighbour:
        answers = [refusal_of_loop(daemon, f"loop-{i}") for i in range(40)]
        refused = [text for code, text in answers if code == "RESOURCE_EXHAUSTED"]
        assert 15 <= len(refused) <= 21
        assert "server.new_sessions_per_minute = 20: try again in" in refused[-1]
        neighbour.say(telemetry(1, [1.0]))
        neighbour.hear_ack(1)
    assert daemon.log.count("refused") == 1  # in the log once a minute


def refusal_of_loop(daemon: Daemon, run: str) -> tuple[str, str]:
    with Line(daemon.address) as line:
        line.say(hello(run))
        line.hang_up()
        return line.refusal()


def test_one_run_too_many(serve: Serve) -> None:
    daemon = serve("max_runs = 1\nmax_attempts_per_run = 2")
    with session(daemon.address, hello("first")) as line:
        code, text = refusal(daemon, "second")
        assert code == "RESOURCE_EXHAUSTED"
        assert "default/second is new, and the journal has 1 runs" in text
        assert "server.max_runs = 1" in text
        line.say(telemetry(1, [1.0]))
        line.hear_ack(1)
    with session(daemon.address, hello("first", attempt="b", resumes="a")):
        code, text = refusal(daemon, "first", attempt="c", resumes="b")
        assert code == "RESOURCE_EXHAUSTED"
        assert "server.max_attempts_per_run = 2: choose another run name" in text


def test_a_session_that_sends_too_fast_is_read_no_faster(serve: Serve) -> None:
    """Its samples are all taken, later; the one beside it does not wait."""
    daemon = serve("samples_per_second = 500")
    with session(daemon.address, hello("fast")) as fast, session(daemon.address, hello("b")) as b:
        for i in range(110):
            fast.say(telemetry(1 + 50 * i, [1.0] * 50))
        b.say(telemetry(1, [1.0]))
        b.hear_ack(1)
        assert 0 < len(daemon.seqs("fast")) < 5500
        fast.hear_ack(5500)
    assert daemon.seqs("fast") == list(range(1, 5501))


def test_a_journal_that_may_not_grow(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is acknowledged that is not recorded; training goes on, and it is told once."""
    daemon = serve("max_journal_mib = 1")
    with session(daemon.address, hello("big")) as big:
        for i in range(400):
            losses = [((i * 4096 + k) * 0.6180339887) % 1.0 for k in range(2000)]
            big.say(telemetry(1 + 2000 * i, losses, lrs=losses))
        code, text = big.refusal()
    assert code == "RESOURCE_EXHAUSTED"
    assert "server.max_journal_mib = 1: make room" in text
    stored = daemon.seqs("big")
    assert stored == list(range(1, len(stored) + 1))
    one = job()
    with attach(one, daemon.address, "new") as pilot, caplog.at_level(logging.WARNING):
        train_until(one, pilot, lambda: "server.max_journal_mib" in caplog.text)
        train(one, pilot, range(200))
    assert caplog.text.count("server.max_journal_mib") == 1
    assert daemon.log.count("nothing is recorded any more, training goes on") == 1
    assert "Traceback" not in daemon.log


def test_an_operator_that_asks_too_often(serve: Serve) -> None:
    daemon = serve("operator_calls_per_second = 1")
    with session(daemon.address, hello("a")), grpc.insecure_channel(daemon.address) as channel:
        operator = operator_pb2_grpc.OperatorServiceStub(channel)
        for _ in range(10):
            assert len(operator.ListRuns(operator_pb2.ListRunsRequest()).runs) == 1
        with pytest.raises(grpc.RpcError) as caught:
            [operator.ListRuns(operator_pb2.ListRunsRequest()) for _ in range(10)]
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "server.operator_calls_per_second = 1" in caught.value.details()
