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
    SessionOpened,
    SignalSeen,
)
from lrpilot_controller.core.telemetry import Samples, Thinned
from lrpilot_controller.journal.base import Record

STRETCH = 256  # samples; two of them are left
AROUND = 256  # samples before and after evidence that stay
MOST = 8192  # items that one coarse record takes in
AT_ONCE = 1024  # items from which on they are made coarser before more are read
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
    part = _Part(stretch)
    for record in telemetry:
        event = record.event
        assert isinstance(event, Samples | Thinned)
        stays = _stays(event, spans.get(event.attempt, ()), stretch)
        if stays or not part.fits(event):
            yield from part.replacement()
            part = _Part(stretch)
        if not stays:
            part.add(record.n, event)
        del record, event  # a large one is let go of before the next is read
    yield from part.replacement()


class _Part:
    """What becomes one coarse record; little of it is in memory at once."""

    def __init__(self, stretch: int) -> None:
        self._stretch = stretch
        self._events: list[Telemetry] = []
        self._first = self._last = 0
        self._items = 0  # that were taken in
        self._held = 0  # of them, not made coarser yet

    def fits(self, event: Telemetry) -> bool:
        """Whether it may be added."""
        if not self._events:
            return True
        first = self._events[0]
        span = self._events[-1].next_seq - first.first_seq
        same = event.attempt == first.attempt
        return same and self._items <= MOST and span <= LONGEST * self._stretch

    def add(self, n: int, event: Telemetry) -> None:
        """The next record."""
        self._first, self._last = self._first or n, n
        self._events.append(event)
        self._items += _items(event)
        self._held += _items(event)
        if self._held >= AT_ONCE:
            self._events, self._held = [coarser(self._events, self._stretch)], 0

    def replacement(self) -> Iterator[Replacement]:
        """What takes its place, where that is less."""
        if self._events:
            thinned = coarser(self._events, self._stretch)
            if self._items > len(thinned.seq):
                yield Replacement(self._first, self._last, thinned)


def _stays(event: Telemetry, spans: Sequence[Span], stretch: int) -> bool:
    if isinstance(event, Thinned):
        return event.stretch >= stretch
    steps = event.step
    low, high = (min(steps), max(steps)) if steps else (0, 0)
    return any(first <= high and low < last for first, last in spans)


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
    stays = np.zeros(len(loss), np.bool_)  # `np.unique` would load a package of a megabyte
    stays[_extremes(loss, train, seq[train] // stretch)] = True
    stays[_extremes(loss, others, np.arange(len(others)) // every)] = True
    left = np.flatnonzero(stays).tolist()

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
    found: NDArray[np.intp] = places[
        np.concatenate((order[begins], order[ends], [0, len(places) - 1]))
    ]
    return found
