"""What searches found and tried, as a reviewer finds it and as the next run is told it."""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from lrpilot_controller.core.events import (
    Decided,
    PriorAnswered,
    ProgramEnded,
    SearchEnded,
    SessionOpened,
)
from lrpilot_controller.core.findings import Candidate, SearchEnd, SearchResult
from lrpilot_controller.core.model import Action, Attempt, Decision, ParamGroup
from lrpilot_controller.core.plans import Plan, Program, Segment, Shape
from lrpilot_controller.core.search.horizon import main_plan
from lrpilot_controller.core.telemetry import Samples
from lrpilot_controller.journal import RunKey, SqlJournal
from lrpilot_controller.storage import Storage
from lrpilot_controller.tuning.dashboard import Review
from lrpilot_controller.tuning.forgetting import forget
from lrpilot_controller.tuning.priors import JobPriors
from lrpilot_controller.tuning.recorder import TrialRecorder, reconcile

Trial = optuna.trial.FrozenTrial
StudiesOf = Callable[[Path], dict[str, list[Trial]]]

ATTEMPT = Attempt(
    "first",
    (ParamGroup("0", 0.1),),
    1e-7,
    1e3,
    optimizer="AdamW",
    search=True,
    total_steps=1000,
    job="mlp/AdamW/64",
    client_version="1.2.3",
)
FOUND = SearchResult(
    SearchEnd.FOUND,
    0.03,
    120,
    "0.0316 won of 3 LRs",
    2.3,
    (Candidate(0.01, 1.2, 30), Candidate(0.0316, 0.9, 30), Candidate(0.1, math.inf, 8)),
)


class Searching:
    """A run whose search is journaled as the daemon does it."""

    def __init__(self, run: Any, attempt: Attempt = ATTEMPT) -> None:
        self.run = run
        self.seq = 1
        self.decided = 0
        self.open(attempt)

    def open(self, attempt: Attempt) -> None:
        self.attempt = attempt
        self.run.attempt = attempt.id
        self.seq = 1
        self.run.add(SessionOpened(attempt))

    def probe(
        self, lr: float, losses: tuple[float, ...], stop: str = "length", phase: str = "ladder"
    ) -> None:
        self.decided += 1
        segments = (Segment(Shape.CONSTANT, 0, 30, lr, lr),)
        program = Program(self.decided, segments, 30, Plan.scale(1.0, 0), phase=phase, lr=lr)
        self.run.add(
            Decided(Decision(self.decided, Action.PROGRAM, "why", 0, 0, program=program)),
            ProgramEnded(self.attempt.id, self.decided, self.decided, 0, losses, stop, 1),
        )

    def ladder(self) -> None:
        self.probe(0.0, (2.3, 2.3), phase="reference")
        self.probe(0.01, (2.0, 1.5))
        self.probe(0.01, (1.4, 1.3, 1.2, 1.2))
        self.probe(0.0316, (2.0, 1.0))
        self.probe(0.0316, (0.9, 0.9))
        self.probe(0.1, (2.0, 50.0), "loss_cap")

    def ended(self, result: SearchResult = FOUND) -> None:
        self.run.add(SearchEnded(self.attempt.id, result))

    def train(
        self, losses: list[float], validations: dict[int, float] | None = None, first: int = 200
    ) -> None:
        rows = [(first + k, loss, False) for k, loss in enumerate(losses)]
        rows += [(step, loss, True) for step, loss in (validations or {}).items()]
        rows.sort()
        none = (0,) * len(rows)
        self.run.add(
            Samples(
                attempt=self.attempt.id,
                first_seq=self.seq,
                validation=tuple(row[2] for row in rows),
                step=tuple(row[0] for row in rows),
                branch=none,
                program=none,
                loss=tuple(row[1] for row in rows),
                lrs=((0.03,),),
            )
        )
        self.seq += len(rows)


@pytest.fixture
def told(
    storage: Path, journal: SqlJournal, database: Path, studies_of: StudiesOf
) -> Callable[[str], list[Trial]]:
    """The trials of one study, once everything is written."""

    def read(study: str) -> list[Trial]:
        reconcile(storage, journal)
        return studies_of(database).get(study, [])

    return read


@pytest.fixture
def searching(new_run: Callable[[str], Any]) -> Searching:
    return Searching(new_run("exp-1"))


# -- whole runs


def test_a_run_that_found_an_lr_is_a_trial_until_it_ends(
    searching: Searching, told: Callable[[str], list[Trial]]
) -> None:
    searching.ladder()
    searching.ended()
    (trial,) = told("demo/runs")
    assert trial.state is TrialState.RUNNING
    assert trial.params == {"lr": 0.03}
    assert trial.distributions["lr"].log
    searching.train([1.0] * 100, {250: 0.8, 299: 0.75})
    searching.run.goodbye()
    (trial,) = told("demo/runs")
    assert trial.state is TrialState.COMPLETE
    assert trial.value == 0.75
    assert trial.intermediate_values == {250: 0.8, 299: 0.75}
    about = trial.user_attrs
    assert (about["run"], about["attempt"]) == ("demo/exp-1", "first")
    assert (about["job"], about["optimizer"]) == ("mlp/AdamW/64", "AdamW")
    assert (about["total_steps"], about["end"], about["steps"]) == (1000, "found", 120)
    assert (about["reference"], about["measure"]) == (2.3, "validation")
    assert about["client_version"] == "1.2.3"
    assert about["outcome"] == "finished"


def test_without_a_validation_the_value_is_the_smoothed_train_loss(
    searching: Searching, told: Callable[[str], list[Trial]]
) -> None:
    searching.ended()
    searching.train([2.0, math.nan] + [0.5] * 300)
    searching.run.goodbye()
    (trial,) = told("demo/runs")
    assert trial.value == pytest.approx(0.5, abs=0.01)
    assert trial.user_attrs["measure"] == "train"


def test_what_was_lost_before_the_lr_was_found_is_no_part_of_its_value(
    searching: Searching, told: Callable[[str], list[Trial]]
) -> None:
    searching.train([9.0] * 50, {9: 9.0}, first=0)
    searching.ended()
    searching.train([0.5] * 300)
    searching.run.goodbye()
    assert told("demo/runs")[0].value == pytest.approx(0.5)


def test_a_resumed_attempt_goes_on_with_its_run(
    searching: Searching, told: Callable[[str], list[Trial]]
) -> None:
    searching.ended()
    searching.train([1.0] * 10)
    searching.run.lose()
    searching.open(replace(ATTEMPT, id="second", resumes="first", start_step=205))
    searching.train([0.5] * 300, {400: 0.25})
    searching.run.goodbye()
    (trial,) = told("demo/runs")
    assert (trial.state, trial.value) == (TrialState.COMPLETE, 0.25)
    assert trial.user_attrs["attempt"] == "first"


@pytest.mark.parametrize("end", ["lost", "error", "non_finite", "again"])
def test_a_run_without_a_final_loss_fails(
    end: str, searching: Searching, told: Callable[[str], list[Trial]]
) -> None:
    searching.ended()
    searching.train([1.0])
    if end == "lost":
        searching.run.lose(at=0.0)
    elif end == "error":
        searching.run.goodbye("error")
    elif end == "non_finite":
        searching.train([1.0], {300: math.nan}, first=300)
        searching.run.goodbye()
    else:
        searching.open(replace(ATTEMPT, id="second"))
    (trial,) = told("demo/runs")
    assert trial.state is TrialState.FAIL
    assert trial.user_attrs["outcome"] == {"again": "lost"}.get(end, end)


def test_a_second_search_takes_the_run_over_from_the_first(
    searching: Searching, told: Callable[[str], list[Trial]]
) -> None:
    searching.ended()
    searching.ended(replace(FOUND, lr=0.01))
    searching.train([0.5] * 10)
    searching.run.goodbye()
    first, second = told("demo/runs")
    assert (first.state, first.user_attrs["outcome"]) == (TrialState.FAIL, "searched_again")
    assert (second.state, second.params["lr"]) == (TrialState.COMPLETE, 0.01)


@pytest.mark.parametrize("end", [SearchEnd.DECLINED, SearchEnd.FELL_BACK, SearchEnd.ABANDONED])
def test_a_run_whose_search_found_nothing_is_a_trial_at_its_own_lr_once_it_is_over(
    end: SearchEnd, searching: Searching, told: Callable[[str], list[Trial]]
) -> None:
    searching.ended(replace(FOUND, end=end))
    searching.train([0.5] * 10)
    assert told("demo/runs") == []
    searching.run.goodbye()
    (trial,) = told("demo/runs")
    assert (trial.params["lr"], trial.user_attrs["end"]) == (0.1, end.value)
    assert trial.value == pytest.approx(0.5)


def test_a_run_that_never_searched_is_a_trial_too(
    new_run: Callable[[str], Any], told: Callable[[str], list[Trial]]
) -> None:
    watched = Searching(new_run("exp-1"), replace(ATTEMPT, search=False, scheduled=True))
    watched.train([2.0] * 10, {205: 1.5, 209: 1.2})
    watched.open(replace(ATTEMPT, id="second", resumes="first", search=False))
    watched.train([1.0] * 10, {219: 0.8}, first=210)
    watched.run.goodbye()
    (trial,) = told("demo/runs")
    assert trial.state is TrialState.COMPLETE
    assert (trial.value, trial.intermediate_values) == (0.8, {205: 1.5, 209: 1.2, 219: 0.8})
    about = trial.user_attrs
    assert (about["end"], about["base_lr"], about["scheduled"]) == ("native", 0.1, True)
    assert (about["attempt"], about["measure"], "prior" in about) == ("first", "validation", False)


def test_one_that_ends_otherwise_failed(
    new_run: Callable[[str], Any], told: Callable[[str], list[Trial]]
) -> None:
    broken = Searching(new_run("exp-1"), replace(ATTEMPT, search=False))
    broken.open(replace(ATTEMPT, id="second", search=False))
    broken.run.goodbye("error")
    first, second = told("demo/runs")
    assert [first.user_attrs["outcome"], second.user_attrs["outcome"]] == ["lost", "error"]
    assert {first.state, second.state} == {TrialState.FAIL}


def test_a_trial_says_what_the_run_began_with_was_told_and_went_on_with(
    searching: Searching, told: Callable[[str], list[Trial]]
) -> None:
    searching.run.add(PriorAnswered("first", 0.5, "an earlier run"))
    plan = main_plan(0.03, 120, 1000)
    searching.run.add(Decided(Decision(9, Action.PLAN, "why", 120, 0, plan=plan)))
    searching.ended()
    (trial,) = told("demo/runs")
    about = trial.user_attrs
    assert (about["base_lr"], about["prior"], trial.params["lr"]) == (0.1, 0.5, 0.03)
    assert about["plan"] == (
        "replace: constant 0.03 to 0.03 from step 120, linear 0.03 to 0 from step 648, "
        "constant 0.0015 to 0.0015 from step 1000"
    )


def test_everything_is_written_once(
    searching: Searching, told: Callable[[str], list[Trial]]
) -> None:
    searching.ladder()
    searching.ended()
    searching.train([0.5] * 10)
    searching.run.goodbye()
    for _ in range(3):
        assert len(told("demo/runs")) == 1
        assert len(told("demo/probes/exp-1")) == 3


def test_decisions_and_searches_do_not_mix(
    searching: Searching, told: Callable[[str], list[Trial]]
) -> None:
    searching.ladder()
    searching.ended()
    searching.run.decide(90)
    assert len(told("demo/interventions/divergence/adam")) == 1
    assert len(told("demo/runs")) == 1


def test_a_reviewer_finds_what_a_search_found_and_each_decision_but_not_each_probe(
    searching: Searching, told: Callable[[str], list[Trial]], storage: Path
) -> None:
    searching.ladder()
    searching.ended()
    searching.run.decide(90)
    told("")
    with Review.open(storage) as review:
        links = review.links()
    assert [(link.decision, link.action, link.lr) for link in links] == [
        (0, "picture", None),
        (0, "search", 0.03),
        (90, "rollback", None),
    ]
    assert len({(link.study, link.number) for link in links}) == 3


# -- the ladder


def test_each_lr_of_the_ladder_is_a_trial_with_its_score(
    searching: Searching, told: Callable[[str], list[Trial]]
) -> None:
    searching.ladder()
    assert told("demo/probes/exp-1") == []  # not while the search goes on
    searching.ended()
    low, best, high = told("demo/probes/exp-1")
    assert [t.params["lr"] for t in (low, best, high)] == [0.01, 0.0316, 0.1]
    assert (low.state, low.value) == (TrialState.COMPLETE, 1.2)
    assert (best.state, best.value) == (TrialState.COMPLETE, 0.9)
    assert high.state is TrialState.FAIL
    assert high.user_attrs["diverged"] is True
    assert low.intermediate_values == {0: 2.0, 1: 1.5, 2: 1.4, 3: 1.3, 4: 1.2, 5: 1.2}
    assert low.user_attrs["programs"] == [2, 3]
    assert low.user_attrs["steps"] == 6


def test_a_ladder_without_a_conclusion_is_scored_by_its_last_losses(
    searching: Searching, told: Callable[[str], list[Trial]]
) -> None:
    searching.ladder()
    searching.run.goodbye("stopped")
    low, best, high = told("demo/probes/exp-1")
    assert [low.value, best.value] == [1.2, 0.9]
    assert high.user_attrs["diverged"] is True


def test_a_long_program_has_twenty_points(
    searching: Searching, told: Callable[[str], list[Trial]]
) -> None:
    searching.probe(0.01, tuple(1 / (k + 1) for k in range(300)))
    searching.ended(replace(FOUND, candidates=()))
    (trial,) = told("demo/probes/exp-1")
    assert len(trial.intermediate_values) == 20
    assert {0, 299} <= set(trial.intermediate_values)


def test_what_was_interrupted_is_told_by_its_second_try(
    searching: Searching, told: Callable[[str], list[Trial]]
) -> None:
    searching.probe(0.01, (2.0, 1.9), "interrupted")
    searching.probe(0.01, (2.0, 1.0))
    searching.probe(0.1, (2.0,), "interrupted")
    searching.run.goodbye("stopped")
    tried, left = told("demo/probes/exp-1")
    assert (tried.value, tried.user_attrs["steps"]) == (1.0, 2)
    assert (left.state, left.user_attrs["outcome"]) == (TrialState.FAIL, "interrupted")


def test_a_search_under_way_does_not_wake_the_recorder(
    searching: Searching, recording: Callable[..., TrialRecorder]
) -> None:
    put: list[object] = []
    recorder = recording()
    recorder._queue = type("Queue", (), {"put": lambda _, run: put.append(run)})()  # type: ignore[assignment]
    searching.run.listener = recorder.record
    searching.ladder()
    searching.run.receipt(searching.decided)  # a program is answered before the next one is sent
    assert put == []
    searching.ended()
    assert put == [searching.run.key]


# -- what the next run is told


@pytest.fixture
def priors(storage: Path, told: Callable[[str], list[Trial]]) -> Iterator[Callable[..., Any]]:
    """Brings the trials up to the journal, then asks."""
    opened: list[JobPriors] = []

    def ask(**change: Any) -> tuple[float | None, str]:
        told("")
        if not opened:
            opened.append(JobPriors(storage))
        attempt = replace(ATTEMPT, id="now", **change)
        answer = opened[0].ask(RunKey("demo", "new"), attempt).result(30)
        assert isinstance(answer, PriorAnswered)
        assert answer.attempt == "now"
        return answer.lr, answer.reason

    yield ask
    for each in opened:
        each.close(10)


@pytest.fixture
def past(new_run: Callable[[str], Any]) -> Callable[..., None]:
    """A run that found an LR, and ended at a loss."""
    names = iter(f"past-{k}" for k in range(100))

    def make(lr: float, loss: float, told: float | None = None, **change: Any) -> None:
        searching = Searching(new_run(next(names)), replace(ATTEMPT, **change))
        if told is not None:
            searching.run.add(PriorAnswered("first", told, "an earlier run"))
        searching.ended(replace(FOUND, lr=lr))
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
    assert priors.deadline_s == 0.2  # there is nothing to load
    searching.ended()
    told("demo/runs")
    assert priors.deadline_s == 2.0
    assert priors.ask(RunKey("demo", "new"), ATTEMPT).result(30).lr is None
    assert priors.deadline_s == 0.2
    priors.close(10)


def test_a_question_that_nobody_waits_for_any_more_is_dropped(storage: Path) -> None:
    priors = JobPriors(storage)
    answer = priors.ask(RunKey("demo", "new"), ATTEMPT)
    answer.cancel()
    assert priors.ask(RunKey("demo", "new"), ATTEMPT).result(30).lr is None
    priors.close(10)
    priors.close(10)
