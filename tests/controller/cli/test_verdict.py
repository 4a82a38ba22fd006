"""`lrpilot verdict`: of a run that is over, with a daemon and without one."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import URL

import lrpilot_controller.cli as command
from lrpilot_controller.core.events import Decided, SaidGoodbye, SessionOpened
from lrpilot_controller.core.model import Action, Attempt, Decision, DecisionStatus, ParamGroup
from lrpilot_controller.errors import LRPilotError, NoDaemon, NotFound, NotNow
from lrpilot_controller.journal import RunKey, SqlJournal
from lrpilot_controller.storage import Storage
from lrpilot_controller.tuning.dashboard import Review
from support.daemon import Daemon
from support.streams import Quadratic, events_of
from support.studies import our_studies


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    """One that is not started; in its storage is a run that is over, with one decision."""
    with tempfile.TemporaryDirectory(prefix="lrp") as folder:
        made = Daemon(Path(folder))
        journal = SqlJournal.open(made.storage / "journal.db")
        attempt = Attempt("only", (ParamGroup("0", 0.3),), 1e-5, 0.3)
        decision = Decision(1, Action.STOP, "eh", 10, 0, stop=True, status=DecisionStatus.SENT)
        said = [SessionOpened(attempt), Decided(decision), SaidGoodbye("only", 1, "finished", 20)]
        journal.append([(RunKey("demo", "run"), 1.0, event) for event in said])
        journal.close()
        yield made
        made.kill()


def lrpilot(*args: str | Path | int) -> Result:
    return CliRunner().invoke(command.cli, [str(arg) for arg in args])


def judged(daemon: Daemon) -> Any:
    shown = lrpilot("show", "run", "--json", "--storage", daemon.storage)
    return json.loads(shown.output)["decisions"][0]["verdict"]


def test_without_a_daemon_it_is_written_into_the_journal(daemon: Daemon) -> None:
    here = ("--storage", daemon.storage)
    assert judged(daemon) is None
    result = lrpilot("verdict", "run", "1", "bad", *here, "--who", "ann", "--why", "too soon")
    assert result.exit_code == 0, result.exception
    assert "decision 1 of run demo/run is judged bad" in result.output
    assert judged(daemon) == "bad"
    assert "judged bad by ann: too soon" in lrpilot("show", "run", *here).output
    assert lrpilot("verdict", "run", "1", "good", *here).exit_code == 0
    assert judged(daemon) == "good"
    unknown = lrpilot("verdict", "run", 2**64, "good", *here)
    assert isinstance(unknown.exception, NotNow)
    assert f"run run has no decision {2**64}" in str(unknown.exception)


@pytest.mark.parametrize(("run", "decision"), [("run", 7), ("none", 1)])
def test_a_verdict_that_is_refused_leaves_the_journal_as_it_is(
    run: str, decision: int, daemon: Daemon
) -> None:
    def generation() -> int:
        with closing(SqlJournal.open(daemon.storage / "journal.db", readonly=True)) as journal:
            return journal.generation

    before = generation()
    refused = lrpilot("verdict", run, decision, "good", "--storage", daemon.storage)
    assert isinstance(refused.exception, NotNow | NotFound)
    assert generation() == before


def test_a_daemon_takes_it_for_a_run_that_is_over(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon.start()
    monkeypatch.setenv("LRPILOT_ADDRESS", daemon.address)
    result = lrpilot("verdict", "demo/run", "1", "good")
    assert result.exit_code == 0, result.exception
    assert judged(daemon) == "good"
    unknown = lrpilot("verdict", "run", "7", "good")
    assert isinstance(unknown.exception, NotNow)
    assert "run demo/run has no decision 7 (its decisions: 1 to 1)" in str(unknown.exception)


@pytest.mark.parametrize(
    ("args", "kind", "said"),
    [
        (("run", "2", "bad"), NotNow, "run demo/run has no decision 2"),
        (("other", "1", "bad"), NotFound, "no run 'other' in this journal"),
    ],
)
def test_what_is_not_there_cannot_be_judged(
    daemon: Daemon, args: tuple[str, ...], kind: type[LRPilotError], said: str
) -> None:
    result = lrpilot("verdict", *args, "--storage", daemon.storage)
    assert isinstance(result.exception, kind)
    assert said in str(result.exception)


def test_a_daemon_elsewhere_that_does_not_answer_is_not_replaced_by_the_files_here(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LRPILOT_ADDRESS", daemon.address)
    assert isinstance(lrpilot("verdict", "run", "1", "bad").exception, NoDaemon)
    assert judged(daemon) is None


def test_a_run_in_a_database_is_reviewed_judged_and_reported(
    postgres_url: URL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    here = ("--storage", postgres_url.render_as_string(hide_password=False))
    run = Quadratic(edge=0.05)
    run.run(300)
    journal = SqlJournal.open(postgres_url)
    journal.append([(RunKey("demo", "run"), 1.0, event) for event in events_of(run)])
    journal.close()
    shown = lrpilot("review", "run", *here, "--no-serve")
    assert shown.exit_code == 0, shown.exception
    assert "/run/demo/run" in shown.output
    assert "/dashboard/studies/1/trials?numbers=0" in shown.output
    result = lrpilot("verdict", "run", "1", "bad", *here)
    assert result.exit_code == 0, result.exception
    report = lrpilot("report", "run", "-o", tmp_path / "r.html", *here)
    assert report.exit_code == 0, report.exception
    assert "judged bad" in (tmp_path / "r.html").read_text(encoding="utf-8")
    lrpilot("review", *here, "--no-serve")
    with Review.open(Storage.of(postgres_url)) as trials:
        attributes = our_studies(trials._storage)[0].user_attrs
    assert attributes["verdict.0"].startswith("bad")
