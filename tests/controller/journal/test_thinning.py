"""Thinned telemetry: the curve keeps its shape, evidence stays whole, counts stay true."""

import math
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrpilot_controller.core.events import (
    Decided,
    Event,
    OutcomeMeasured,
    ReceiptArrived,
    SessionOpened,
    SignalSeen,
)
from lrpilot_controller.core.model import (
    Action,
    Attempt,
    Decision,
    DecisionStatus,
    Outcome,
    ParamGroup,
    Receipt,
    Signal,
    SignalKind,
)
from lrpilot_controller.core.telemetry import Samples, Thinned
from lrpilot_controller.journal import MemoryJournal, RunKey
from lrpilot_controller.journal.thinning import (
    AROUND,
    EVIDENCE,
    MOST,
    STRETCH,
    Replacement,
    coarser,
    spans_of,
    thin,
)
from lrpilot_controller.story import tell

RUN = RunKey("demo", "a")


def batch(
    first: int,
    losses: Sequence[float],
    attempt: str = "t1",
    validation: Sequence[bool] | None = None,
    lrs: Sequence[float] = (0.1,),
) -> Samples:
    """Consecutive samples; the one with seq s belongs to step s - 1."""
    count = len(losses)
    return Samples(
        attempt=attempt,
        first_seq=first,
        validation=tuple(validation or [False] * count),
        step=tuple(range(first - 1, first - 1 + count)),
        branch=(0,) * count,
        program=(0,) * count,
        loss=tuple(losses),
        lrs=tuple((lr,) for lr in lrs),
    )


def opened(name: str, start: int = 0) -> SessionOpened:
    return SessionOpened(Attempt(name, (ParamGroup("all", 0.1),), 0.0, 1.0, start_step=start))


def journal_of(*events: Event) -> MemoryJournal:
    journal = MemoryJournal()
    journal.append([(RUN, 0.0, event) for event in events])
    return journal


def replacements(journal: MemoryJournal, stretch: int = STRETCH) -> list[Replacement]:
    spans = spans_of(journal.records(RUN, kinds=EVIDENCE))
    return list(thin(journal.records(RUN, kinds=(Samples, Thinned)), spans, stretch))


def thinned(journal: MemoryJournal, stretch: int = STRETCH) -> MemoryJournal:
    for one in replacements(journal, stretch):
        journal.thin(RUN, one.first, one.last, one.thinned)
    return journal


losses = st.lists(
    st.floats(0.0, 10.0) | st.sampled_from([math.nan, math.inf, -math.inf]),
    min_size=1,
    max_size=2000,
)


@settings(max_examples=60)
@given(losses, st.lists(st.integers(1, 400), min_size=1))
def test_of_each_stretch_the_extremes_are_left_however_it_was_batched(
    found: list[float], sizes: list[int]
) -> None:
    whole = coarser([batch(1, found)])
    parts, place = [], 0
    while place < len(found):
        size = sizes[len(parts) % len(sizes)]
        parts.append(batch(1 + place, found[place : place + size]))
        place += size
    assert repr(coarser(parts)) == repr(whole)
    left = dict(zip(whole.seq, whole.rows.loss, strict=True))
    heights = [math.inf if math.isnan(loss) else loss for loss in found]
    for begin in range(0, len(found) + 1, STRETCH):  # stretches are of numbers, from 1
        seqs = range(max(begin, 1), min(begin + STRETCH, len(found) + 1))
        there = [seq for seq in seqs if seq in left]
        if seqs:
            assert min(heights[seq - 1] for seq in seqs) == min(heights[s - 1] for s in there)
            assert max(heights[seq - 1] for seq in seqs) == max(heights[s - 1] for s in there)
            assert len(there) <= 4
    assert whole.seq[-1] == len(found)
    assert (whole.first_seq, whole.next_seq, whole.train) == (1, len(found) + 1, len(found))
    assert whole.rows.step == tuple(seq - 1 for seq in whole.seq)


@settings(max_examples=30)
@given(losses)
def test_thinning_twice_is_thinning_once_to_the_longer_stretch(found: list[float]) -> None:
    first, second = batch(1, found), batch(1 + len(found), found[::-1])
    once = coarser([first, second], 4 * STRETCH)
    twice = coarser([coarser([first]), coarser([second])], 4 * STRETCH)
    heights = [[math.inf if math.isnan(x) else x for x in thin.rows.loss] for thin in (once, twice)]
    assert (min(heights[0]), max(heights[0])) == (min(heights[1]), max(heights[1]))
    assert (once.train, once.next_seq, once.seq[-1]) == (twice.train, twice.next_seq, twice.seq[-1])


def test_learning_rates_stay_with_their_samples() -> None:
    lrs = [0.1 / (1 + i) for i in range(600)]
    left = coarser([batch(1, [math.sin(i) for i in range(600)], lrs=lrs)])
    assert [row[0] for row in left.rows.lrs] == [lrs[seq - 1] for seq in left.seq]
    mixed = coarser([batch(1, [1.0] * 300), batch(301, [1.0] * 300, lrs=lrs[:300])])
    assert mixed.rows.lrs[0] == (0.1,)
    assert mixed.rows.lrs[-1] == (lrs[299],)


def test_validations_are_few_and_stay() -> None:
    validation = [i % 100 == 99 for i in range(3000)]
    left = coarser([batch(1, [float(i) for i in range(3000)], validation=validation)])
    kept = [seq for seq, is_it in zip(left.seq, left.rows.validation, strict=True) if is_it]
    assert kept == list(range(100, 3001, 100))
    assert left.train == 2970


def test_what_is_around_evidence_stays_whole() -> None:
    """A long run with one decision: its signal, its receipt, and its outcome 900 steps later."""
    signal = Signal(SignalKind.DIVERGENCE, step=20_000, since=19_700, severity=0.5, evidence={})
    decision = Decision(1, Action.CUT, "because", 20_001, 0, signal)
    receipt = Receipt(1, DecisionStatus.APPLIED, 20_004, 0, 0, (0.1,), (0.03,))
    outcome = Outcome(1, "better", 0.4, 900, 2.0, 1.0)
    events: list[Event] = [opened("t1")]
    for first in range(1, 60_001, 20):
        events.append(batch(first, [math.sin(first + i) for i in range(20)]))
        if first == 20_001:
            events += [SignalSeen(signal), Decided(decision), ReceiptArrived("t1", 1, receipt)]
        if first == 21_001:
            events.append(OutcomeMeasured(outcome))
    before = journal_of(*events)
    after = thinned(journal_of(*events))
    held = {
        step
        for r in after.records(RUN, kinds=[Samples])
        if isinstance(r.event, Samples)
        for step in r.event.step
    }
    needed = range(19_700 - AROUND, 20_904 + AROUND + 1)
    assert held >= set(needed)
    assert len(held) < len(needed) + 3 * 20
    others = [r for r in before.records(RUN) if not isinstance(r.event, Samples)]
    assert [r for r in after.records(RUN) if not isinstance(r.event, Samples | Thinned)] == others
    assert sum(1 for _ in after.records(RUN)) < 0.05 * len(events)
    assert after.size() < 0.1 * before.size()


def test_attempts_are_thinned_each_for_itself() -> None:
    events: list[Event] = []
    for number in range(3):
        events.append(opened(f"t{number}", number * 500))
        events += [batch(1 + k, [1.0] * 10, f"t{number}") for k in range(0, 1000, 10)]
    left = [r.event for r in thinned(journal_of(*events)).records(RUN, kinds=[Thinned])]
    assert [event.attempt for event in left if isinstance(event, Thinned)] == ["t0", "t1", "t2"]


def test_coarse_records_are_of_bounded_length() -> None:
    events = [batch(1 + k, [1.0] * 4096) for k in range(0, 10 * MOST, 4096)]
    found = replacements(journal_of(*events))
    covered = [one.thinned.next_seq - one.thinned.first_seq for one in found]
    assert sum(covered) == 10 * MOST
    assert max(covered) <= MOST + 4096
    assert all(a.last < b.first for a, b in pairwise(found))


def test_nothing_is_left_to_do_where_it_was_thinned() -> None:
    journal = thinned(journal_of(*(batch(1 + k, [1.0] * 50) for k in range(0, 5000, 50))))
    assert replacements(journal) == []
    [coarse] = replacements(journal, 4 * STRETCH)
    assert len(coarse.thinned.seq) < sum(
        len(r.event.seq) for r in journal.records(RUN) if isinstance(r.event, Thinned)
    )


def test_a_tiny_batch_between_evidence_stays_as_it_is() -> None:
    assert replacements(journal_of(batch(1, [1.0]))) == []


@pytest.mark.parametrize("spike", [3.5, math.nan])
def test_the_story_of_a_thinned_run_is_the_story_of_the_run(spike: float) -> None:
    """Counts, step, LR and the shape of the curve stay; only what is held one by one shrinks."""
    events: list[Event] = [opened("t1")]
    for first in range(1, 40_001, 50):
        found = [
            2.0 + math.sin(k / 3000) + 0.01 * math.sin(k * k) for k in range(first, first + 50)
        ]
        if first == 30_001:
            found[7] = spike
        events.append(batch(first, found, lrs=[0.1 - first * 1e-6]))
    before = tell(RUN, journal_of(*events).records(RUN))
    after = tell(RUN, thinned(journal_of(*events)).records(RUN))
    assert (after.received, after.step, after.lrs) == (40_000, 40_000, before.lrs)
    assert (before.thinned, after.to_json()["telemetry"]) == (
        None,
        {"received": 40_000, "dropped": 0, "thinned": 40_000, "thinned_steps": [0, 39_999]},
    )
    heights = [
        {point.step: math.inf if math.isnan(point.loss) else point.loss for point in told.points}
        for told in (before, after)
    ]
    assert 30_007 in heights[1]
    assert min(heights[1].values()) == min(heights[0].values())
    assert max(heights[1].values()) == max(heights[0].values())
    # A curve through what is left lies within the noise of the curve through all.
    for step, height in heights[1].items():
        if step != 30_007:
            assert height == pytest.approx(2.0 + math.sin((step + 1) / 3000), abs=0.011)
    steps = sorted(heights[1])
    assert max(b - a for a, b in pairwise(steps)) <= 2 * STRETCH


def test_a_run_thinned_but_for_its_end_has_an_even_curve() -> None:
    """What is left of a stretch stands for all of it, beside telemetry that is held whole."""
    old = [
        batch(1 + k, [math.sin((k + i) ** 2) for i in range(500)]) for k in range(0, 90_000, 500)
    ]
    new = [batch(90_001 + k, [math.sin(k + i) for i in range(500)]) for k in range(0, 10_000, 500)]
    journal = thinned(journal_of(opened("t1"), *old))
    journal.append([(RUN, 0.0, event) for event in new])
    points = tell(RUN, journal.records(RUN), points=100).points
    assert 50 <= len(points) <= 100
    recent = sum(point.step >= 90_000 for point in points)
    assert 0.05 <= recent / len(points) <= 0.2
