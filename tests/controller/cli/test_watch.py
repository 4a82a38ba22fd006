"""`lrpilot watch`, against a daemon, for a script and on a real terminal."""

import json
import math
import os
import signal
import subprocess
import tempfile
import threading
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from lrpilot_controller.cli.board import sparkline
from lrpilot_controller.cli.screen import Pace
from lrpilot_controller.journal import RunKey, SqlJournal
from lrpilot_controller.server.watching import MAX_WATCHERS
from lrpilot_proto.v1 import operator_pb2, operator_pb2_grpc, session_pb2
from support.daemon import COMMAND, Daemon, cli, environment, until
from support.peer import Line, hello, session, telemetry
from support.streams import Quadratic, events_of
from support.terminal import terminal

ABLE = session_pb2.Capabilities(snapshot=True, stop=True)


@contextmanager
def started() -> Iterator[Daemon]:
    with tempfile.TemporaryDirectory(prefix="lrp") as folder:
        made = Daemon(Path(folder))
        made.start()
        yield made
        made.kill()


@pytest.fixture(scope="module")
def shared() -> Iterator[Daemon]:
    with started() as made:
        yield made


@pytest.fixture
def daemon(shared: Daemon, monkeypatch: pytest.MonkeyPatch) -> Daemon:
    """One that several tests use, each with a run of its own."""
    monkeypatch.setenv("LRPILOT_ADDRESS", shared.address)
    return shared


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    """One that a test may kill, or whose runs it counts."""
    with started() as made:
        monkeypatch.setenv("LRPILOT_ADDRESS", made.address)
        yield made


@pytest.fixture
def run(request: pytest.FixtureRequest) -> str:
    """The test's own run."""
    return f"r{zlib.crc32(request.node.name.encode()):08x}"


@contextmanager
def training(daemon: Daemon, run: str, losses: int = 60) -> Iterator[Line]:
    """A run that has trained for a while."""
    with session(daemon.address, hello(run, capabilities=ABLE)) as line:
        first = session_pb2.SnapshotTaken(id=1, step=0, proven=True)
        line.say(session_pb2.Report(report_seq=1, before_seq=1, snapshot=first))
        line.say(telemetry(1, [2.0 - 0.01 * (i % 50) for i in range(losses)]))
        line.hear_ack(losses)
        yield line


class Lines:
    """`lrpilot watch` into a pipe."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [*COMMAND, "watch", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment() | _address(),
        )

    def news(self) -> dict[str, Any]:
        """The next line; it fails rather than wait for ever."""
        assert self.process.stdout is not None
        alarm = threading.Timer(40, self.process.kill)
        alarm.start()
        line = self.process.stdout.readline()
        alarm.cancel()
        assert line, self.process.stderr and self.process.stderr.read()
        told = json.loads(line)
        assert isinstance(told, dict)
        return told

    def until(self, **wanted: Any) -> dict[str, Any]:
        """The first line with these values."""
        while True:
            told = self.news()
            if all(told[key] == value for key, value in wanted.items()):
                return told

    def interrupt(self) -> tuple[int, str]:
        """Ctrl-C; the exit status, and what was said beside the lines."""
        self.process.send_signal(signal.SIGINT)
        _, said = self.process.communicate(timeout=20)
        return self.process.returncode, said


def _address() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if k in ("LRPILOT_ADDRESS", "XDG_RUNTIME_DIR")}


@contextmanager
def lines(*arguments: str) -> Iterator[Lines]:
    made = Lines(*arguments)
    try:
        yield made
    finally:
        made.process.kill()
        made.process.communicate()


def on_terminal(*arguments: str, columns: int = 80, rows: int = 24) -> Any:
    return terminal([*COMMAND, "watch", *arguments], columns, rows)


# -- for a script


def test_a_run_is_one_line_of_json_per_change(daemon: Daemon, run: str) -> None:
    with training(daemon, run) as line, lines(run) as watch:
        told = watch.news()
        assert (told["run"], told["state"], told["step"]) == (f"default/{run}", "tracking", 60)
        line.say(telemetry(61, [1.5] * 5))
        assert watch.until(step=65)["loss"] == 1.5
        assert watch.interrupt() == (0, "")


def test_a_watched_story_has_the_keys_and_values_of_the_shown_one(daemon: Daemon, run: str) -> None:
    with training(daemon, run) as line:
        line.say(telemetry(61, [math.nan] * 3))
        line.hear_ack(63)
        with lines(run) as watch:
            told = watch.until(step=63)
    shown = daemon.story(run)
    assert set(shown) <= set(told)
    same = set(shown) - {"state", "notices"}
    assert {key: told[key] for key in same} == {key: shown[key] for key in same}
    assert told["signals"]
    assert told["decisions"]


def test_all_runs_are_lines_and_only_those_that_change(own: Daemon) -> None:
    with training(own, "exp-1"), training(own, "exp-2") as line, lines() as watch:
        assert {watch.news()["run"], watch.news()["run"]} == {"default/exp-1", "default/exp-2"}
        line.say(telemetry(61, [1.5]))
        told = watch.news()
        assert (told["run"], told["step"]) == ("default/exp-2", 61)
        assert list(told) == ["run", "state", "mode", "attempts", "step", "lrs"]


def test_a_reader_that_leaves_ends_it_quietly(daemon: Daemon, run: str) -> None:
    with training(daemon, run) as line, lines(run) as watch:
        watch.news()
        assert watch.process.stdout is not None
        watch.process.stdout.close()
        line.say(telemetry(61, [1.5] * 5))
        watch.process.stdout = None
        _, said = watch.process.communicate(timeout=20)
        assert said == ""


def test_a_daemon_that_restarts_is_waited_for(own: Daemon) -> None:
    with training(own, "exp-1"), lines("exp-1") as watch:
        watch.news()
        own.kill()
        assert watch.process.stderr is not None
        assert "no daemon answers" in watch.process.stderr.readline()
        own.start()
        assert watch.until(state="lost")["step"] == 60
        assert watch.interrupt()[0] == 0


def test_without_a_daemon_the_journal_is_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LRPILOT_ADDRESS", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    trainer = Quadratic(edge=1.0)
    trainer.run(50)
    events = events_of(trainer)
    journal = SqlJournal.open(tmp_path / "journal.db")
    key = RunKey("demo", "exp-1")
    journal.append([(key, 0.0, event) for event in events[:30]])
    with lines("exp-1", "--storage", str(tmp_path)) as watch:
        before = watch.news()["step"]
        journal.append([(key, 0.0, event) for event in events[30:]])
        assert watch.until(step=50)["step"] > before
        status, said = watch.interrupt()
    assert (status, "from the journal" in said) == (0, True)
    with lines("--storage", str(tmp_path)) as watch:
        assert watch.news()["run"] == "demo/exp-1"
    journal.close()


def test_a_run_that_is_not_there_is_an_error(daemon: Daemon, run: str) -> None:
    with training(daemon, run):
        done = cli("watch", f"{run}0", env=environment(LRPILOT_ADDRESS=daemon.address))
    assert (done.returncode, done.stdout) == (1, "")
    assert "did you mean" in done.stderr


def test_no_daemon_and_no_journal_is_an_error(tmp_path: Path) -> None:
    env = environment(LRPILOT_ADDRESS=f"unix:{tmp_path}/none.sock")
    done = cli("watch", "exp-1", env=env)
    assert done.returncode == 1
    assert "no daemon answers" in done.stderr
    env = environment(XDG_RUNTIME_DIR=tmp_path, XDG_STATE_HOME=tmp_path)
    done = cli("watch", env=env)
    assert done.returncode == 1
    assert "no journal" in done.stderr


# -- on a terminal


@pytest.mark.parametrize(("columns", "rows"), [(80, 24), (140, 40)])
def test_a_person_sees_curves_signals_and_decisions(
    daemon: Daemon, run: str, columns: int, rows: int
) -> None:
    with training(daemon, run) as line, on_terminal(run, columns=columns, rows=rows) as screen:
        first = screen.see("Ctrl-C ends")
        for part in (
            f"default/{run}  ● tracking",
            "step 60",
            "train loss 1.91",
            "learning rate 0.1",
        ):
            assert part in first
        assert sum("\u2800" < character <= "\u28ff" for character in first) > 20
        line.say(telemetry(61, [math.nan] * 3))
        seen = screen.see("rollback sent")
        assert "! nonfinite" in seen
        assert screen.lines[-1].endswith("Ctrl-C ends")
        assert screen.interrupt() == 0
        assert screen.see(f"default/{run}: tracking, step 63")


def test_the_search_and_its_progress_are_seen(daemon: Daemon, run: str) -> None:
    able = session_pb2.Capabilities(snapshot=True, program=True, replay=True)
    greeting = hello(run, capabilities=able, search=True, max_lr=1e3, total_steps=5000)
    with session(daemon.address, greeting) as line:
        taken = session_pb2.SnapshotTaken(id=1, proven=True)
        line.say(session_pb2.Report(report_seq=1, snapshot=taken))
        while (message := line.hear()).WhichOneof("body") != "decision":
            pass
        apply(line, message.decision.id)
        with on_terminal(run, columns=100) as screen:
            seen = screen.see("searching")
            assert "search: reference, LR 0" in seen
            assert "0 % of its budget" in seen


def apply(line: Line, decision: int) -> None:
    """The receipt of a decision, once the daemon has it."""
    receipt = operator_pb2.DecisionStory().receipt
    receipt.decision_id, receipt.status, receipt.applied_step = decision, 4, 0
    receipt.lrs_before.append(0.1)
    receipt.lrs_after.append(0.1)
    line.say(session_pb2.Report(report_seq=2, receipt=receipt))
    while line.hear().acked_report < 2:
        pass


@pytest.mark.slow
@pytest.mark.parametrize(("columns", "rows"), [(20, 3), (30, 8), (50, 14), (300, 60)])
def test_every_size_of_terminal_is_filled_and_not_more(
    daemon: Daemon, run: str, columns: int, rows: int
) -> None:
    with training(daemon, run), on_terminal(run, columns=columns, rows=rows) as screen:
        screen.see("default/r")
        assert all(len(line) <= columns for line in screen.lines)
        assert "Traceback" not in "\n".join(screen.lines)
        assert screen.interrupt() == 0


def test_a_terminal_that_changes_its_size_is_drawn_anew(daemon: Daemon, run: str) -> None:
    with training(daemon, run), on_terminal(run) as screen:
        screen.see("what happened ─")
        screen.resize(140, 40)
        screen.see(lambda text: _beside(text, "train loss", "what happened"))


def _beside(text: str, *parts: str) -> bool:
    return any(all(part in line for part in parts) for line in text.splitlines())


def test_a_person_sees_that_the_daemon_is_gone_and_back(own: Daemon) -> None:
    with training(own, "exp-1"), on_terminal("exp-1") as screen:
        screen.see("tracking")
        own.kill()
        screen.see("no daemon answers")
        own.start()
        screen.see(lambda text: "lost" in text and "no daemon answers" not in text)
        assert screen.interrupt() == 0


@pytest.mark.parametrize("columns", [100, 50])
def test_all_runs_are_a_table(own: Daemon, columns: int) -> None:
    with on_terminal(columns=columns) as screen:
        screen.see("no runs yet")
        with training(own, "exp-1"), training(own, "exp-2") as line:
            seen = screen.see("default/exp-2")
            assert _beside(seen, "exp-1", "tracking", "60", "0.1")
            line.say(telemetry(61, [1.5]))
            screen.see(lambda text: _beside(text, "exp-2", "61", "1.5"))
        seen = screen.see("lost")
        assert ("▁" in seen) is (columns == 100)
        assert screen.interrupt() == 0


def test_more_runs_than_rows_are_counted(own: Daemon) -> None:
    for n in range(5):
        with training(own, f"exp-{n}", losses=1):
            pass
    with on_terminal(rows=6) as screen:
        screen.see("2 more; a taller terminal shows them")


# -- what it is drawn from


def test_a_pace_is_counted_over_the_last_seconds() -> None:
    pace = Pace()
    pace.take(100, 0.0)
    assert pace.steps_per_second is None
    for second in range(1, 60):
        pace.take(100 + 10 * second, float(second))
    assert pace.steps_per_second == pytest.approx(10)
    for second in range(60, 90):
        pace.take(690 + 2 * (second - 59), float(second))
    assert pace.steps_per_second == pytest.approx(2)
    pace.take(0, 91.0)  # another attempt
    assert pace.steps_per_second is None


def test_a_small_curve_is_bars_and_says_what_is_not_finite() -> None:
    assert sparkline([1.0, 2.0, 3.0], 20) == "▁▅█"
    assert sparkline([1.0] * 3, 20) == "▁▁▁"
    assert sparkline([1.0, math.nan, 3.0], 20) == "▁·█"
    assert sparkline([math.inf], 20) == "·"
    assert sparkline([], 20) == ""
    assert sparkline([float(i) for i in range(100)], 4) == "▁▃▆█"


# -- what it costs the daemon


def test_a_watcher_that_never_reads_costs_nothing(own: Daemon) -> None:
    request = operator_pb2.WatchRunRequest(run="exp-1")
    with training(own, "exp-1") as line, stub_of(own) as deaf, stub_of(own) as other:
        calls = [deaf.WatchRun(request) for _ in range(4)]  # nobody reads what they bring
        for seq in range(61, 2061, 20):
            line.say(telemetry(seq, [1.5] * 20))
            line.hear_ack(seq + 19)
        newest = other.WatchRun(request, timeout=30)
        assert any(story.summary.step == 2060 for story in newest)
        assert own.terminate(10) == 0
        for call in calls:
            call.cancel()
        assert "Traceback" not in own.log


@contextmanager
def stub_of(daemon: Daemon) -> Iterator[Any]:
    """The Operator service through a connection of its own."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(daemon.address, options=options) as channel:
        yield operator_pb2_grpc.OperatorServiceStub(channel)  # type: ignore[no-untyped-call]


def test_watchers_that_are_gone_make_room(own: Daemon) -> None:
    request = operator_pb2.WatchRunRequest(run="exp-1")
    with training(own, "exp-1"), ExitStack() as stack:
        # A connection has eight calls.
        stubs = [stack.enter_context(stub_of(own)) for _ in range(MAX_WATCHERS // 8 + 1)]
        calls = [stubs[n // 8].WatchRun(request) for n in range(MAX_WATCHERS)]
        for call in calls[::2]:
            next(call)  # the others never read
        until(lambda: _refused(stubs[-1], request), what="the last of them")
        for call in calls:
            call.cancel()
        until(lambda: not _refused(stubs[-1], request), what="room")


def _refused(stub: Any, request: operator_pb2.WatchRunRequest) -> bool:
    call = stub.WatchRun(request)
    try:
        next(call)
    except grpc.RpcError as error:
        return error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    call.cancel()
    return False


def test_the_daemon_tells_how_it_stands(own: Daemon) -> None:
    with training(own, "exp-1"), stub_of(own) as stub:
        told = stub.Status(operator_pb2.StatusRequest())
        assert (told.generation, told.sessions) == (1, 1)
        assert told.version
        assert told.uptime_seconds > 0
        assert told.journal_bytes >= (own.storage / "journal.db").stat().st_size
