"""The daemon's log: a line for each thing that happened to a run, with its ids."""

import json
import math
import re
import tempfile
from pathlib import Path
from typing import Any

import pytest

from lrpilot_proto.v1 import session_pb2
from support.daemon import Daemon, until
from support.peer import hello, session, telemetry


def logged(how: str) -> list[str]:
    """The log of a daemon that saw a run blow up; before that it got a hundred messages."""
    with tempfile.TemporaryDirectory(prefix="lrp") as folder:
        daemon = Daemon(Path(folder))
        daemon.start("--log-format", how)
        able = session_pb2.Capabilities(snapshot=True, stop=True)
        with session(daemon.address, hello("exp 1", capabilities=able)) as line:
            first = session_pb2.SnapshotTaken(id=1, step=0, proven=True)
            line.say(session_pb2.Report(report_seq=1, before_seq=1, snapshot=first))
            for seq in range(1, 101):
                line.say(telemetry(seq, [1.0 + 0.1 * (seq % 3)]))
            line.say(telemetry(101, [math.nan] * 3))
            while line.hear().WhichOneof("body") != "decision":
                pass
        until(lambda: "session lost" in daemon.log, what="the end of the session")
        assert daemon.terminate(10) == 0
        return daemon.log.splitlines()


@pytest.fixture(scope="module")
def lines() -> list[dict[str, Any]]:
    return [json.loads(line) for line in logged("json")]


def test_a_line_of_json_carries_the_ids(lines: list[dict[str, Any]]) -> None:
    of_run = [line for line in lines if line.get("run")]
    assert {line["run"] for line in of_run} == {"default/exp 1"}
    assert {line["attempt"] for line in of_run} == {"a"}
    assert {line["generation"] for line in of_run} == {1}
    assert any(line["message"].startswith("session opened") for line in of_run)
    assert any(line["message"].startswith("session lost") for line in of_run)
    assert any(line.get("signal") == "nonfinite" for line in of_run)
    (decided, *_) = [line for line in of_run if line.get("decision")]
    assert decided["decision"] == 1
    assert {"time", "level", "logger", "message"} <= set(decided)


def test_telemetry_is_no_line(lines: list[dict[str, Any]]) -> None:
    assert len(lines) < 30


def test_a_line_of_text_has_them_as_key_and_value() -> None:
    text = logged("text")
    assert all(re.match(r"20\d\d-\d\d-\d\dT[\d:]{8}[+-]\d{4} [A-Z]+ [a-z]", line) for line in text)
    (opened,) = [line for line in text if "session opened" in line]
    assert opened.endswith(' run="default/exp 1" attempt=a generation=1')
    assert any(" decision=1 " in line for line in text)
