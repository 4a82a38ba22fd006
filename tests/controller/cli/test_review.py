"""`lrpilot review` as a person runs it: a real process, a real port, real pages."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from lrpilot_controller.cli.review import review
from lrpilot_controller.core.events import Decided, OutcomeMeasured, ReceiptArrived, SessionOpened
from lrpilot_controller.core.model import (
    Action,
    Attempt,
    Decision,
    DecisionStatus,
    Outcome,
    ParamGroup,
    Receipt,
    Signal,
    SignalKind,
    Verdict,
)
from lrpilot_controller.core.plans import Plan
from lrpilot_controller.errors import LRPilotError
from lrpilot_controller.journal import RunKey, SqlJournal
from lrpilot_controller.tuning.file import TrialsFile

MAIN = "from lrpilot_controller.cli import main; main()"


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A journal with two runs of one decision each; the trials are made by the first review."""
    directory = tmp_path_factory.mktemp("state") / "storage"
    journal = SqlJournal.open(directory / "journal.db")
    for name, gain in (("exp-1", 0.42), ("exp-2", -1.0)):
        signal_seen = Signal(SignalKind.DIVERGENCE, 100, 93, 0.8, {"rise": 4.5})
        decision = Decision(
            id=1,
            action=Action.CUT,
            reason="the loss rose",
            step=100,
            branch=0,
            signal=signal_seen,
            plan=Plan.scale(1 / 3, 100),
            factor=1 / 3,
        )
        receipt = Receipt(1, DecisionStatus.APPLIED, 101, 0, 0, (0.3,), (0.1,))
        verdict = Verdict.IMPROVED if gain > 0 else Verdict.ROLLED_BACK
        attempt = Attempt(f"of-{name}", (ParamGroup("0", 0.3),), 1e-5, 0.3, optimizer="SGD")
        events = [
            SessionOpened(attempt),
            Decided(decision),
            ReceiptArrived(attempt.id, 1, receipt),
            OutcomeMeasured(Outcome(1, verdict, gain, 50, 1.5, 0.9)),
        ]
        journal.append([(RunKey("demo", name), time.time(), event) for event in events])
    journal.close()
    return directory


@contextmanager
def served(storage: Path, *args: str) -> Iterator[tuple[subprocess.Popen[str], int, list[str]]]:
    """A running `lrpilot review`, its port, and the lines that it printed when it was ready."""
    process = subprocess.Popen(
        [sys.executable, "-u", "-c", MAIN, "review", "--storage", str(storage), *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        # A shell's background job would hand down that Ctrl-C is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:(\d+)/dashboard", line)
        assert found, f"{line!r} {process.stderr and process.stderr.read()}"
        yield process, int(found[1]), [line]
    finally:
        process.kill()
        process.communicate()


def get(port: int, path: str, **headers: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("GET", path, headers={"Accept-Encoding": "identity"} | headers)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def get_json(port: int, path: str) -> Any:
    status, body = get(port, path)
    assert status == 200, body
    return json.loads(body)


@pytest.fixture(scope="module")
def dashboard(storage: Path) -> Iterator[int]:
    with served(storage, "--port", "0") as (_, port, _):
        yield port


def test_it_serves_the_trials(dashboard: int) -> None:
    study, *_pages = get_json(dashboard, "/api/studies")["study_summaries"]
    assert study["study_name"] == "demo/interventions/divergence/sgd"
    detail = get_json(dashboard, f"/api/studies/{study['study_id']}?after=0")
    first, second = detail["trials"]
    assert (first["state"], first["values"]) == ("Complete", [0.42])
    assert second["values"] == [-1.0]
    attributes = {a["key"]: a["value"] for a in first["user_attrs"]}
    assert attributes["run"] == "demo/exp-1"
    assert attributes["evidence.rise"] == "4.5"
    assert attributes["lrs_after"] == "[0.1]"
    assert first["params"][0]["name"] == "factor"
    assert "### Step 100: divergence, cut the LR" in first["note"]["body"]
    assert "lrpilot show demo/exp-1" in first["note"]["body"]
    assert detail["objective_names"] == ["gain"]


def test_it_serves_the_pages(dashboard: int) -> None:
    status, body = get(dashboard, "/dashboard/studies/1/trials?numbers=0")
    assert status == 200
    script = re.search(rb'src="(/static/[^"]+)"', body)
    assert script
    assert get(dashboard, script[1].decode())[0] == 200
    assert get_json(dashboard, "/api/meta")["artifact_is_available"]


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "evil.example:8080", "Origin": "http://127.0.0.1"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Host": "["},
    ],
)
def test_pages_of_others_get_nothing(dashboard: int, headers: dict[str, str]) -> None:
    status, body = get(dashboard, "/api/studies", **headers)
    assert status == 403
    assert b"demo" not in body


@pytest.mark.parametrize("host", ["localhost:9000", "127.0.0.1", "[::1]:8080"])
def test_a_tunnel_is_no_stranger(dashboard: int, host: str) -> None:
    assert get(dashboard, "/api/studies", Host=host, Origin=f"http://{host}")[0] == 200


def test_a_run_has_a_page_where_it_can_be_judged(storage: Path, dashboard: int) -> None:
    status, body = get(dashboard, "/run/demo/exp-1")
    assert status == 200
    assert b"step 101: divergence: cut, LR 0.3 to 0.1; better, gain +0.42" in body
    assert b'<a href="/dashboard/studies/1/trials?numbers=0">its trial</a>' in body
    assert get(dashboard, "/run/demo/none")[0] == 404
    for sent, answered in (
        ("decision=1&verdict=bad", 303),
        ("decision=7&verdict=bad", 409),
        ("decision=1&verdict=maybe", 409),
        ("x" * 5000, 409),
    ):
        assert post(dashboard, "/run/demo/exp-1", sent)[0] == answered, sent
    assert b'value="bad" disabled' in get(dashboard, "/run/demo/exp-1")[1]
    attributes = get_json(dashboard, "/api/studies/1?after=0")["user_attrs"]
    assert {a["key"]: a["value"] for a in attributes}["verdict.0"].startswith("bad, ")
    evil = {"Origin": "https://evil.example"}
    assert post(dashboard, "/run/demo/exp-1", "decision=1&verdict=good", **evil)[0] == 403


def post(port: int, path: str, body: str, **headers: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("POST", path, body, headers)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def test_it_listens_on_loopback_only(dashboard: int) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.2", dashboard))  # free, so not bound to every address


def test_ctrl_c_ends_it(storage: Path) -> None:
    with served(storage, "--port", "0", "exp-2") as (process, port, _):
        assert process.stdout is not None
        assert f":{port}/run/demo/exp-2" in process.stdout.readline()
        assert f":{port}/dashboard/studies/3" in process.stdout.readline()
        assert f":{port}/dashboard/studies/1/trials?numbers=1" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""


def called(*args: str) -> tuple[str, LRPilotError | None]:
    """What the command prints, or the error that `lrpilot` prints in one line."""
    result = CliRunner().invoke(review, args)
    if result.exception is not None:
        assert isinstance(result.exception, LRPilotError), result.exception
        return result.output, result.exception
    return result.output, None


def test_links_without_serving(storage: Path) -> None:
    output, _ = called("--storage", str(storage), "--no-serve")
    assert output.splitlines() == [
        "demo/exp-1, tracking at step 101: http://127.0.0.1:8080/run/demo/exp-1",
        "demo/exp-1 in Optuna, with its picture and its probes: "
        "http://127.0.0.1:8080/dashboard/studies/2",
        "demo/exp-1 decision 1: cut at step 100, improved, gain +0.42: "
        "http://127.0.0.1:8080/dashboard/studies/1/trials?numbers=0",
        "demo/exp-2, tracking at step 101: http://127.0.0.1:8080/run/demo/exp-2",
        "demo/exp-2 in Optuna, with its picture and its probes: "
        "http://127.0.0.1:8080/dashboard/studies/3",
        "demo/exp-2 decision 1: cut at step 100, rolled_back, gain -1.00: "
        "http://127.0.0.1:8080/dashboard/studies/1/trials?numbers=1",
    ]


@pytest.mark.parametrize("run", ["exp-2", "demo/exp-2"])
def test_links_of_one_run(run: str, storage: Path) -> None:
    output, _ = called("--storage", str(storage), "--no-serve", "--port", "9", run)
    _run, page, line = output.splitlines()
    assert page.endswith("http://127.0.0.1:9/dashboard/studies/3")
    assert line.endswith("http://127.0.0.1:9/dashboard/studies/1/trials?numbers=1")


def test_beside_a_daemon_that_writes(storage: Path) -> None:
    with TrialsFile(storage / "optuna.db").sole_writer(0):
        output, _ = called("--storage", str(storage), "--no-serve")
    assert len(output.splitlines()) == 6


def test_a_run_without_decisions(storage: Path) -> None:
    _, error = called("--storage", str(storage), "--no-serve", "exp-9")
    assert "'exp-9'" in str(error)
    assert "demo/exp-1, demo/exp-2" in str(error)


def test_no_storage(tmp_path: Path) -> None:
    _, error = called("--storage", str(tmp_path / "none"))
    assert str(tmp_path / "none") in str(error)
    assert "--storage" in str(error)
    assert not (tmp_path / "none").exists()


def test_nothing_to_review(tmp_path: Path) -> None:
    SqlJournal.open(tmp_path / "journal.db").close()
    _, error = called("--storage", str(tmp_path))
    assert "nothing to review" in str(error)
    assert "cuts an LR" in str(error)


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "optuna.db").write_bytes(b"something else" * 100)
    _, error = called("--storage", str(tmp_path))
    assert "is not a database" in str(error)
    assert "rebuilt" in str(error)


def test_a_port_in_use(storage: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        _, error = called("--storage", str(storage), "--port", str(port))
    assert f"--port {port}" in str(error)
    assert "in use" in str(error)


def test_links_need_a_port(storage: Path) -> None:
    _, error = called("--storage", str(storage), "--no-serve", "--port", "0")
    assert "--port 0" in str(error)


@pytest.mark.parametrize("missing", ["optuna", "optuna_dashboard"])
def test_a_dashboard_that_is_not_installed(
    missing: str, storage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    _, error = called("--storage", str(storage), "--port", "0")
    assert "pip install 'lrpilot[controller]'" in str(error)


def test_there_is_no_host_option(storage: Path) -> None:
    result = CliRunner().invoke(review, ["--storage", str(storage), "--host", "0.0.0.0"])
    assert result.exit_code == 2
    assert "No such option" in result.output
