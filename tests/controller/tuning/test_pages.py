"""A run's page in the dashboard, and the bounds of what a study holds beside its trials."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna_dashboard import get_note
from optuna_dashboard._custom_plot_data import get_plotly_graph_objects
from sqlalchemy import event

from lrpilot_controller.core.model import Action, SignalKind
from lrpilot_controller.journal import Journal
from lrpilot_controller.tuning import copying, recorder
from lrpilot_controller.tuning.dashboard import Review
from lrpilot_controller.tuning.recorder import TrialRecorder, reconcile

Opened = Callable[[Path], list[optuna.Study]]
Study = Callable[[str], optuna.Study]
Until = Callable[[Callable[[], object]], None]
PAGE = "demo/probes/exp-1"


@pytest.fixture
def study(database: Path, studies_opened: Opened) -> Study:
    """A study by its name, as the dashboard reads it."""
    return lambda name: next(s for s in studies_opened(database) if s.study_name == name)


def attributes(study: optuna.Study) -> dict[str, Any]:
    """What the dashboard reads whole."""
    return study._storage.get_study_system_attrs(study._study_id)


def picture(study: optuna.Study) -> Any:
    """The one picture of a study."""
    (text,) = get_plotly_graph_objects(attributes(study)).values()
    return json.loads(text)


def decided(run: Any, number: int) -> None:
    run.decide(number)
    run.receipt(number)
    run.outcome(number)


def test_a_page_has_the_picture_the_story_and_what_to_filter_by(
    run: Any, journal: Journal, storage: Path, study: Study
) -> None:
    run.losses(1, [1.0 / step for step in range(1, 60)])
    decided(run, 1)
    run.goodbye()
    reconcile(storage, journal)
    page = study(PAGE)
    assert {trace["name"] for trace in picture(page)["data"]} >= {"loss", "smoothed", "decision"}
    assert "### demo/exp-1: finished at step" in get_note(page)
    assert "Step 100: divergence, rolled back and cut the LR" in get_note(page)
    about = page.user_attrs
    assert about["run"] == "demo/exp-1"
    assert (about["state"], about["decisions_applied"]) == ("finished", 1)


def test_a_page_is_drawn_again_when_the_run_has_more_to_tell_and_at_no_other_time(
    run: Any, journal: Journal, storage: Path, study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[int] = []
    draw = copying.page_of
    monkeypatch.setattr(copying, "page_of", lambda *a: drawn.append(1) or draw(*a))
    decided(run, 1)
    run.goodbye()
    reconcile(storage, journal)
    reconcile(storage, journal)
    assert len(drawn) == 1
    run.open("second")
    decided(run, 2)
    run.lose()
    reconcile(storage, journal)
    assert len(drawn) == 2
    assert study(PAGE).user_attrs["state"] == "lost"


def test_a_daemon_draws_at_the_first_decision_and_at_the_end(
    run: Any,
    journal: Journal,
    storage: Path,
    study: Study,
    database: Path,
    recording: Callable[..., TrialRecorder],
    until: Until,
    studies_opened: Opened,
) -> None:
    recorder = recording()
    run.listener = recorder.record
    recorder.start(journal)
    decided(run, 1)

    def state() -> Any:
        pages = [s for s in studies_opened(database) if s.study_name == PAGE]
        return pages and pages[0].user_attrs.get("state")

    until(lambda: database.is_file() and state() == "tracking")
    run.lose()
    until(lambda: state() == "lost")


def test_a_study_has_60_notes_and_a_megabyte_at_most(
    new_run: Any, journal: Journal, storage: Path, study: Study
) -> None:
    evidence = {f"evidence {i} " + "of very many " * 20: 1.0 / 3 for i in range(20)}
    for i in range(16):
        run = new_run(f"exp-{i}")
        run.open()
        run.losses(1, [float(step % 7) for step in range(3000)])
        for number in range(1, 6):
            run.decide(number, Action.ROLLBACK, evidence=evidence, kind=SignalKind.DIVERGENCE)
            run.receipt(number, detail="word " * 200)
            run.outcome(number)
        run.goodbye()
    reconcile(storage, journal)
    decisions = study("demo/interventions/divergence/adam")
    assert len(decisions.get_trials()) == 80
    held = attributes(decisions)
    notes = [key for key, value in held.items() if key.endswith(":note_str:0") and value]
    assert len(notes) == 60  # the study's own is one of them
    assert len(json.dumps(held)) < 1_000_000
    page = study("demo/probes/exp-0")
    assert len(json.dumps(attributes(page))) < 60_000


def test_links_are_found_without_reading_a_page(
    storage: Path, journal: Journal, new_run: Callable[[str], Any]
) -> None:
    """However many runs there are, it takes as many questions, and none for pictures and notes."""
    asked: list[str] = []

    def links(*names: str) -> int:
        for name in names:
            one = new_run(name)
            one.open()
            one.decide(1)
            one.goodbye()
        reconcile(storage, journal)
        with Review.open(storage) as review:
            event.listen(review._engine, "before_cursor_execute", lambda *of: asked.append(of[2]))
            asked.clear()
            found = review.links()
        assert not [statement for statement in asked if "study_system_attributes" in statement]
        return len(found)

    assert links("a") == 3  # its page, what was found of it as a whole, and its decision
    few = len(asked)
    assert links("b", "c", "d", "e") == 15
    assert len(asked) == few


def test_the_trials_of_all_runs_are_written_before_a_page_is_drawn(
    journal: Journal,
    new_run: Callable[[str], Any],
    recording: Callable[..., TrialRecorder],
    trials: Callable[[], list[Any]],
    until: Callable[[Callable[[], object]], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The next run of a job asks for what this one found, and for no picture of it."""
    written: list[int] = []
    show = copying.show

    def showing(*args: Any) -> None:
        written.append(len(trials()))
        show(*args)

    monkeypatch.setattr(copying, "show", showing)
    for name in ("a", "b", "c"):
        one = new_run(name)
        one.open()
        one.decide(1)
        one.goodbye()
    recording().start(journal)
    until(lambda: len(written) == 3)
    assert written == [3, 3, 3]


def test_pages_are_drawn_though_there_is_always_something_to_write(
    journal: Journal,
    new_run: Callable[[str], Any],
    recording: Callable[..., TrialRecorder],
    until: Callable[[Callable[[], object]], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn: list[str] = []
    monkeypatch.setattr(copying, "show", lambda _, page: drawn.append(page.home.name))
    monkeypatch.setattr(recorder, "_LONGEST_REST_S", 0.2)
    keeping = recording()
    keeping.start(journal)
    quiet, busy = new_run("quiet"), new_run("busy")
    for one in (quiet, busy):
        one.listener = keeping.record
        one.open()
        one.decide(1)
    numbers = iter(range(2, 10_000))

    def is_drawn() -> bool:
        for _ in range(5):
            busy.decide(next(numbers))
        return len(drawn) >= 2

    until(is_drawn)
    assert "demo/probes/quiet" in drawn
