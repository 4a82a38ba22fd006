"""What earlier interventions say: from the trials of a project, to a question of a run."""

import logging
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from lrpilot_controller.core.events import Answered, Commanded
from lrpilot_controller.core.model import Attempt, ParamGroup, Question, SignalKind
from lrpilot_controller.journal import Journal, RunKey
from lrpilot_controller.tuning import advisor as advising
from lrpilot_controller.tuning import studies
from lrpilot_controller.tuning.advisor import InterventionAdvisor, earned, seed_of
from lrpilot_controller.tuning.places import TrialsUnavailable
from lrpilot_controller.tuning.reading import TrialReader
from lrpilot_controller.tuning.recorder import reconcile
from lrpilot_controller.tuning.samplers import Past, Range, Sampler

from .conftest import Run

NEXT = RunKey("demo", "next")
ATTEMPT = Attempt("t1", (ParamGroup("all", 0.1),), 1e-5, 0.1, optimizer="AdamW")
QUESTION = Question(1, SignalKind.DIVERGENCE, 1 / 3, 1 / 9, 0.9)
STUDY = "demo/interventions/divergence/adam"


@pytest.fixture
def advisor(storage: Path) -> Iterator[InterventionAdvisor]:
    made = InterventionAdvisor(storage)
    yield made
    made.close(10)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[list[Past]]:
    """What the sampler is shown; it says twice the rule, or the top of the range."""
    shown: list[list[Past]] = []

    def propose(sampler: Sampler, within: Range, past: list[Past], seed: int) -> float:
        shown.append(list(past))
        return min(2 * within.rule, within.high)

    monkeypatch.setattr(advising, "propose", propose)
    return shown


def ask(advisor: InterventionAdvisor, question: Question = QUESTION) -> Answered:
    return advisor.advise(NEXT, ATTEMPT, question).result(20)


def intervene(run: Run, number: int, factor: float, gain: float | None, rule: float | None) -> None:
    run.decide(number, factor=factor, rule=rule)
    run.receipt(number)
    if gain is not None:
        run.outcome(number, gain=gain)


def test_a_project_without_a_past_leaves_it_to_the_rule(advisor: InterventionAdvisor) -> None:
    answer = ask(advisor)
    assert answer.factor == pytest.approx(1 / 3)
    assert answer.reason == f"quadratic on 0 earlier interventions of {STUDY}"


def test_it_learns_from_first_cuts_that_were_measured_by_their_ratio_to_the_rule(
    advisor: InterventionAdvisor, storage: Path, journal: Journal, run: Run, seen: list[list[Past]]
) -> None:
    intervene(run, 1, 0.25, 0.4, rule=0.5)
    intervene(run, 2, 0.1, 0.9, rule=None)  # the deeper cut, after one in vain
    intervene(run, 3, 1 / 3, None, rule=1 / 3)  # still on probation
    reconcile(storage, journal)
    assert ask(advisor).factor == pytest.approx(2 / 3)
    assert seen == [[Past(pytest.approx(1 / 6), 0.4)]]


def test_each_signal_and_optimizer_family_has_a_past_of_its_own(
    advisor: InterventionAdvisor,
    storage: Path,
    journal: Journal,
    new_run: Callable[[str], Run],
    seen: list[list[Past]],
) -> None:
    for name, optimizer, kind in [
        ("a", "SGD", SignalKind.DIVERGENCE),
        ("b", "AdamW", SignalKind.NONFINITE),
        ("c", "Adam", SignalKind.DIVERGENCE),
    ]:
        run = new_run(name)
        run.open(optimizer=optimizer)
        run.decide(1, factor=0.3, rule=1 / 3, kind=kind)
        run.receipt(1)
        run.outcome(1, gain=0.1)
    reconcile(storage, journal)
    ask(advisor)
    assert seen == [[Past(pytest.approx(0.3), 0.1)]]


def test_what_a_person_said_of_a_decision_counts(
    advisor: InterventionAdvisor, storage: Path, journal: Journal, run: Run, seen: list[list[Past]]
) -> None:
    intervene(run, 1, 0.3, 0.4, rule=1 / 3)
    run.add(Commanded("verdict", "ann", "it never recovered", decision_id=1, good=False))
    reconcile(storage, journal)
    ask(advisor)
    assert seen == [[Past(pytest.approx(0.3), -0.5)]]


def test_a_study_that_rolled_over_is_read_on_with_the_part_before_it(
    advisor: InterventionAdvisor,
    storage: Path,
    journal: Journal,
    run: Run,
    seen: list[list[Past]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(studies, "TRIALS_PER_STUDY", 2)
    for number in range(1, 6):
        intervene(run, number, 0.1 + number / 100, number / 10, rule=1 / 3)
    reconcile(storage, journal)
    ask(advisor)
    assert [past.gain for past in seen[0]] == pytest.approx([0.3, 0.4, 0.5])


def test_the_same_question_on_the_same_past_has_the_same_answer(
    advisor: InterventionAdvisor, storage: Path, journal: Journal, run: Run
) -> None:
    for number in range(1, 9):
        intervene(run, number, 0.1 + number / 20, number / 10, rule=1 / 3)
    reconcile(storage, journal)
    once, again = ask(advisor), ask(advisor)
    assert once == again
    assert ask(advisor, replace(QUESTION, id=2)).factor != once.factor
    assert seed_of(NEXT, ATTEMPT, QUESTION) < 2**32


def test_trials_that_cannot_be_read_fail_the_answer_and_are_told_once(
    advisor: InterventionAdvisor,
    storage: Path,
    database: Path,
    journal: Journal,
    run: Run,
    caplog: pytest.LogCaptureFixture,
) -> None:
    intervene(run, 1, 0.3, 0.4, rule=1 / 3)
    reconcile(storage, journal)
    good = database.read_bytes()
    database.write_bytes(b"no database" * 1000)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            with pytest.raises(TrialsUnavailable, match="not a database"):
                ask(advisor)
    assert len(caplog.messages) == 1
    assert "factors are the rule's until this is mended" in caplog.messages[0]
    shutil.copy(database, database.with_suffix(".bad"))
    database.unlink()
    database.write_bytes(good)
    assert "1 earlier" in ask(advisor).reason


def test_a_sampler_that_raises_fails_the_answer_alone(
    advisor: InterventionAdvisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> float:
        raise ZeroDivisionError("a bug")

    with monkeypatch.context() as patched:
        patched.setattr(advising, "propose", broken)
        with pytest.raises(TrialsUnavailable, match="ZeroDivisionError: a bug"):
            ask(advisor)
    assert ask(advisor).factor == pytest.approx(1 / 3)


def test_a_sampler_that_hangs_delays_no_question_that_was_given_up(
    advisor: InterventionAdvisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on, calls = threading.Event(), list[int]()

    def slow(*_: object) -> float:
        calls.append(1)
        go_on.wait(20)
        return 0.5

    monkeypatch.setattr(advising, "propose", slow)
    first = advisor.advise(NEXT, ATTEMPT, QUESTION)
    given_up = advisor.advise(NEXT, ATTEMPT, replace(QUESTION, id=2))
    assert given_up.cancel()
    go_on.set()
    assert first.result(20).factor == 0.5
    assert ask(advisor, replace(QUESTION, id=3)).factor == 0.5
    assert len(calls) == 2


def test_a_reader_sees_what_was_written_since(storage: Path, journal: Journal, run: Run) -> None:
    reader = TrialReader(storage)
    assert reader.newest(STUDY) == []
    for number in (1, 2):
        intervene(run, number, 0.3, 0.4, rule=1 / 3)
        reconcile(storage, journal)
        assert len(earned(reader.newest(STUDY), 1 / 3)) == number
    reader.close()
