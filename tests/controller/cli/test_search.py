"""`lrpilot search RUN`: the one command so far that needs the daemon."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import lrpilot_controller.cli as command
from lrpilot_controller.core.events import Commanded, PriorAnswered
from lrpilot_controller.errors import ConfigError, NoDaemon, NotFound, NotNow
from lrpilot_proto.rendezvous import socket_path
from lrpilot_proto.v1 import model_pb2, session_pb2
from support.daemon import PROJECT, Daemon
from support.peer import Line, hello, session

ABLE = session_pb2.Capabilities(snapshot=True, program=True, replay=True)
FIELDS: dict[str, Any] = {"capabilities": ABLE, "max_lr": 1e3, "total_steps": 5000}
START = session_pb2.Report(report_seq=1, snapshot=session_pb2.SnapshotTaken(id=1, proven=True))


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    with tempfile.TemporaryDirectory(prefix="lrp") as folder:
        made = Daemon(Path(folder))
        made.start()
        monkeypatch.setenv("LRPILOT_ADDRESS", made.address)
        yield made
        made.kill()


def lrpilot(*args: str) -> Result:
    return CliRunner().invoke(command.cli, ["search", *args])


def refused(result: Result, kind: type[Exception]) -> str:
    assert isinstance(result.exception, kind), (result.output, result.exception)
    assert result.exit_code == 1
    return str(result.exception)


def hear(line: Line, kind: str) -> session_pb2.ControllerMessage:
    """The next message of this kind."""
    while (message := line.hear()).WhichOneof("body") != kind:
        pass
    return message


def test_a_search_begins_in_a_run_that_trains(daemon: Daemon) -> None:
    with session(daemon.address, hello("exp-1", **FIELDS)) as line:
        line.say(START)
        while line.hear().acked_report < 1:
            pass
        result = lrpilot("exp-1", "--who", "ann", "--why", "another data set")
        assert result.exit_code == 0, result.exception
        assert f"{PROJECT}/exp-1" in result.output
        decision = hear(line, "decision").decision
        assert decision.action == model_pb2.ACTION_PROGRAM
        assert decision.program.id == decision.id
        (asked,) = daemon.records("exp-1", Commanded)
        assert asked.event == Commanded("search", "ann", "another data set")
        assert "searching already" in refused(lrpilot("exp-1"), NotNow)


def test_the_first_program_of_a_run_that_is_to_search_is_promised(daemon: Daemon) -> None:
    with Line(daemon.address) as line:
        line.say(hello("exp-1", search=True, job="mlp", **FIELDS))
        assert line.hear().welcome.searches
        line.say(START)
        assert hear(line, "decision").decision.program.length > 0
    (answer,) = daemon.records("exp-1", PriorAnswered)
    assert answer.event == PriorAnswered("a", None, "no earlier run of this job")
    with session(daemon.address, hello("exp-2", **FIELDS)):
        assert daemon.records("exp-2", PriorAnswered) == []


def test_a_run_that_does_not_search_is_not_to_wait(daemon: Daemon) -> None:
    with Line(daemon.address) as line:
        line.say(hello("exp-1", **FIELDS))
        assert not line.hear().welcome.searches


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"max_lr": 1.0}, "cannot run programs"),
        (FIELDS | {"mode": model_pb2.MODE_OBSERVE}, "mode is observe"),
    ],
)
def test_a_search_that_cannot_begin_says_why(
    daemon: Daemon, fields: dict[str, Any], reason: str
) -> None:
    with session(daemon.address, hello("exp-1", **fields)):
        assert reason in refused(lrpilot("exp-1"), NotNow)


def test_a_run_that_does_not_train_cannot_be_searched(daemon: Daemon) -> None:
    with session(daemon.address, hello("exp-1", **FIELDS)):
        pass
    assert "not connected" in refused(lrpilot("exp-1"), NotNow)
    assert "did you mean" in refused(lrpilot("exp-11"), NotFound)


def test_the_daemon_of_a_storage_is_found(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LRPILOT_ADDRESS", "127.0.0.1:1")
    monkeypatch.setenv("LRPILOT_TOKEN", "t")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(daemon.folder / "run"))
    expected = socket_path(daemon.storage)
    message = refused(lrpilot("exp-1", "--storage", str(daemon.storage)), NoDaemon)
    assert f"no daemon answers at unix:{expected}" in message
    assert "127.0.0.1:1" in refused(lrpilot("exp-1"), NoDaemon)
    daemon.kill()
    daemon.socket = expected
    daemon.address = f"unix:{expected}"
    daemon.start()
    refused(lrpilot("exp-1", "--storage", str(daemon.storage)), NotFound)


def test_without_a_daemon_the_user_is_told_what_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LRPILOT_ADDRESS", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    message = refused(lrpilot("exp-1"), NoDaemon)
    assert "--storage" in message
    assert "LRPILOT_ADDRESS" in message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("address", ["nonsense", "8.8.8.8:1"])
def test_an_address_that_cannot_be_is_named(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LRPILOT_ADDRESS", address)
    assert f"$LRPILOT_ADDRESS={address}" in refused(lrpilot("exp-1"), ConfigError)


def test_a_directory_of_sockets_that_others_can_enter_is_not_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LRPILOT_ADDRESS", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    (tmp_path / "lrpilot").mkdir(mode=0o755)
    assert "mode 0755" in refused(lrpilot("exp-1"), ConfigError)
