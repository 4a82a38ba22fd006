"""`lrpilot freeze`, `release`, `set-lr`, `stop` and `approve`, against a daemon."""

import math
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import lrpilot_controller.cli as command
from lrpilot_controller.core.events import Commanded, Configured
from lrpilot_controller.core.settings import Reaction
from lrpilot_controller.errors import NotFound, NotNow
from lrpilot_proto.v1 import model_pb2, session_pb2
from support.daemon import Daemon
from support.peer import Line, hello, session, telemetry

ABLE = session_pb2.Capabilities(snapshot=True, stop=True)
PLAN, RELEASE, STOP = (
    model_pb2.ACTION_PLAN,
    model_pb2.ACTION_RELEASE,
    model_pb2.ACTION_STOP,
)


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with tempfile.TemporaryDirectory(prefix="lrp") as folder:
        made = Daemon(Path(folder))
        made.start()
        yield made
        made.kill()


@pytest.fixture(autouse=True)
def _here(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LRPILOT_ADDRESS", daemon.address)


def lrpilot(*args: str) -> Result:
    return CliRunner().invoke(command.cli, [*args, "--who", "ann", "--why", "so"])


def said(*args: str) -> str:
    result = lrpilot(*args)
    assert result.exit_code == 0, result.exception
    return result.output


def refused(*args: str, kind: type[Exception] = NotNow) -> str:
    result = lrpilot(*args)
    assert isinstance(result.exception, kind), (result.output, result.exception)
    return str(result.exception)


def decided(line: Line) -> model_pb2.Decision:
    while (message := line.hear()).WhichOneof("body") != "decision":
        pass
    return message.decision


def apply(line: Line, decision: model_pb2.Decision, report: int, lr: float) -> None:
    """The receipt of a decision, once the daemon has it."""
    receipt = model_pb2.Receipt(
        decision_id=decision.id,
        status=model_pb2.DECISION_STATUS_APPLIED,
        applied_step=decision.step,
        lrs_before=[0.1],
        lrs_after=[lr],
    )
    line.say(session_pb2.Report(report_seq=report, receipt=receipt))
    while line.hear().acked_report < report:
        pass


def test_each_command_reaches_the_trainer_and_the_journal(daemon: Daemon) -> None:
    with session(daemon.address, hello("all", capabilities=ABLE)) as line:
        assert "decision 1 was sent" in said("set-lr", "all", "0.05")
        decision = decided(line)
        assert (decision.action, decision.plan.kind) == (PLAN, model_pb2.PLAN_KIND_REPLACE)
        assert [s.end_value for s in decision.plan.segments] == [0.05]
        apply(line, decision, 1, 0.05)

        assert "is frozen" in said("freeze", "all")
        assert daemon.story("all")["state"] == "frozen"
        assert "decision 2 was sent" in said("release", "all")
        decision = decided(line)
        assert (decision.action, decision.release) == (RELEASE, True)
        apply(line, decision, 2, 0.1)
        assert daemon.story("all")["state"] == "tracking"

        assert "is asked to end" in said("stop", "all")
        decision = decided(line)
        assert (decision.action, decision.stop) == (STOP, True)
        apply(line, decision, 3, 0.1)
    asked = [record.event for record in daemon.records("all", Commanded)]
    assert asked == [
        Commanded("set_lr", "ann", "so", lr=0.05),
        Commanded("freeze", "ann", "so"),
        Commanded("release", "ann", "so"),
        Commanded("stop", "ann", "so"),
    ]
    assert daemon.story("all")["state"] == "stopped"


def test_a_decision_that_waits_is_sent_when_it_is_approved(daemon: Daemon) -> None:
    fields = {"capabilities": ABLE, "mode": model_pb2.MODE_ADVISE}
    with session(daemon.address, hello("advised", **fields)) as line:
        assert "no decision of it waits" in refused("approve", "advised", "1")
        first = session_pb2.SnapshotTaken(id=1, step=0, proven=True)
        line.say(session_pb2.Report(report_seq=1, before_seq=1, snapshot=first))
        line.say(telemetry(1, [1.0, 0.9, 1.1] * 20 + [math.nan] * 3))
        while line.hear().acked_seq < 63:
            pass
        (waiting,) = [d for d in daemon.decisions("advised") if d.status == "proposed"]
        sent = f"has your approval; decision {waiting.id} was sent"
        assert sent in said("approve", "advised", str(waiting.id))
        decision = decided(line)
        assert (decision.id, decision.restore_snapshot) == (waiting.id, 1)
        assert decision.status == model_pb2.DECISION_STATUS_SENT


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        (["set-lr", "1"], "above max_lr 0.1; the bounds are attach(min_lr=..., max_lr=...)"),
        (["set-lr", "nan"], "not at or above min_lr 0"),
        (["stop"], "cannot end its loop"),
        (["release"], "nothing to release"),
        (["approve", "3"], "no decision of it waits"),
        (["search"], "cannot run programs"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_what_cannot_be_done_is_refused_with_the_reason_and_leaves_no_trace(
    daemon: Daemon, args: list[str], reason: str
) -> None:
    name = f"no-{args[0]}-{args[-1]}"
    with session(daemon.address, hello(name)):
        assert reason in refused(args[0], name, *args[1:])
    assert daemon.records(name, Commanded) == []


@pytest.mark.parametrize(
    "args", [["freeze"], ["release"], ["set-lr", "0.05"], ["stop"], ["approve", "1"], ["search"]]
)
def test_a_run_whose_trainer_is_gone_takes_no_command(daemon: Daemon, args: list[str]) -> None:
    name = f"gone-{args[0]}"
    with session(daemon.address, hello(name)):
        pass
    told = refused(args[0], name, *args[1:])
    assert "no live session" in told
    assert f"lrpilot show default/{name}" in told
    assert daemon.records(name, Commanded) == []
    refused(args[0], "nobody", *args[1:], kind=NotFound)


def test_a_freeze_outlives_the_daemon(daemon: Daemon) -> None:
    with session(daemon.address, hello("outlives")):
        said("freeze", "outlives")
    daemon.kill()
    daemon.start()
    with session(daemon.address, hello("outlives", "b", resumes="a")):
        assert daemon.story("outlives")["state"] == "frozen"
        assert "frozen already" in refused("freeze", "outlives")
        said("release", "outlives")
        assert daemon.story("outlives")["state"] == "tracking"


def test_a_section_of_the_file_lowers_the_mode_and_the_trainer_is_told(
    tmp_path: Path, daemon: Daemon
) -> None:
    file = tmp_path / "lrpilot.toml"
    file.write_text('[runs."default/low-*"]\nmode = "observe"\nsignals = {divergence = "say"}')
    daemon.kill()
    daemon.start("--config", str(file))
    for name, mode in (("low-1", model_pb2.MODE_OBSERVE), ("high-1", model_pb2.MODE_AUTO)):
        with Line(daemon.address) as line:
            line.say(hello(name, capabilities=ABLE))
            assert line.hear().welcome.mode == mode
            if mode == model_pb2.MODE_OBSERVE:
                assert "mode is observe" in refused("stop", name)
            else:
                assert "is asked to end" in said("stop", name)
    (configured,) = daemon.records("low-1", Configured)
    assert isinstance(configured.event, Configured)
    assert configured.event.settings.insisted == {"divergence": Reaction.SAY}
    daemon.kill()
    daemon.start()
