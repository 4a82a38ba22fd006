"""What the next run of a job is told of what earlier ones found."""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lrpilot_controller.core.events import PriorAnswered
from lrpilot_controller.core.findings import Reach
from lrpilot_controller.journal import RunKey
from lrpilot_controller.storage import Storage
from lrpilot_controller.tuning.forgetting import forget
from lrpilot_controller.tuning.priors import JobPriors
from lrpilot_controller.tuning.searches import progress_of
from lrpilot_controller.tuning.searches import told as told_as
from support.journaled_runs import ATTEMPT, FOUND, Searching, Trial


@pytest.fixture
def asked(storage: Path, told: Callable[[str], list[Trial]]) -> Iterator[Callable[..., Any]]:
    """Brings the trials up to the journal, then asks."""
    opened: list[JobPriors] = []

    def answer(**change: Any) -> PriorAnswered:
        told("")
        if not opened:
            opened.append(JobPriors(storage))
        attempt = replace(ATTEMPT, id="now", **change)
        found = opened[0].ask(RunKey("demo", "new"), attempt).result(30)
        assert isinstance(found, PriorAnswered)
        assert found.attempt == "now"
        return found

    yield answer
    for each in opened:
        each.close(10)


@pytest.fixture
def priors(asked: Callable[..., PriorAnswered]) -> Callable[..., tuple[float | None, str]]:
    """The LR and the reason alone."""

    def ask(**change: Any) -> tuple[float | None, str]:
        answer = asked(**change)
        return answer.lr, answer.reason

    return ask


@pytest.fixture
def past(new_run: Callable[[str], Any]) -> Callable[..., None]:
    """A run that found an LR, and ended at a loss."""
    names = iter(f"past-{k}" for k in range(100))

    def make(
        lr: float,
        loss: float,
        told: float | None = None,
        progress: Reach | None = FOUND.progress,
        **change: Any,
    ) -> None:
        searching = Searching(new_run(next(names)), replace(ATTEMPT, **change))
        if told is not None:
            searching.run.add(PriorAnswered("first", told, "an earlier run"))
        searching.ended(replace(FOUND, lr=lr, progress=progress))
        searching.train([loss] * 10, {209: loss})
        searching.run.goodbye()

    return make


def test_nobody_ran_this_job_before(priors: Any, past: Any) -> None:
    assert priors() == (None, "no earlier run of this job")
    past(0.03, 0.5, job="another")
    assert priors() == (None, "no earlier run of this job")


def test_what_was_found_of_a_project_can_be_forgotten(
    priors: Any, past: Any, storage: Path
) -> None:
    past(0.1, 1.0)
    past(0.2, 2.0)
    assert priors()[0] == 0.1
    assert forget(Storage(storage), "demo").runs == 2
    assert priors() == (None, "no earlier run of this job")
    past(0.3, 3.0)
    assert priors()[0] == 0.3


def test_an_unfinished_run_is_no_proof(priors: Any, searching: Searching) -> None:
    searching.ended()
    assert priors()[0] is None


def test_the_lr_of_the_only_run(priors: Any, past: Any) -> None:
    past(0.03, 0.5)
    lr, reason = priors()
    assert lr == 0.03
    assert "1 earlier run of this job (demo/past-0)" in reason


def test_the_lr_that_did_best(priors: Any, past: Any) -> None:
    for lr, loss in ((0.3, 0.9), (0.03, 0.5), (0.003, 0.7)):
        past(lr, loss)
    assert priors()[0] == 0.03


def test_of_runs_that_nobody_can_tell_apart_the_middle_one(priors: Any, past: Any) -> None:
    for lr, loss in ((0.1, 0.501), (0.03, 0.5), (0.05, 0.504), (0.9, 0.6)):
        past(lr, loss)
    assert priors()[0] == 0.05


def test_only_the_newest_twenty_count(priors: Any, past: Any) -> None:
    past(0.9, 0.1)
    for _ in range(20):
        past(0.03, 0.5)
    assert priors()[0] == 0.03


def test_a_run_that_was_told_an_lr_and_found_another_makes_all_before_it_forgotten(
    priors: Any, past: Any
) -> None:
    for _ in range(3):
        past(30.0, 0.001)
    past(0.03, 0.5, told=30.0)
    lr, reason = priors()
    assert lr == 0.03
    assert "1 earlier run of this job" in reason
    past(0.031, 0.5, told=0.03)  # nearly what it was told
    assert priors()[0] == 0.03
    past(0.2, 0.6, told=0.03)
    assert priors()[0] == 0.2


def test_the_next_run_is_told_how_far_the_programs_came_that_agree(asked: Any, past: Any) -> None:
    here, near, far = (replace(FOUND.progress, lr=lr, end=end) for lr, end in HOW_FAR)
    past(0.2, 0.9, progress=far)
    past(0.05, 0.6, progress=near)
    past(0.03, 0.5, progress=here)
    assert asked().progress == (here, near)  # a notch apart at most, the best one's first


HOW_FAR = ((0.03, 1.4), (0.05, None), (0.2, 1.0))


def test_what_measured_nothing_gives_way_to_what_did(asked: Any, past: Any) -> None:
    for _ in range(30):
        past(3.0, 1e-9, progress=None)
    assert (asked().lr, asked().progress) == (3.0, ())
    past(0.03, 0.5)
    assert (asked().lr, asked().progress) == (0.03, (FOUND.progress,))
    past(3.0, 1e-9, progress=None)
    assert asked().lr == 0.03


@pytest.mark.parametrize(
    "attribute",
    [
        None, 3, "abcde", [], [0.1, 24, 0.0, 1.0, 1.0, 1.0], [0.1, 24, 0.0], [-0.1, 24, 0.0, 1.0],
        [0.1, 1e9, 0.0, 1.0], [0.1, 2, 0.0, 1.0], [0.1, 24, "nan", 1.0], [0.1, 24, 0.0, None],
        [0.1, math.nan, 0.0, 1.0],
    ],
    ids=str,
)  # fmt: skip
def test_what_is_no_progress_is_not_taken_for_it(attribute: Any) -> None:
    assert progress_of(attribute) is None


@pytest.mark.parametrize("end", [1.5, None])
def test_progress_is_read_as_it_was_told(end: float | None) -> None:
    progress = Reach(0.1, 24, -0.2, 0.5, end)
    assert progress_of(told_as(progress)) == progress


def test_what_a_run_without_a_search_trained_at_is_not_told_on(
    priors: Any, new_run: Any, past: Any
) -> None:
    native = Searching(new_run("native"), replace(ATTEMPT, search=False))
    native.train([0.01] * 10, {209: 0.01})
    native.run.goodbye()
    assert priors() == (None, "no earlier run of this job")
    past(0.03, 0.5)
    assert priors()[0] == 0.03


@pytest.mark.parametrize(
    ("then", "usable"), [(800, True), (1250, True), (790, False), (None, False)]
)
def test_another_horizon_is_another_question(
    then: int | None, usable: bool, priors: Any, past: Any
) -> None:
    past(0.03, 0.5, total_steps=then)
    lr, reason = priors()
    assert (lr == 0.03) is usable
    if not usable:
        assert reason == f"an earlier run had another horizon: {then or 'unknown'}, now 1000"


def test_runs_without_a_horizon_are_alike(priors: Any, past: Any) -> None:
    past(0.03, 0.5, total_steps=None)
    assert priors(total_steps=None)[0] == 0.03


def test_a_validation_loss_is_not_compared_with_a_train_loss(
    priors: Any, past: Any, new_run: Any
) -> None:
    searching = Searching(new_run("without-validation"))
    searching.ended(replace(FOUND, lr=0.9))
    searching.train([0.01] * 10)
    searching.run.goodbye()
    past(0.03, 0.5)
    assert priors()[0] == 0.03


def test_a_trainer_that_does_not_say_its_job_is_told_nothing(priors: Any, past: Any) -> None:
    past(0.03, 0.5, job="")
    assert priors(job="")[0] is None


def test_the_newest_run_is_known_at_once(priors: Any, past: Any) -> None:
    past(0.3, 0.9)
    assert priors()[0] == 0.3
    past(0.03, 0.5)
    assert priors()[0] == 0.03


def test_a_file_that_is_broken_is_an_error_in_words(storage: Path, database: Path) -> None:
    storage.mkdir(parents=True)
    database.write_bytes(b"no database, whatever its name says" * 100)
    priors = JobPriors(storage)
    error = priors.ask(RunKey("demo", "new"), ATTEMPT).exception(30)
    assert "not a database" in str(error)
    priors.close(10)


def test_a_moment_is_enough_once_everything_is_loaded(
    storage: Path, searching: Searching, told: Callable[[str], list[Trial]]
) -> None:
    priors = JobPriors(storage)
    assert priors.deadline_s == 1.0  # there is nothing to load
    searching.ended()
    told("demo/runs")
    assert priors.deadline_s == 2.0
    assert priors.ask(RunKey("demo", "new"), ATTEMPT).result(30).lr is None
    assert priors.deadline_s == 1.0
    priors.close(10)


def test_a_question_that_nobody_waits_for_any_more_is_dropped(storage: Path) -> None:
    priors = JobPriors(storage)
    answer = priors.ask(RunKey("demo", "new"), ATTEMPT)
    answer.cancel()
    assert priors.ask(RunKey("demo", "new"), ATTEMPT).result(30).lr is None
    priors.close(10)
    priors.close(10)
