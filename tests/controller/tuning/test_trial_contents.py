"""What a trial of a decision holds: its range, evidence, probation and note."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest

from lrpilot_controller.core.model import DecisionStatus
from lrpilot_controller.journal import SqlJournal
from lrpilot_controller.tuning.recorder import reconcile
from support.journaled_runs import Trials, applied


def test_the_range_is_around_the_rule_and_holds_the_factor(
    run: Any, journal: SqlJournal, storage: Path, trials: Trials
) -> None:
    expected = [(1 / 3, 1 / 9, 1.0), (0.1, 0.1, 1.0), (2.5, 1 / 9, 2.5)]
    for number, (factor, *_) in enumerate(expected, 1):
        applied(run, number, factor=factor)
    reconcile(storage, journal)
    for trial, (factor, low, high) in zip(trials(), expected, strict=True):
        range_ = trial.distributions["factor"]
        assert isinstance(range_, optuna.distributions.FloatDistribution)
        assert range_.log
        assert (range_.low, range_.high) == (pytest.approx(low), pytest.approx(high))
        assert trial.params["factor"] == pytest.approx(factor)


def test_a_factor_that_no_range_can_hold_is_left_out(
    run: Any, journal: SqlJournal, storage: Path, trials: Trials
) -> None:
    for number, factor in enumerate([0.0, float("nan"), -1.0], 1):
        applied(run, number, factor=factor)
    reconcile(storage, journal)
    assert [trial.params for trial in trials()] == [{}, {}, {}]


def test_evidence_that_json_cannot_hold_is_text(
    run: Any, journal: SqlJournal, storage: Path, trials: Trials
) -> None:
    run.decide(1, evidence={"loss": float("nan"), "rise": float("inf")})
    reconcile(storage, journal)
    attributes = trials()[0].user_attrs
    assert (attributes["evidence.loss"], attributes["evidence.rise"]) == ("nan", "inf")
    json.dumps(attributes, allow_nan=False)


def test_the_probation_is_the_smoothed_loss_of_the_new_branch(
    run: Any, journal: SqlJournal, storage: Path, trials: Trials
) -> None:
    run.decide(1)
    run.losses(95, [99.0] * 5, branch=0)
    run.receipt(1)
    run.losses(100, [99.0] * 2, branch=0)
    run.losses(102, [2.0] * 30)
    run.losses(132, [float("nan"), *[1.0] * 30])
    run.outcome(1)
    run.losses(170, [99.0] * 5)
    run.decide(2)
    run.receipt(2)
    run.losses(202, [3.0, 3.0, 3.0])
    run.outcome(2)
    reconcile(storage, journal)
    assert trials()[1].intermediate_values == {0: 3.0, 1: 3.0, 2: 3.0}
    curve = trials()[0].intermediate_values
    assert len(curve) == 10
    assert (min(curve), max(curve)) == (0, 60)
    assert curve[0] == 2.0
    assert curve[60] == pytest.approx(1 + 0.9**30)


def test_the_note_is_a_log_entry(
    run: Any, journal: SqlJournal, storage: Path, note: Callable[[int], str]
) -> None:
    run.snapshot(40)
    applied(run, evidence={"rise": 4.5, "a|b": 2.0})
    run.outcome(1, gain=0.4)
    reconcile(storage, journal)
    assert (
        note(0)
        == """\
### Step 100: divergence, rolled back and cut the LR

**Seen.** `divergence` at step 100, which began at step 93, severity 0.8 of 1.

| evidence | value |
| --- | ---: |
| `rise` | 4.5 |
| `a\\|b` | 2 |

**Done.** Applied at step 102, from snapshot 3 (branch 1): LR 0.1 to 0.03333 (x0.333). \
Reason: `the loss rose at step 100`

**What came of it.** The loss got better in 50 steps of probation, gain +0.40. \
The smoothed loss went from 1.25 to 0.75.

**Cost.** 62 steps were undone; training waited 0.01 s.

**Was it right?** `lrpilot verdict demo/exp-1 1 good` (or `bad`) says so, and later runs learn \
from it.

**Look further.** `lrpilot show demo/exp-1` prints the run with all its decisions; \
this is its decision 1.

**[The picture of the run](/dashboard/studies/2)**"""
    )


def test_the_newest_trials_have_notes_and_what_was_never_done_takes_few_of_them(
    run: Any,
    journal: SqlJournal,
    storage: Path,
    note: Callable[[int], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("lrpilot_controller.tuning.shown.NOTES_PER_STUDY", 3)
    monkeypatch.setattr("lrpilot_controller.tuning.shown.SHADOWS_NOTED", 1)
    done = [True, True, False, False, True]
    for number, carried_out in enumerate(done, 1):
        run.decide(number, status=DecisionStatus.SENT if carried_out else DecisionStatus.SHADOW)
    reconcile(storage, journal)
    assert [bool(note(number)) for number in range(5)] == [False, True, False, True, True]
