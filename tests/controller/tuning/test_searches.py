"""What searches found and tried, as a reviewer finds it and as the next run is told it."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from lrpilot_controller.core.events import Decided, PriorAnswered
from lrpilot_controller.core.findings import SearchEnd
from lrpilot_controller.core.model import Action, Decision
from lrpilot_controller.core.search.horizon import main_plan
from lrpilot_controller.core.telemetry import Samples
from lrpilot_controller.journal import SqlJournal
from lrpilot_controller.journal.thinning import thin
from lrpilot_controller.tuning.dashboard import Review
from lrpilot_controller.tuning.recorder import TrialRecorder
from support.journaled_runs import ATTEMPT, FOUND, Searching, Trial

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
    assert about["progress"] == [0.0316, 30, 0.2, 1.3, 1.4]
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


@pytest.mark.parametrize(
    ("validations", "value", "measure"),
    [({250: 0.8, 499: 0.75}, 0.75, "validation"), ({}, 0.5, "train")],
)
def test_a_run_whose_telemetry_was_thinned_has_its_final_loss_in_a_new_file_as_well(
    validations: dict[int, float],
    value: float,
    measure: str,
    searching: Searching,
    journal: SqlJournal,
    told: Callable[[str], list[Trial]],
) -> None:
    searching.ended()
    searching.train([2.0] + [0.5] * 300, validations)
    searching.run.goodbye()
    key = searching.run.key
    held = [r for r in journal.records(key) if isinstance(r.event, Samples)]
    for one in thin(held, {}):
        journal.thin(key, one.first, one.last, one.thinned)
    assert not any(record.whole for record in journal.telemetry(key))
    (trial,) = told("demo/runs")
    assert trial.state is TrialState.COMPLETE
    assert trial.value == pytest.approx(value, abs=0.2)
    assert trial.user_attrs["measure"] == measure


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
