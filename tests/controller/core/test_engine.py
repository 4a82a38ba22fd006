"""One run's state machine: what follows from what."""

import itertools
import json
import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrpilot_controller.core.engine import Engine
from lrpilot_controller.core.events import (
    Decided,
    Input,
    Noticed,
    OutcomeMeasured,
    Output,
    ReceiptArrived,
    SaidGoodbye,
    SessionLost,
    SessionOpened,
    SnapshotTaken,
)
from lrpilot_controller.core.model import (
    Action,
    DecisionStatus,
    Mode,
    ParamGroup,
    Receipt,
    SignalKind,
    Verdict,
)
from lrpilot_controller.core.plain import to_plain
from lrpilot_controller.core.plans import Plan, PlanKind
from lrpilot_controller.core.settings import CoreSettings, GuardSettings, Limits
from lrpilot_controller.core.telemetry import Samples
from lrpilot_controller.journal import RunKey, SqlJournal
from support.streams import (
    ATTEMPT,
    LR,
    Quadratic,
    Trainer,
    decisions,
    descent,
    explosion,
    outcomes,
    proven,
    refusals,
    signals,
)

NAN = math.nan


@pytest.fixture
def trainer() -> Trainer:
    """A healthy run at step 200 with two snapshots: the start state, and a proven one at 100."""
    made = Trainer()
    losses = descent(200)
    made.snapshot(1, proven=True)
    made.train(losses[:100])
    made.snapshot(2)
    made.train(losses[100:])
    return made


def blown_up(trainer: Trainer) -> Trainer:
    """The run with its rollback on the way."""
    trainer.train(explosion(40))
    assert trainer.decisions[-1].action is Action.ROLLBACK
    return trainer


def as_json(outputs: Sequence[Output]) -> str:
    return json.dumps([[type(output).__name__, to_plain(output)] for output in outputs])


# -- a blow-up


@pytest.mark.parametrize("seed", range(5))
def test_a_healthy_run_is_left_alone(seed: int) -> None:
    trainer = Trainer()
    trainer.snapshot(1, proven=True)
    found = trainer.train(descent(2000, seed))
    assert {signal.kind for signal in signals(found)} <= {SignalKind.PLATEAU}  # it has its floor
    assert len(found) == len(signals(found))


def test_nothing_is_known_before_the_first_session() -> None:
    engine = Engine()
    taken = SnapshotTaken("t1", 1, 1, 0, 0, True)
    assert engine.feed(taken) == []
    assert engine.view is None


def test_a_blow_up_is_one_rollback_to_the_proven_snapshot(trainer: Trainer) -> None:
    found = trainer.train(explosion(100))
    spike, signal = signals(found)
    assert (spike.kind, signal.kind) == (SignalKind.SPIKE, SignalKind.DIVERGENCE)
    assert 200 <= signal.since <= signal.step
    (decision,) = decisions(found)
    assert decision.id == 1
    assert decision.action is Action.ROLLBACK
    assert decision.status is DecisionStatus.SENT
    assert decision.signal == signal
    assert decision.step == signal.step
    assert decision.branch == 0
    assert decision.restore_snapshot == 2
    assert decision.restore_rng is False
    assert decision.factor == CoreSettings().guard.factor
    assert decision.plan is not None
    assert decision.plan.kind is PlanKind.SCALE
    assert decision.plan.end_value == decision.factor
    assert decision.expires_at_step == decision.step + 10 * 50
    assert "snapshot 2" in decision.reason
    assert "from 0.1" in decision.reason


def test_a_single_nan_is_noted_and_two_are_a_blow_up(trainer: Trainer) -> None:
    noted = trainer.train([NAN])
    assert [d.action for d in decisions(noted)] == [Action.NOTE]
    assert decisions(noted)[0].plan is None
    # A note is not waited for.
    (decision,) = decisions(trainer.train([NAN] * 50))
    assert (decision.id, decision.action) == (2, Action.ROLLBACK)
    assert "non-finite losses since step 200" in decision.reason


def test_nothing_is_decided_between_a_decision_and_its_receipt(trainer: Trainer) -> None:
    blown_up(trainer)
    found = trainer.train([*explosion(50, 1e9), NAN, NAN, NAN])
    assert decisions(found) == []
    assert refusals(found) == []
    assert SignalKind.NONFINITE in {signal.kind for signal in signals(found)}  # told all the same


def test_a_run_without_a_snapshot_is_cut() -> None:
    trainer = Trainer(replace(ATTEMPT, can_snapshot=False))
    trainer.train(descent(200))
    (decision,) = decisions(trainer.train(explosion(40)))
    assert decision.action is Action.CUT
    assert decision.restore_snapshot is None
    assert decision.plan is not None
    assert decision.plan.end_value == pytest.approx(1 / 3)


def test_what_was_not_proven_is_not_restored() -> None:
    trainer = Trainer()
    trainer.snapshot(1, proven=True)
    trainer.train(descent(200))
    trainer.snapshot(2)  # a step before the blow-up: poisoned already
    (decision,) = decisions(trainer.train(explosion(40)))
    assert decision.restore_snapshot == 1


# -- after the receipt


def test_after_a_rollback_the_left_branch_is_not_heard(trainer: Trainer) -> None:
    trainer.apply(blown_up(trainer).decisions[0])
    assert trainer.branch == 1
    assert trainer.train([NAN] * 20, branch=(0,) * 20) == []
    assert trainer.train(explosion(60, 1e6), branch=(0,) * 60) == []


def test_a_program_is_not_heard(trainer: Trainer) -> None:
    assert trainer.train([NAN] * 60, program=(7,) * 60) == []
    assert trainer.train(explosion(60), program=(7,) * 60) == []


def test_a_stranger_is_not_heard(trainer: Trainer) -> None:
    losses = explosion(60)
    assert trainer.train(losses, attempt="t0") == []
    blown_up(trainer)
    (decision,) = trainer.decisions
    receipt = Receipt(decision.id, DecisionStatus.APPLIED, 240, 0, 1, (LR,), (LR,))
    assert trainer.feed(ReceiptArrived("t0", 9, receipt)) == []
    assert trainer.engine.view is not None
    assert trainer.engine.view.in_flight == decision


def test_the_detectors_go_back_to_the_snapshot(trainer: Trainer) -> None:
    # Else the blow-up's own level would be the measure of what comes after it.
    trainer.apply(blown_up(trainer).decisions[0])
    assert trainer.train(descent(200)[100:]) == outcomes_only(trainer)
    (again,) = decisions(trainer.train(explosion(40)))
    assert again.action is Action.ROLLBACK


def outcomes_only(trainer: Trainer) -> list[Output]:
    return [o for o in trainer.outputs if hasattr(o, "outcome")]


def test_the_plan_multiplies_what_is_in_force(trainer: Trainer) -> None:
    trainer.apply(blown_up(trainer).decisions[0])
    trainer.train(explosion(40))
    second = trainer.decisions[-1]
    assert second.id == 2
    assert second.plan is not None
    assert second.plan.end_value == pytest.approx(second.factor / 3)
    assert second.branch == 1


def test_a_receipt_counts_once(trainer: Trainer) -> None:
    (decision,) = blown_up(trainer).decisions
    trainer.apply(decision)
    receipt = trainer.inputs[-1]
    view = trainer.engine.view
    assert view is not None
    assert view.rollbacks == 1
    assert trainer.feed(receipt) == []
    assert view.rollbacks == 1
    assert view.branch == 1


def test_steps_are_counted_as_rolled_back_once(trainer: Trainer) -> None:
    view = trainer.engine.view
    assert view is not None
    trainer.apply(blown_up(trainer).decisions[-1])
    assert (trainer.step, view.rolled_back_steps) == (240, 140)  # back to step 100
    # The second one undoes only what came since the first, the rest is undone already.
    trainer.apply(blown_up(trainer).decisions[-1])
    assert (trainer.step, view.rolled_back_steps) == (280, 180)


# -- repeated blow-ups


def test_repeated_blow_ups_escalate_and_end_in_a_stop() -> None:
    run = Quadratic(edge=0.0)  # no LR helps
    run.run(5000)
    assert run.stopped
    actions = [d.action for d in run.decisions if d.action is not Action.NOTE]
    assert actions == [Action.ROLLBACK] * 8 + [Action.STOP]
    rule = GuardSettings()
    factors = [d.factor for d in run.decisions]
    assert factors[:5] == [rule.factor] + [rule.escalated_factor] * 4
    assert all(
        ATTEMPT.min_lr * 0.999 <= lr <= ATTEMPT.max_lr
        for lr in itertools.accumulate(factors, lambda lr, factor: lr * factor, initial=LR)
    )
    assert [o.verdict for o in outcomes(run.outputs)] == [Verdict.ROLLED_BACK] * 8
    assert run.step < 400


@pytest.mark.parametrize("edge", [0.05, 0.01, 1e-3, 1e-4])
def test_an_lr_too_high_is_brought_below_its_edge(edge: float) -> None:
    run = Quadratic(edge)
    run.run(2000)
    assert not run.stopped
    assert edge / 10 <= run.lr < edge
    assert run.excess < 0.1
    assert outcomes(run.outputs)[-1].verdict is Verdict.IMPROVED
    assert refusals(run.outputs) == []


def test_a_spent_share_of_the_horizon_ends_in_a_stop_as_well() -> None:
    # A refused rollback alone would leave the run burning: the detectors speak once per episode.
    run = Quadratic(edge=0.0, attempt=replace(ATTEMPT, total_steps=100))
    run.run(3000)
    assert run.stopped
    assert run.step < 200
    (reason,) = refusals(run.outputs)
    assert "limits.max_rolled_back_fraction" in reason
    assert run.decisions[-1].action is Action.STOP
    assert "budget of rollbacks is spent" in run.decisions[-1].reason


def test_the_tighter_of_the_two_budgets_of_rollbacks_holds() -> None:
    limits = Limits(max_rollbacks=2)
    run = Quadratic(edge=0.0, settings=CoreSettings(limits=limits))
    run.run(3000)
    assert run.stopped
    assert [d.action for d in run.decisions].count(Action.ROLLBACK) == 2
    run = Quadratic(edge=0.0, settings=CoreSettings(guard=GuardSettings(max_rollbacks=1)))
    run.run(3000)
    assert run.stopped
    assert [d.action for d in run.decisions].count(Action.ROLLBACK) == 1


def test_without_snapshots_it_ends_in_a_stop_or_at_rest() -> None:
    run = Quadratic(edge=0.0, attempt=replace(ATTEMPT, can_snapshot=False))
    run.run(3000)
    assert run.stopped
    actions = {d.action for d in run.decisions}
    assert actions <= {Action.CUT, Action.NOTE, Action.STOP}


# -- a run that learns nothing


def flat(count: int, level: float, seed: int = 0) -> list[float]:
    """A loss that goes nowhere."""
    rng = random.Random(seed)
    return [2.3, 2.31, 2.3, *(level + rng.gauss(0, 0.1) for _ in range(count - 3))]


def restarted(losses: Sequence[float]) -> Trainer:
    """A run that blew up at once, was rolled back to its start and cut, and then did `losses`."""
    trainer = Trainer()
    trainer.snapshot(1, proven=True)
    trainer.train([2.3, 2.31, NAN, NAN])
    trainer.apply(trainer.decisions[-1])
    trainer.train(losses)
    return trainer


@pytest.mark.parametrize("seed", range(5))
def test_a_state_above_the_start_is_never_proven(seed: int) -> None:
    def proofs(level: float) -> list[int]:
        trainer = Trainer()
        trainer.snapshot(1, proven=True)
        losses = flat(400, level, seed)
        trainer.train(losses[:50])
        trainer.snapshot(2)
        return proven(trainer.train(losses[50:]))

    assert proofs(2.45) == []
    assert proofs(2.0) == [2]


@pytest.mark.parametrize("seed", range(5))
def test_a_cut_after_which_nothing_is_learnt_is_followed_by_another(seed: int) -> None:
    trainer = restarted(flat(120, 2.45, seed))
    rollbacks = [d for d in trainer.decisions if d.action is Action.ROLLBACK]
    assert len(rollbacks) == 2
    second = rollbacks[1]
    assert 50 <= second.step - 4 <= 52  # a time scale after the first
    assert (second.restore_snapshot, second.factor) == (1, GuardSettings().factor)
    assert "nothing learnt since step 4" in second.reason
    assert signals(trainer.outputs)[-1] == second.signal
    assert second.signal is not None
    assert second.signal.evidence["level"] > second.signal.evidence["start"]


@pytest.mark.parametrize("seed", range(5))
def test_a_cut_after_which_something_is_learnt_is_left_at_that(seed: int) -> None:
    rollbacks = [d for d in restarted(descent(300, seed)).decisions if d.action is Action.ROLLBACK]
    assert len(rollbacks) == 1


def test_learning_nothing_is_followed_up_a_few_times_and_stops_no_run() -> None:
    trainer = restarted(flat(60, 2.45))
    for _ in range(8):
        if trainer.engine.view is not None and trainer.engine.view.in_flight is not None:
            trainer.apply(trainer.decisions[-1])
        trainer.train(flat(60, 2.45))
    actions = [d.action for d in trainer.decisions if d.action is not Action.NOTE]
    assert actions == [Action.ROLLBACK] * 3


# -- answers other than applied


def test_an_expired_decision_is_decided_anew(trainer: Trainer) -> None:
    (first,) = blown_up(trainer).decisions
    trainer.step += 1000
    (second,) = decisions(trainer.answer(first, DecisionStatus.EXPIRED))
    assert second.id == first.id + 1
    assert second.action is Action.ROLLBACK
    assert second.restore_snapshot == first.restore_snapshot
    assert second.step == trainer.step
    assert second.expires_at_step is not None
    assert second.expires_at_step > trainer.step
    assert trainer.engine.view is not None
    assert trainer.engine.view.in_flight == second
    assert trainer.engine.view.rollbacks == 0


def test_a_snapshot_that_the_trainer_cannot_restore_is_not_asked_for_again(
    trainer: Trainer,
) -> None:
    (first,) = blown_up(trainer).decisions
    (second,) = decisions(trainer.answer(first, DecisionStatus.REJECTED))
    assert (second.id, second.action, second.restore_snapshot) == (2, Action.CUT, None)
    # Whoever rejects that as well is not asked for ever.
    assert trainer.answer(second, DecisionStatus.REJECTED) == []


@pytest.mark.parametrize("status", ["stale", "superseded"])
def test_a_decision_that_was_not_followed_changes_nothing(trainer: Trainer, status: str) -> None:
    (decision,) = blown_up(trainer).decisions
    assert trainer.answer(decision, DecisionStatus(status)) == []
    view = trainer.engine.view
    assert view is not None
    assert (view.in_flight, view.rollbacks, view.plan, view.branch) == (None, 0, None, 0)


@pytest.mark.parametrize(
    ("settings", "snapshots", "losses", "actions"),
    [
        (CoreSettings(), True, [NAN], [Action.NOTE]),
        (CoreSettings(), True, explosion(40), [Action.ROLLBACK]),
        (CoreSettings(), False, explosion(40), [Action.CUT]),
        (CoreSettings(guard=GuardSettings(max_rollbacks=0)), True, explosion(40), [Action.STOP]),
    ],
)
def test_nothing_of_what_an_observed_run_is_told_reaches_it(
    settings: CoreSettings, snapshots: bool, losses: list[float], actions: list[Action]
) -> None:
    attempt = replace(ATTEMPT, mode=Mode.OBSERVE, can_snapshot=snapshots, can_stop=True)
    trainer = Trainer(attempt, settings)
    if snapshots:
        trainer.snapshot(1, proven=True)
    trainer.train(descent(200))
    made = decisions(trainer.train(losses))
    assert [decision.action for decision in made] == actions
    assert {decision.status for decision in made} == {DecisionStatus.SHADOW}
    assert trainer.engine.view is not None
    assert trainer.engine.view.in_flight is trainer.engine.view.proposed is None


def test_a_run_that_is_only_observed_gets_shadow_decisions() -> None:
    trainer = Trainer(replace(ATTEMPT, mode=Mode.OBSERVE))
    trainer.snapshot(1, proven=True)
    trainer.train(descent(200))
    (decision,) = decisions(trainer.train(explosion(40)))
    assert decision.status is DecisionStatus.SHADOW
    assert decision.action is Action.ROLLBACK
    view = trainer.engine.view
    assert view is not None
    assert view.in_flight is None
    # The run recovers by itself, and blows up again: that is said again.
    trainer.train(descent(400)[200:])
    (again,) = decisions(trainer.train(explosion(40)))
    assert (again.id, again.status) == (2, DecisionStatus.SHADOW)
    assert (view.rollbacks, view.plan) == (0, None)


# -- attempts


def test_a_new_attempt_starts_afresh_but_keeps_count(trainer: Trainer) -> None:
    trainer.apply(blown_up(trainer).decisions[0])
    old = trainer.engine.view
    assert old is not None
    plan = Plan.scale(0.5, 100)
    trainer.open(replace(ATTEMPT, id="t2", start_step=150, scale=0.5, plan=plan, branch=4))
    view = trainer.engine.view
    assert view is not None
    assert (view.step, view.branch, view.plan) == (150, 4, plan)
    assert view.lr == pytest.approx(LR * 0.5)
    assert (view.snapshot, view.in_flight) == (None, None)
    assert (view.rollbacks, view.rolled_back_steps) == (1, old.rolled_back_steps)
    # The old process's memory is gone: its snapshots cannot be asked for, its level is forgotten.
    assert trainer.train([x + 30 for x in descent(200)]) == []
    (decision,) = decisions(trainer.train(explosion(40, 40)))
    assert (decision.id, decision.action) == (2, Action.CUT)


def test_the_same_process_on_a_new_stream_goes_on(trainer: Trainer) -> None:
    blown_up(trainer)
    view = trainer.engine.view
    trainer.feed(SessionLost("t1"))
    assert trainer.open(ATTEMPT) == []
    assert trainer.engine.view is view
    assert view is not None
    assert view.in_flight is not None


def test_ids_in_the_journal_are_never_used_again(trainer: Trainer) -> None:
    trainer.engine.skip_decisions(7)
    trainer.engine.skip_decisions(3)
    assert blown_up(trainer).decisions[0].id == 8


# -- snapshots


def test_a_snapshot_is_proven_by_healthy_samples_alone() -> None:
    trainer = Trainer()
    trainer.snapshot(1, proven=True)
    losses = descent(400)
    assert proven(trainer.train(losses[:100])) == []
    trainer.snapshot(2)
    assert proven(trainer.train(losses[100:124])) == []
    assert proven(trainer.train(losses[124:125])) == [2]  # half a time scale
    assert proven(trainer.train(losses[125:])) == []


def test_unhealthy_samples_prove_nothing() -> None:
    trainer = Trainer()
    trainer.snapshot(1, proven=True)
    trainer.train(descent(200))
    trainer.snapshot(2)
    assert proven(trainer.train([2.0] * 20)) == []
    assert proven(trainer.train(descent(260)[200:224])) == []  # 24 healthy ones are not enough
    assert proven(trainer.train(descent(400)[260:])) == [2]


def test_validations_and_programs_prove_nothing() -> None:
    trainer = Trainer()
    trainer.train(descent(200))
    trainer.snapshot(2)
    assert trainer.train([0.5] * 100, validation=(True,) * 100) == []
    assert trainer.train([0.5] * 100, program=(3,) * 100) == []


def test_a_snapshot_of_a_left_branch_is_forgotten(trainer: Trainer) -> None:
    trainer.snapshot(3)
    trainer.apply(blown_up(trainer).decisions[0])
    late = SnapshotTaken("t1", 99, 4, 230, 0, False)  # reported by the old branch
    trainer.feed(late)
    assert proven(trainer.train(descent(400)[200:])) == []


# -- outcomes


def test_an_outcome_is_measured_over_the_probation(trainer: Trainer) -> None:
    trainer.apply(blown_up(trainer).decisions[0])
    losses = descent(400)[100:]
    assert outcomes(trainer.train(losses[:49])) == []
    (outcome,) = outcomes(trainer.train(losses[49:50]))
    assert outcome.decision_id == 1
    assert outcome.steps == 50
    assert outcome.verdict is Verdict.IMPROVED
    assert 0 < outcome.gain <= 1
    # Compared with the snapshot that it started from, not with the blow-up.
    assert outcome.loss_before == pytest.approx(descent(101)[100], abs=0.1)


def test_another_blow_up_is_the_worst_outcome(trainer: Trainer) -> None:
    trainer.apply(blown_up(trainer).decisions[0])
    found = trainer.train(explosion(40))
    assert [(o.decision_id, o.verdict, o.gain) for o in outcomes(found)] == [
        (1, Verdict.ROLLED_BACK, -1.0)
    ]


@pytest.mark.parametrize("end", ["goodbye", "attempt"])
def test_an_end_leaves_it_unfinished(trainer: Trainer, end: str) -> None:
    trainer.apply(blown_up(trainer).decisions[0])
    trainer.train(descent(120)[100:])
    found = trainer.goodbye() if end == "goodbye" else trainer.open(replace(ATTEMPT, id="t2"))
    assert [(o.verdict, o.gain, o.steps) for o in outcomes(found)] == [
        (Verdict.UNFINISHED, 0.0, 20)
    ]


def test_every_applied_change_has_one_outcome_at_most() -> None:
    run = Quadratic(edge=1e-3)
    run.run(1500)
    ids = [o.decision_id for o in outcomes(run.outputs)]
    assert len(set(ids)) == len(ids)
    assert set(ids) == {d.id for d in run.decisions if d.action is Action.ROLLBACK}


# -- laws, for any run


def episode(seed: int, edge: float, total: int | None) -> list[Input]:
    """What the engine of a run with blow-ups was fed."""
    run = Quadratic(edge, attempt=replace(ATTEMPT, total_steps=total), delay=seed % 5)
    run.run(150 + seed % 7)
    return run.inputs


def feed(events: Sequence[Input], engine: Engine | None = None) -> list[Output]:
    engine = engine or Engine()
    return [output for event in events for output in engine.feed(event)]


def joined(events: Sequence[Input]) -> Iterator[Input]:
    """Neighbouring samples as one event, with the LRs of each row."""
    for together, part in itertools.groupby(events, lambda e: isinstance(e, Samples)):
        if not together:
            yield from part
            continue
        rows = [event for event in part if isinstance(event, Samples)]
        yield replace(
            rows[0],
            validation=tuple(v for e in rows for v in e.validation),
            step=tuple(k for e in rows for k in e.step),
            branch=tuple(b for e in rows for b in e.branch),
            program=tuple(p for e in rows for p in e.program),
            loss=tuple(x for e in rows for x in e.loss),
            lrs=tuple(lrs for e in rows for lrs in e.lrs * (len(e.step) // len(e.lrs))),
        )


def split(events: Sequence[Input], size: Callable[[], int]) -> Iterator[Input]:
    """Samples in parts of any size."""
    for event in events:
        if not isinstance(event, Samples):
            yield event
            continue
        first, count = 0, len(event.step)
        while first < count:
            part = slice(first, first + size())
            yield replace(
                event,
                first_seq=event.first_seq + first,
                validation=event.validation[part],
                step=event.step[part],
                branch=event.branch[part],
                program=event.program[part],
                loss=event.loss[part],
                lrs=event.lrs if len(event.lrs) == 1 else event.lrs[part],
            )
            first = part.stop


EPISODES = [episode(seed, edge, total) for seed, edge, total in ((3, 0.01, None), (5, 0.0, 600))]


@settings(max_examples=30)
@given(st.data(), st.sampled_from(EPISODES))
def test_the_output_does_not_depend_on_how_samples_were_batched(
    data: st.DataObject, events: list[Input]
) -> None:
    sizes = data.draw(st.lists(st.integers(1, 40), min_size=1, max_size=10))
    whole = list(joined(events))
    parts = split(whole, itertools.cycle(sizes).__next__)
    expected = as_json(feed(events))
    assert "rollback" in expected
    assert as_json(feed(whole)) == expected
    assert as_json(feed(list(parts))) == expected


@settings(max_examples=30)
@given(
    st.sampled_from(EPISODES),
    st.floats(1e-6, 1e6),
    st.floats(-100, 100),
)
def test_decisions_do_not_depend_on_the_scale_of_the_loss(
    events: list[Input], scale: float, offset: float
) -> None:
    # An offset that swamps the noise is a question of the float's resolution, not of the engine.
    moved = [
        replace(e, loss=tuple(scale * (x + offset) for x in e.loss))
        if isinstance(e, Samples)
        else e
        for e in events
    ]

    def acts(outputs: list[Output]) -> list[tuple[object, ...]]:
        return [
            (d.id, d.step, d.action, d.factor, d.restore_snapshot, d.plan)
            for d in decisions(outputs)
        ]

    assert acts(feed(moved)) == acts(feed(events))


@pytest.mark.parametrize("events", EPISODES)
def test_the_same_events_give_the_same_outputs(events: list[Input]) -> None:
    assert as_json(feed(events)) == as_json(feed(events))
    assert repr(feed(events)) == repr(feed(events))


@pytest.mark.parametrize("events", EPISODES)
def test_a_replay_of_the_journal_gives_the_same_bytes(events: list[Input], tmp_path: Path) -> None:
    run = RunKey("demo", "exp")
    journal = SqlJournal.open(tmp_path / "journal.db")
    engine, said = Engine(), list[Output]()
    for event in events:
        found = engine.feed(event)
        said += found
        journal.append([(run, 1.0, event), *((run, 1.0, output) for output in found)])
    journal.close()

    journal = SqlJournal.open(tmp_path / "journal.db", readonly=True)
    kept = [record.event for record in journal.records(run)]
    journal.close()
    inputs = [event for event in kept if isinstance(event, Input)]
    recorded = [event for event in kept if isinstance(event, Output)]
    assert as_json(feed(inputs)).encode() == as_json(said).encode()
    assert repr(recorded) == repr(said)


# -- garbage

STEPS = st.integers(0, 400) | st.integers(0, 2**40)
SMALL = st.integers(0, 3)
LOSSES = st.floats() | st.floats(0, 5) | st.sampled_from([NAN, math.inf, -math.inf, 1e308, -1e308])
LRS = st.floats(0, 1) | st.sampled_from([0.0, 1e-9, 1e-6, LR, 1e6, 1e300])
NAMES = st.sampled_from(["t1", "t2", "t3"])


@st.composite
def any_samples(draw: st.DrawFn) -> Samples:
    count = draw(st.integers(1, 12))

    def column(values: st.SearchStrategy[object]) -> st.SearchStrategy[tuple[object, ...]]:
        same = values.map(lambda value: (value,) * count)
        return same | st.lists(values, min_size=count, max_size=count).map(tuple)

    rows = draw(st.sampled_from([1, count]))
    return Samples(
        attempt=draw(NAMES),
        first_seq=draw(st.integers(1, 100)),
        validation=draw(column(st.booleans())),  # type: ignore[arg-type]
        step=draw(column(STEPS)),  # type: ignore[arg-type]
        branch=draw(column(SMALL)),  # type: ignore[arg-type]
        program=draw(column(st.sampled_from([0, 0, 0, 1]))),  # type: ignore[arg-type]
        loss=draw(column(LOSSES)),  # type: ignore[arg-type]
        lrs=tuple((draw(LRS),) for _ in range(rows)),
    )


ATTEMPTS = st.builds(
    lambda name, base, low, span, mode, total, scale: replace(
        ATTEMPT,
        id=name,
        groups=(ParamGroup("all", base),),
        min_lr=low,
        max_lr=low * span,
        mode=mode,
        total_steps=total,
        scale=scale,
    ),
    NAMES,
    st.sampled_from([0.0, 1e-3, LR]),
    st.sampled_from([0.0, 1e-6, 1e-3, LR]),
    st.sampled_from([1.0, 100.0]),
    st.sampled_from([Mode.AUTO, Mode.AUTO, Mode.OBSERVE]),
    st.none() | st.integers(1, 1000),
    st.sampled_from([1.0, 0.1, 30.0]),
)
RECEIPTS = st.builds(
    lambda name, decision, status, step, before, after, lr: ReceiptArrived(
        name, 1, Receipt(decision, status, step, before, after, lr, lr)
    ),
    NAMES,
    st.integers(0, 12),
    st.sampled_from(DecisionStatus) | st.just(DecisionStatus.APPLIED),
    STEPS,
    SMALL,
    SMALL,
    st.just(()) | st.tuples(LRS | st.sampled_from([NAN, math.inf, -1.0])),
)
GARBAGE = st.one_of(
    ATTEMPTS.map(SessionOpened),
    NAMES.map(SessionLost),
    any_samples(),
    any_samples(),
    RECEIPTS,
    st.builds(SnapshotTaken, NAMES, st.just(1), SMALL, STEPS, SMALL, st.booleans()),
    st.builds(Noticed, NAMES, st.just(1), st.just("kind"), STEPS, st.just("text")),
    st.builds(SaidGoodbye, NAMES, st.just(1), st.just("finished"), STEPS),
)


@settings(max_examples=200)
@given(ATTEMPTS, st.lists(GARBAGE, max_size=40))
def test_garbage_neither_breaks_the_engine_nor_passes_the_bounds(
    attempt: object, events: list[Input]
) -> None:
    engine, limits = Engine(), Limits()
    last = 0
    for event in [SessionOpened(attempt), *events]:  # type: ignore[arg-type]
        for output in engine.feed(event):
            json.dumps(to_plain(output), allow_nan=False)
            if isinstance(output, Decided):
                decision = output.decision
                assert decision.id == last + 1
                last = decision.id
                if decision.plan is None:
                    assert decision.factor == 1.0
                    continue
                assert 0 <= decision.factor <= limits.max_factor
                assert engine.view is not None
                if engine.view.raised_from is None:  # else the limit counts from that LR
                    assert decision.factor >= 1 / limits.max_factor
                assert all(
                    math.isfinite(v) and v >= 0
                    for s in decision.plan.segments
                    for v in (s.start_value, s.end_value)
                )
            if isinstance(output, OutcomeMeasured):
                assert -1 <= output.outcome.gain <= 1


@settings(max_examples=100)
@given(st.lists(st.lists(LOSSES, min_size=1, max_size=12), max_size=30), st.integers(0, 9))
def test_the_lr_stays_within_its_bounds_whatever_the_losses(
    batches: list[list[float]], delay: int
) -> None:
    attempt = replace(ATTEMPT, min_lr=1e-3, max_lr=LR)
    trainer = Trainer(attempt, CoreSettings(limits=Limits(cooldown_steps=1)))
    trainer.snapshot(1, proven=True)
    due: list[tuple[int, int]] = []
    for losses in batches:
        for decision in decisions(trainer.train(losses)):
            due.append((trainer.step + delay, decision.id))
            if decision.plan is not None:
                assert attempt.min_lr * 0.999 <= trainer.lr * decision.factor <= attempt.max_lr
        while due and due[0][0] <= trainer.step:
            decision = trainer.decisions[due.pop(0)[1] - 1]
            for outcome in outcomes(trainer.apply(decision)):
                assert -1 <= outcome.gain <= 1
    for outcome in outcomes(trainer.outputs):
        assert -1 <= outcome.gain <= 1
    assert all(math.isfinite(signal.severity) for signal in signals(trainer.outputs))


# -- without snapshots


def test_a_cut_that_did_not_end_the_blow_up_is_followed_up() -> None:
    """A detector speaks once per episode, and NaN weights stay NaN whatever the LR is."""
    trainer = Trainer(replace(ATTEMPT, can_snapshot=False))
    trainer.train(descent(60))
    trainer.train([NAN] * 3)
    cut = trainer.decisions[-1]
    assert cut.action is Action.CUT
    made = len(trainer.decisions)
    trainer.apply(cut)
    trainer.train([NAN] * 50)
    assert len(trainer.decisions) == made
    trainer.train([NAN] * 5)
    assert [d.action for d in trainer.decisions[made:]] == [Action.STOP]


def test_a_cut_that_ended_the_blow_up_is_left_at_that() -> None:
    trainer = Trainer(replace(ATTEMPT, can_snapshot=False))
    trainer.train(descent(60))
    trainer.train(explosion(40))
    trainer.apply(trainer.decisions[-1])
    made = len(trainer.decisions)
    trainer.train(descent(300))
    assert len(trainer.decisions) == made


def test_notes_do_not_pile_up() -> None:
    trainer = Trainer()
    for _ in range(100):
        trainer.train([1.0, NAN])
    notes = [d for d in trainer.decisions if d.action is Action.NOTE]
    assert len(notes) == 200 // Limits().cooldown_steps


def test_a_noisy_run_that_learns_slowly_gets_its_snapshots_proven() -> None:
    """As a fine-tuning or a resumed run does: its start lies a little below its level."""
    rng = random.Random(3)
    trainer = Trainer()
    trainer.snapshot(1, proven=True)
    trainer.train([0.9, 0.9, 0.9] + [rng.gauss(1.0, 0.2) for _ in range(250)])
    trainer.snapshot(2)
    trainer.train([rng.gauss(1.0, 0.2) for _ in range(100)])
    assert proven(trainer.outputs) == [2]
