"""Telemetry made coarser: of each stretch the extremes stay, around evidence everything.

What stays is chosen so that a picture of the run keeps its shape, and so that who asks why the LR
was changed at a step finds the losses there.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrpilot_controller.core.events import (
    Decided,
    OutcomeMeasured,
    ReceiptArrived,
    Samples,
    SessionOpened,
    SignalSeen,
    Thinned,
)
from lrpilot_controller.journal.base import Record

STRETCH = 256  # samples; two of them are left
AROUND = 256  # samples before and after evidence that stay
MOST = 8192  # items that are in memory at once
LONGEST = 64  # stretches in one coarse record
VALIDATIONS = 32  # of a coarse record; up to so many stay one by one

Telemetry = Samples | Thinned
Span = tuple[int, int]

EVIDENCE = (SessionOpened, SignalSeen, Decided, ReceiptArrived, OutcomeMeasured)
"""The kinds of events that `spans_of` reads."""


@dataclass(frozen=True, slots=True)
class Replacement:
    """Records `first` to `last` as far as they are telemetry, and what comes in their place."""

    first: int
    last: int
    thinned: Thinned


def spans_of(evidence: Iterable[Record]) -> dict[str, list[Span]]:
    """The steps [from, to) of each attempt around which everything stays, oldest first."""
    found: dict[str, list[Span]] = {}
    applied: dict[int, int] = {}
    attempt = ""
    for record in evidence:
        match record.event:
            case SessionOpened(opened):
                attempt = opened.id
                continue
            case SignalSeen(signal):
                first, last = signal.since, signal.step
            case Decided(decision):
                first = last = decision.step
            case ReceiptArrived(_, _, receipt):
                first = last = applied[receipt.decision_id] = receipt.applied_step
            case OutcomeMeasured(outcome) if outcome.decision_id in applied:
                first = applied[outcome.decision_id]
                last = first + outcome.steps
            case _:
                continue
        found.setdefault(attempt, []).append((first - AROUND, last + AROUND + 1))
    return found


def newest(spans: dict[str, list[Span]], steps: int, batch: float) -> dict[str, list[Span]]:
    """The newest of these spans, as many as have that many steps together.

    A batch of so many steps stays as a whole, so a span costs about one more of them.
    """
    left = float(steps)
    found: dict[str, list[Span]] = {}
    for attempt, its in reversed(spans.items()):
        for first, last in reversed(its):
            left -= last - first + batch
            if left < 0:
                return found
            found.setdefault(attempt, []).append((first, last))
    return found


def thin(
    telemetry: Iterable[Record], spans: dict[str, list[Span]], stretch: int = STRETCH
) -> Iterator[Replacement]:
    """What comes in the place of a run's telemetry; nothing for what stays.

    Args:
        telemetry: records of `Samples` and `Thinned`, in order.
        spans: of steps around which everything stays, by attempt.
        stretch: of how many samples two are left. What was thinned to such stretches stays.
    """
    part: list[tuple[int, Telemetry]] = []
    items = 0
    for record in telemetry:
        event = record.event
        assert isinstance(event, Samples | Thinned)
        stays = _stays(event, spans.get(event.attempt, ()), stretch)
        if part and (
            stays
            or event.attempt != part[0][1].attempt
            or items > MOST
            or _span(part) > LONGEST * stretch
        ):
            yield from _replacement(part, stretch)
            part, items = [], 0
        if not stays:
            part.append((record.n, event))
            items += _items(event)
    yield from _replacement(part, stretch)


def _stays(event: Telemetry, spans: Sequence[Span], stretch: int) -> bool:
    if isinstance(event, Thinned):
        return event.stretch >= stretch
    steps = event.step
    low, high = (min(steps), max(steps)) if steps else (0, 0)
    return any(first <= high and low < last for first, last in spans)


def _replacement(part: Sequence[tuple[int, Telemetry]], stretch: int) -> Iterator[Replacement]:
    events = [event for _, event in part]
    if not part:
        return
    thinned = coarser(events, stretch)
    if sum(_items(event) for event in events) > len(thinned.seq):
        yield Replacement(part[0][0], part[-1][0], thinned)


def _span(part: Sequence[tuple[int, Telemetry]]) -> int:
    return part[-1][1].next_seq - part[0][1].first_seq


def _items(event: Telemetry) -> int:
    return len((event if isinstance(event, Samples) else event.rows).step)


def coarser(events: Sequence[Telemetry], stretch: int = STRETCH) -> Thinned:
    """Consecutive telemetry of one attempt, with the extremes of each stretch left of it."""
    parts = [event if isinstance(event, Samples) else event.rows for event in events]
    seqs = [
        range(event.first_seq, event.next_seq) if isinstance(event, Samples) else event.seq
        for event in events
    ]
    seq = np.fromiter(chain.from_iterable(seqs), np.int64)
    validation = np.fromiter(chain.from_iterable(part.validation for part in parts), np.bool_)
    loss = np.fromiter(chain.from_iterable(part.loss for part in parts), np.float64)
    loss[np.isnan(loss)] = np.inf
    train, others = np.flatnonzero(~validation), np.flatnonzero(validation)
    every = -(-2 * len(others) // VALIDATIONS) if len(others) > VALIDATIONS else 1
    left = np.union1d(
        _extremes(loss, train, seq[train] // stretch),
        _extremes(loss, others, np.arange(len(others)) // every),
    ).tolist()

    def column(name: str) -> tuple[Any, ...]:
        values = list(chain.from_iterable(getattr(part, name) for part in parts))
        return tuple(values[i] for i in left)

    lrs = list(
        chain.from_iterable(
            part.lrs * len(part.step) if len(part.lrs) == 1 else part.lrs for part in parts
        )
    )
    rows = Samples(
        attempt=parts[0].attempt,
        first_seq=events[0].first_seq,
        validation=column("validation"),
        step=column("step"),
        branch=column("branch"),
        program=column("program"),
        loss=column("loss"),
        lrs=tuple(lrs[i] for i in left),
        dropped=max(part.dropped for part in parts),
    )
    counts = [
        event.train if isinstance(event, Thinned) else event.validation.count(False)
        for event in events
    ]
    return Thinned(rows, tuple(seq[left].tolist()), events[-1].next_seq, sum(counts), stretch)


def _extremes(
    loss: NDArray[np.float64], places: NDArray[np.intp], groups: NDArray[np.int64]
) -> NDArray[np.intp]:
    """The places of each group's lowest and highest loss, and the first and last of all."""
    if not len(places):
        return places
    begins = np.flatnonzero(np.diff(groups, prepend=groups[0] - 1))
    order = np.lexsort((loss[places], groups))
    ends = np.append(begins[1:], len(places)) - 1
    chosen = np.concatenate((order[begins], order[ends], [0, len(places) - 1]))
    found: NDArray[np.intp] = places[np.unique(chosen)]
    return found
