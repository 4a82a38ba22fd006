"""One run's state machine: laws that hold for any run, whatever its trainer sends."""

import itertools
import json
import math
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
from lrpilot_controller.core.model import DecisionStatus, Mode, ParamGroup, Receipt
from lrpilot_controller.core.plain import to_plain
from lrpilot_controller.core.settings import CoreSettings, Limits
from lrpilot_controller.core.telemetry import Samples
from lrpilot_controller.journal import RunKey, SqlJournal
from support.streams import ATTEMPT, LR, Quadratic, Trainer, as_json, decisions, outcomes, signals

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
LOSSES = (
    st.floats() | st.floats(0, 5) | st.sampled_from([math.nan, math.inf, -math.inf, 1e308, -1e308])
)
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
    st.just(()) | st.tuples(LRS | st.sampled_from([math.nan, math.inf, -1.0])),
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
