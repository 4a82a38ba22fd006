"""A run's records folded into its story."""

import itertools
import json
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrpilot_controller.core.events import (
    Decided,
    Event,
    Noticed,
    OutcomeMeasured,
    Refused,
    SaidGoodbye,
    SessionLost,
    SessionOpened,
    SignalSeen,
    SnapshotProven,
    SnapshotTaken,
)
from lrpilot_controller.core.model import Action, Attempt, DecisionStatus, Mode, RunState
from lrpilot_controller.journal import MemoryJournal
from lrpilot_controller.story import Summary, tell
from support.told import (
    GROUPS,
    OPENED,
    OUTCOME,
    ROLLBACK,
    RUN,
    SIGNAL,
    arrived,
    receipt,
    samples,
    story,
)


def test_nothing_yet() -> None:
    told = story()
    assert told.state is RunState.TRACKING
    assert Summary.of(told).to_json() == {
        "run": "demo/exp-1",
        "state": "tracking",
        "mode": None,
        "attempts": 0,
        "step": 0,
        "lrs": [],
    }


def test_the_whole_story_as_json() -> None:
    told = story(
        OPENED,
        SnapshotTaken("t1", 1, 7, 30, 0, False),
        samples(range(50), dropped=3),
        SnapshotProven("t1", 7),
        SignalSeen(SIGNAL),
        Refused(SIGNAL, "cooldown"),
        Decided(ROLLBACK),
        samples(range(50, 60), dropped=5),
        arrived(receipt(wait_seconds=0.5)),
        Noticed("t1", 2, "foreign_lr", 61, "somebody set the LR"),
        samples(range(60, 100), lrs=((0.05, 0.005),), dropped=5),
        OutcomeMeasured(OUTCOME),
    )
    expected = {
        "run": "demo/exp-1",
        "state": "tracking",
        "mode": "auto",
        "attempts": 1,
        "step": 100,
        "lrs": [0.05, 0.005],
        "telemetry": {"received": 100, "dropped": 5},
        "signals": [
            {
                "kind": "divergence",
                "step": 50,
                "since": 45,
                "severity": 0.9,
                "evidence": {"rise": "Infinity", "noise": 0.1},
            }
        ],
        "decisions": [
            {
                "id": 1,
                "status": "applied",
                "step": 50,
                "action": "rollback",
                "reason": "the loss rose",
                "signal": "divergence",
                "lrs_before": [0.1, 0.01],
                "lrs_after": [0.05, 0.005],
                "applied_step": 60,
                "outcome": {
                    "verdict": "improved",
                    "gain": 0.25,
                    "steps": 40,
                    "loss_before": 2.0,
                    "loss_after": 1.5,
                },
                "who": None,
                "verdict": None,
            }
        ],
        "cost": {"probe_steps": 0, "rolled_back_steps": 30, "wait_seconds": 0.5},
        "refusals": [{"step": 50, "signal": "divergence", "reason": "cooldown"}],
        "notices": [{"step": 61, "kind": "foreign_lr", "text": "somebody set the LR"}],
        "commands": [],
        "search": None,
    }
    assert told.to_json() == expected
    assert list(told.to_json()) == list(expected)
    assert list(Summary.of(told).to_json()) == list(expected)[:6]
    assert {p.step for p in told.points if p.left} == set(range(30, 60))
    assert len(told.points) == 100


@pytest.mark.parametrize(
    ("events", "state"),
    [
        ([], "tracking"),
        ([Decided(ROLLBACK)], "tracking"),
        ([Decided(ROLLBACK), arrived(receipt())], "probation"),
        ([Decided(ROLLBACK), arrived(receipt()), OutcomeMeasured(OUTCOME)], "tracking"),
        ([Decided(ROLLBACK), arrived(receipt(status="stale"))], "tracking"),
        ([Decided(replace(ROLLBACK, action=Action.NOTE)), arrived(receipt())], "tracking"),
        ([Decided(replace(ROLLBACK, stop=True))], "tracking"),
        ([Decided(replace(ROLLBACK, stop=True)), arrived(receipt())], "stopped"),
        (
            [
                Decided(replace(ROLLBACK, stop=True)),
                arrived(receipt()),
                SaidGoodbye("t1", 2, "finished", 60),
            ],
            "stopped",
        ),
        ([Decided(ROLLBACK), arrived(receipt()), SessionLost("t1")], "lost"),
        ([SaidGoodbye("t1", 1, "finished", 10)], "finished"),
        ([SaidGoodbye("t1", 1, "finished", 10), SessionLost("t1")], "finished"),
        ([SaidGoodbye("t1", 1, "stopped", 10)], "stopped"),
        ([SaidGoodbye("t1", 1, "error", 10)], "stopped"),
        ([SessionLost("t1")], "lost"),
        ([SessionLost("t1"), OPENED], "tracking"),
        ([SessionLost("t1"), samples([5])], "tracking"),
        ([SessionLost("t0")], "tracking"),
    ],
)
def test_state(events: list[Event], state: str) -> None:
    assert story(OPENED, *events).state == state


@pytest.mark.parametrize(
    "end",
    [
        [SessionLost("t1")],
        [SaidGoodbye("t1", 1, "finished", 10)],
        [Decided(replace(ROLLBACK, stop=True)), arrived(receipt())],
        [Decided(ROLLBACK), arrived(receipt())],
    ],
)
def test_a_new_attempt_begins_anew(end: list[Event]) -> None:
    opened = SessionOpened(Attempt("t2", GROUPS, 1e-6, 1.0, mode=Mode.ADVISE, scale=0.5))
    told = story(OPENED, samples(range(20)), *end, opened)
    assert told.state is RunState.TRACKING
    assert told.mode is Mode.ADVISE
    assert told.attempts == 2
    assert told.step == 0
    assert told.lrs == (0.05, 0.005)


def test_what_an_older_attempt_did_beyond_the_checkpoint_is_left() -> None:
    resumed = Attempt("t2", GROUPS, 1e-6, 1.0, start_step=30, resumes="t1")
    told = story(
        OPENED,
        samples(range(50)),
        SessionOpened(resumed),
        samples(range(30, 40), attempt="t2"),
        samples(range(50, 55), first_seq=51),  # the old trainer was not quite dead
    )
    assert [(p.step, p.left) for p in told.points] == [
        *((k, k >= 30) for k in range(50)),
        *((k, False) for k in range(30, 40)),
        *((k, True) for k in range(50, 55)),
    ]
    assert told.step == 40
    assert told.received == 65


def test_telemetry_is_counted_once() -> None:
    told = story(
        OPENED,
        samples(range(10)),
        samples(range(5, 15)),
        samples(range(5, 15)),
        samples(range(20, 22)),
        samples(range(3), attempt="t2"),
    )
    assert told.received == 15 + 2 + 3


def test_dropped_is_summed_over_attempts() -> None:
    told = story(
        OPENED,
        samples([0], dropped=4),
        samples([1], dropped=9),
        samples([2], dropped=9),
        samples([0], attempt="t2", dropped=2),
    )
    assert told.dropped == 11


def test_validations_are_not_training_losses() -> None:
    told = story(OPENED, samples([0, 1, 1], first_seq=1, validation=(False, False, True)))
    assert told.received == 2
    assert [p.step for p in told.points] == [0, 1]
    told = story(OPENED, samples([9], validation=(True,), lrs=((9.0,),)))
    assert (told.received, told.step, told.lrs) == (0, 0, (0.1, 0.01))


def test_a_decision_that_nobody_answered() -> None:
    for status in ("shadow", "sent"):
        decision = replace(ROLLBACK, status=DecisionStatus(status), signal=None)
        (told,) = story(OPENED, Decided(decision)).to_json()["decisions"]
        assert told["status"] == status
        for key in ("signal", "lrs_before", "lrs_after", "applied_step", "outcome"):
            assert told[key] is None


def test_a_decision_that_was_not_applied() -> None:
    answer = receipt(status="expired", wait_seconds=0.25, detail="too late")
    told = story(OPENED, Decided(ROLLBACK), arrived(answer))
    (decision,) = told.decisions
    assert decision.status is DecisionStatus.EXPIRED
    assert decision.applied_step is None
    assert told.cost.rolled_back_steps == 0
    assert told.cost.wait_seconds == 0.25
    assert told.lrs == (0.1, 0.01)


def test_a_decision_told_again_takes_the_newer_status_until_its_receipt() -> None:
    proposed = Decided(replace(ROLLBACK, status=DecisionStatus.PROPOSED))
    sent = Decided(replace(ROLLBACK, status=DecisionStatus.SENT))
    assert [d.status for d in story(proposed, sent).decisions] == ["sent"]
    assert [d.status for d in story(sent, arrived(receipt()), proposed).decisions] == ["applied"]


def test_a_receipt_counts_once_and_needs_its_decision() -> None:
    answer = arrived(receipt(wait_seconds=1.0))
    taken = SnapshotTaken("t1", 1, 7, 40, 0, False)
    told = story(OPENED, taken, answer, Decided(ROLLBACK), answer, answer)
    assert told.cost.wait_seconds == 1.0
    assert told.cost.rolled_back_steps == 20


def test_a_restore_of_an_unknown_snapshot_costs_nothing_known() -> None:
    other = SnapshotTaken("t0", 1, 7, 40, 0, False)
    told = story(OPENED, other, Decided(ROLLBACK), arrived(receipt()))
    assert told.cost.rolled_back_steps == 0


def test_a_step_is_rolled_back_once() -> None:
    # Both go back to step 30; what the first one undid is not undone again.
    again = replace(ROLLBACK, id=2, step=80, branch=1)
    told = story(
        OPENED,
        SnapshotTaken("t1", 1, 7, 30, 0, False),
        Decided(ROLLBACK),
        arrived(receipt(step=60)),
        Decided(again),
        arrived(receipt(2, step=90)),
    )
    assert told.cost.rolled_back_steps == 90 - 30


def test_late_telemetry_does_not_hide_the_lrs_of_a_receipt() -> None:
    told = story(OPENED, Decided(ROLLBACK), arrived(receipt()), samples(range(50, 60)))
    assert told.lrs == (0.05, 0.005)
    assert told.step == 60


def test_only_the_newest_hundred_refusals_and_notices() -> None:
    refused = [Refused(replace(SIGNAL, step=k), "no") for k in range(150)]
    noticed = [Noticed("t1", k, "kind", k, "text") for k in range(150)]
    told = story(OPENED, *refused, *noticed)
    assert [r.step for r in told.refusals] == list(range(50, 150))
    assert [n.step for n in told.notices] == list(range(50, 150))


def test_json_is_strict() -> None:
    odd = (math.nan, math.inf, -math.inf)
    told = story(
        OPENED,
        Decided(ROLLBACK),
        samples([0], lrs=(odd,)),
        OutcomeMeasured(replace(OUTCOME, loss_after=math.nan)),
    )
    text = json.dumps(told.to_json(), allow_nan=False)
    assert json.loads(text)["lrs"] == ["NaN", "Infinity", "-Infinity"]


@given(st.lists(st.integers(1, 20), max_size=8))
def test_the_story_does_not_depend_on_how_samples_were_batched(sizes: list[int]) -> None:
    ends = [0, *itertools.accumulate(sizes)]
    parts = [samples(range(a, b)) for a, b in itertools.pairwise(ends)]
    whole = [samples(range(ends[-1]))] if sizes else []
    assert story(OPENED, *parts, points=8) == story(OPENED, *whole, points=8)


def test_told_from_a_journal() -> None:
    journal = MemoryJournal()
    journal.append([(RUN, 1.0, OPENED), (RUN, 2.0, samples(range(5)))])
    assert tell(RUN, journal.records(RUN)) == story(OPENED, samples(range(5)))
