"""The `lrpilot` command on a journal: `runs` and `show`, for a person and for a script."""

import json
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import lrpilot_controller.cli as command
from lrpilot_controller.core.events import (
    Decided,
    Event,
    Noticed,
    ProgramEnded,
    ReceiptArrived,
    SaidGoodbye,
    SearchEnded,
    SessionLost,
    SessionOpened,
)
from lrpilot_controller.core.findings import Candidate, SearchEnd, SearchResult, Sweep
from lrpilot_controller.core.model import Action, Decision, DecisionStatus, Mode, Receipt
from lrpilot_controller.core.plans import Plan, Program, Segment, Shape
from lrpilot_controller.errors import NotFound
from lrpilot_controller.journal import RunKey, SqlJournal
from lrpilot_controller.version import VERSION
from support.streams import ATTEMPT, Quadratic, Trainer, descent, events_of

RUNS_KEYS = ["run", "state", "mode", "attempts", "step", "lrs"]
SHOW_KEYS = [*RUNS_KEYS, "telemetry", "signals", "decisions", "cost"]
DECISION_KEYS = [
    *("id", "status", "step", "action", "reason", "signal"),
    *("lrs_before", "lrs_after", "applied_step", "outcome", "who", "verdict"),
]

Lrpilot = Callable[..., Result]


def record(storage: Path, runs: dict[str, Sequence[Event]]) -> None:
    journal = SqlJournal.open(storage / "journal.db")
    for name, events in runs.items():
        key = RunKey(*name.split("/"))
        journal.append([(key, float(n), event) for n, event in enumerate(events)])
    journal.close()


@pytest.fixture
def rescued() -> Quadratic:
    """A run that blew up at once, was rolled back, and then went well."""
    run = Quadratic(edge=0.05)
    run.run(300)
    return run


@pytest.fixture
def storage(tmp_path: Path, rescued: Quadratic) -> Path:
    path = tmp_path / "storage"
    quiet = Trainer(replace(ATTEMPT, mode=Mode.OBSERVE))
    quiet.train(descent(50))
    events = events_of(rescued)
    record(
        path,
        {
            "demo/exp-1": [*events, SaidGoodbye("t1", 99, "finished", rescued.step)],
            "demo/exp-2": [*events_of(quiet), SessionLost("t1")],
            "other/exp-1": events_of(quiet),
        },
    )
    return path


@pytest.fixture
def lrpilot(storage: Path) -> Lrpilot:
    def run(*args: str) -> Result:
        return CliRunner().invoke(command.cli, [*args, "--storage", str(storage)])

    return run


def said(result: Result) -> str:
    assert result.exit_code == 0, result.output
    return result.output


def refused(result: Result) -> str:
    assert isinstance(result.exception, NotFound), result.output
    return str(result.exception)


# -- runs


def test_runs_lists_every_run_with_the_first_six_keys(lrpilot: Lrpilot, rescued: Quadratic) -> None:
    listed = json.loads(said(lrpilot("runs", "--json")))
    assert [list(run) for run in listed] == [RUNS_KEYS] * 3
    assert [run["run"] for run in listed] == ["demo/exp-1", "demo/exp-2", "other/exp-1"]
    assert [run["state"] for run in listed] == ["finished", "lost", "tracking"]
    assert [run["mode"] for run in listed] == ["auto", "observe", "observe"]
    assert [run["step"] for run in listed] == [300, 50, 50]
    assert listed[0]["lrs"] == [pytest.approx(rescued.lr)]
    assert listed[1]["lrs"] == [0.1]


def test_runs_of_one_project(lrpilot: Lrpilot) -> None:
    listed = json.loads(said(lrpilot("runs", "--json", "--project", "other")))
    assert [run["run"] for run in listed] == ["other/exp-1"]
    assert json.loads(said(lrpilot("runs", "--json", "--project", "nobody"))) == []


def test_runs_as_a_table(lrpilot: Lrpilot) -> None:
    text = said(lrpilot("runs"))
    for word in ("demo/exp-1", "other/exp-1", "finished", "lost", "tracking", "observe", "0.0333"):
        assert word in text


# -- show


def test_show_has_the_keys_of_the_contract(lrpilot: Lrpilot, rescued: Quadratic) -> None:
    told = json.loads(said(lrpilot("show", "demo/exp-1", "--json")))
    assert list(told)[: len(SHOW_KEYS)] == SHOW_KEYS
    assert told["telemetry"] == {"received": 300, "dropped": 0}
    assert list(told["cost"]) == ["probe_steps", "rolled_back_steps", "wait_seconds"]
    (decision,) = told["decisions"]
    assert list(decision) == DECISION_KEYS
    (made,) = rescued.decisions
    assert decision["id"] == made.id == 1
    assert decision["status"] == "applied"
    assert decision["action"] == "rollback"
    assert decision["signal"] == "divergence"
    assert decision["reason"] == made.reason
    assert decision["lrs_before"] == [0.1]
    assert decision["lrs_after"] == [pytest.approx(0.1 / 3)]
    assert decision["applied_step"] == made.step + rescued.delay + 1
    assert decision["outcome"]["verdict"] == "improved"
    assert told["cost"]["rolled_back_steps"] == decision["applied_step"]  # to the start state
    assert told["signals"][0]["kind"] == "divergence"


def test_the_cost_is_what_the_engine_counted(storage: Path, lrpilot: Lrpilot) -> None:
    run = Quadratic(edge=1e-3)
    run.run(400)
    assert run.engine.view is not None
    assert run.engine.view.rollbacks > 2
    record(storage, {"demo/hard": events_of(run)})
    told = json.loads(said(lrpilot("show", "hard", "--json")))
    assert told["cost"]["rolled_back_steps"] == run.engine.view.rolled_back_steps <= run.step


def test_show_for_a_person(lrpilot: Lrpilot, rescued: Quadratic) -> None:
    text = said(lrpilot("show", "demo/exp-1"))
    assert text.startswith("demo/exp-1: finished, mode auto, step 300, LR 0.03333\n")
    (decision,) = rescued.decisions
    for part in (
        "300 losses recorded, 0 dropped, 1 attempt\n",
        "train loss of demo/exp-1",
        "learning rate",
        "rolled back",
        decision.reason,
        f"1. step {decision.step}: rollback [applied]",
        "LR 0.1 -> 0.03333",
        "outcome after 50 steps: improved",
        "steps rolled back",
    ):
        assert part in text


def test_the_pictures_are_drawn(lrpilot: Lrpilot) -> None:
    # Braille for the curves, dots for what a rollback left.
    text = said(lrpilot("show", "demo/exp-1"))
    assert sum("\u2800" < character <= "\u28ff" for character in text) > 50
    assert all(len(line) <= 160 for line in text.splitlines())


def test_show_without_a_finite_loss_draws_nothing(storage: Path, lrpilot: Lrpilot) -> None:
    trainer = Trainer()
    trainer.train([float("nan")] * 3)
    record(storage, {"demo/nan": events_of(trainer), "demo/empty": events_of(Trainer())})
    text = said(lrpilot("show", "nan"))
    assert "train loss of" not in text
    assert "nonfinite" in text
    assert "3 losses recorded" in text
    assert "0 losses recorded" in said(lrpilot("show", "empty"))
    # NaN is no JSON: a strict reader takes the output all the same.
    json.loads(said(lrpilot("show", "nan", "--json")), parse_constant=pytest.fail)


def test_show_tells_notices_and_refusals(storage: Path, lrpilot: Lrpilot) -> None:
    run = Quadratic(edge=0.0, attempt=replace(ATTEMPT, total_steps=100))
    run.run(400)
    notice = Noticed("t1", 500, "foreign_lr", 12, "something else writes the LR")
    record(storage, {"demo/hard": [*events_of(run), notice]})
    text = said(lrpilot("show", "hard"))
    assert "notice at step 12 (foreign_lr): something else writes the LR" in text
    assert "limits.max_rolled_back_fraction" in text
    assert run.decisions[-1].action is Action.STOP
    assert text.startswith("demo/hard: stopped, ")


@pytest.mark.parametrize(
    ("steps", "state"), [(30, "probation"), (300, "tracking")], ids=["early", "late"]
)
def test_state_words(storage: Path, lrpilot: Lrpilot, steps: int, state: str) -> None:
    run = Quadratic(edge=0.05)
    run.run(steps)
    record(storage, {"demo/now": events_of(run)})
    assert json.loads(said(lrpilot("show", "now", "--json")))["state"] == state


# -- searches


def program(number: int, phase: str, lr: float, share: float = 0.0) -> list[Event]:
    """A program, from its decision to its result."""
    segments = (Segment(Shape.CONSTANT, 0, 30, lr, lr),)
    made = Program(number, segments, 30, Plan.scale(1.0, 0), phase=phase, lr=lr, share=share)
    receipt = Receipt(number, DecisionStatus.APPLIED, 0, 0, 0, (0.1,), (lr,))
    return [
        Decided(Decision(number, Action.PROGRAM, "why", 0, 0, program=made)),
        ReceiptArrived("t1", 2 * number, receipt),
        ProgramEnded("t1", 2 * number + 1, number, 0, (1.0,) * 30, "length", 0),
    ]


PROBES = [
    *program(1, "range test", 1e-6),
    *program(2, "ladder", 0.01),
    *program(3, "ladder", 0.0316, 0.46),
    *program(4, "ladder", 0.1, 0.5),
]


def test_show_tells_how_far_a_search_is(storage: Path, lrpilot: Lrpilot) -> None:
    record(storage, {"demo/now": [SessionOpened(ATTEMPT), *PROBES[:9]]})
    text = said(lrpilot("show", "now"))
    assert text.startswith("demo/now: searching, ")
    assert "\nsearch: ladder, LR 0.0316, 46 % of its budget\n" in text


def test_show_draws_what_a_search_found(storage: Path, lrpilot: Lrpilot) -> None:
    lrs = tuple(10 ** (-6 + k / 4) for k in range(28))
    sweep = Sweep(lrs, tuple(2.3 if lr < 1e-3 else 1.0 if lr < 0.3 else math.inf for lr in lrs))
    tried = (Candidate(0.01, 0.9, 30), Candidate(0.0316, 0.4, 30), Candidate(0.1, math.inf, 8))
    reason = "0.0316 won of 3 LRs"
    found = SearchResult(SearchEnd.FOUND, 0.03, 120, reason, 2.3, tried, sweep)
    record(storage, {"demo/found": [SessionOpened(ATTEMPT), *PROBES, SearchEnded("t1", found)]})
    text = said(lrpilot("show", "found"))
    for part in (
        "search: found, LR 0.03 after 120 steps: 0.0316 won of 3 LRs",
        "LR 0.0316: 0.4 (30 steps)",
        "LR 0.1: diverged (8 steps)",
        "loss against learning rate",
        "line: range test, x: tried, |: chosen, 0.03",
        "1e-06",
        "\n  1. step 0: search, range test: 1 program at LR 1e-06, 30 steps\n",
        "\n  2-4. step 0: search, ladder: 3 programs at LR 0.01 to 0.1, 90 steps\n",
    ):
        assert part in text
    assert "of its budget" not in text
    assert all(len(line) <= 160 for line in text.splitlines())
    told = json.loads(said(lrpilot("show", "found", "--json")))
    assert len(told["decisions"]) == 4
    assert told["search"]["end"] == "found"
    assert told["search"]["candidates"][2]["score"] == "Infinity"


def test_show_draws_nothing_for_a_search_that_tried_nothing(
    storage: Path, lrpilot: Lrpilot
) -> None:
    ended = SearchResult(SearchEnd.FELL_BACK, 0.1, 0, "no word within 250 ms")
    record(storage, {"demo/back": [SessionOpened(ATTEMPT), SearchEnded("t1", ended)]})
    text = said(lrpilot("show", "back"))
    assert "search: fell back, LR 0.1 after 0 steps: no word within 250 ms" in text
    assert "loss against learning rate" not in text


# -- which run is meant


def test_a_unique_name_is_enough(lrpilot: Lrpilot) -> None:
    assert json.loads(said(lrpilot("show", "exp-2", "--json")))["run"] == "demo/exp-2"


def test_a_name_in_two_projects_is_not(lrpilot: Lrpilot) -> None:
    message = refused(lrpilot("show", "exp-1"))
    assert "demo/exp-1, other/exp-1" in message


def test_an_unknown_run_suggests_names(lrpilot: Lrpilot) -> None:
    assert "did you mean demo/exp-2" in refused(lrpilot("show", "demo/exp2"))
    assert "`lrpilot runs` lists all" in refused(lrpilot("show", "zzzzzzzz"))


@pytest.mark.parametrize("args", [["runs"], ["runs", "--json"], ["show", "x"]])
def test_no_journal(tmp_path: Path, args: list[str]) -> None:
    result = CliRunner().invoke(command.cli, [*args, "--storage", str(tmp_path / "none")])
    message = refused(result)
    assert str(tmp_path / "none" / "journal.db") in message
    assert "--storage" in message
    assert not (tmp_path / "none").exists()  # reading makes nothing


def test_the_default_storage_is_the_users_own(
    storage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "state").mkdir()
    storage.rename(tmp_path / "state" / "lrpilot")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    result = CliRunner().invoke(command.cli, ["runs", "--json"])
    assert len(json.loads(said(result))) == 3


def test_a_long_name_is_whole_in_a_pipe(tmp_path: Path) -> None:
    name = "a-sweep-over-" + "everything-" * 10
    journal = SqlJournal.open(tmp_path / "journal.db")
    journal.append([(RunKey("demo", name), 0.0, SessionOpened(ATTEMPT))])
    journal.close()
    assert f"demo/{name} " in said(
        CliRunner().invoke(command.cli, ["runs", "--storage", str(tmp_path)])
    )


def test_without_a_home_directory_it_says_what_to_set(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def nowhere() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", nowhere)
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setattr(sys, "argv", ["lrpilot", "runs"])
    with pytest.raises(SystemExit) as ended:
        command.main()
    assert ended.value.code == 1
    said = capsys.readouterr().err
    assert said.startswith("lrpilot: uid ")
    assert "XDG_STATE_HOME" in said


# -- the command itself


def test_every_command_is_there() -> None:
    text = said(CliRunner().invoke(command.cli, ["--help"]))
    for name, line in command.COMMANDS.items():
        assert name in text
        assert line[:40] in text
        assert said(CliRunner().invoke(command.cli, [name, "--help"]))


def test_an_unknown_command_is_a_usage_error() -> None:
    result = CliRunner().invoke(command.cli, ["fly"])
    assert result.exit_code == 2
    assert "No such command 'fly'" in result.output


def test_the_version() -> None:
    assert said(CliRunner().invoke(command.cli, ["--version"])).strip().endswith(VERSION)


def test_an_error_of_ours_is_one_line_and_exit_status_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["lrpilot", "runs", "--storage", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        command.main()
    assert ended.value.code == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("lrpilot: no journal at ")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("args", "part"),
    [
        (["--listen", "0.0.0.0:1"], "TCP needs TLS and a token"),
        (
            ["--storage", "mysql://me:secret@host/db"],
            "--storage mysql://...: a directory, or postgresql",
        ),
        (["--config", "nowhere.toml"], "nowhere.toml: cannot be read"),
    ],
)
def test_serve_refuses_what_cannot_be_before_it_starts(args: list[str], part: str) -> None:
    result = CliRunner().invoke(command.cli, ["serve", *args])
    assert result.exit_code == 1
    assert part in str(result.exception)
