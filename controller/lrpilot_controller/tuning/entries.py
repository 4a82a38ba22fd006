"""A trial as it is to be written, in plain values: the book of trials need not know of what."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

VERDICT = "verdict."
"""Of a study: with a trial's number behind it, what a person said of that trial.

An attribute of the study, since a trial that is finished cannot be changed any more.
"""

Identity = tuple[str, str, str, int]
"""The kind of study, the run, the attempt, and the number of the decision or search in it."""


class State(StrEnum):
    """How a trial stands, in Optuna's words."""

    RUNNING = "RUNNING"
    COMPLETE = "COMPLETE"
    FAIL = "FAIL"


@dataclass(frozen=True, slots=True)
class Home:
    """The study that a trial belongs to.

    Attributes:
        kind: `interventions`, `runs` or `probes`.
        name: Of its first part; later ones end in `/2`, `/3`...
        metric: What the value is, in a word or two.
        maximize: Whether more of it is better.
        about: The study's own attributes.
        note: What it holds and how it is to be read, in Markdown.
    """

    kind: str
    name: str
    metric: str
    maximize: bool
    about: Mapping[str, str]
    note: str


@dataclass(frozen=True, slots=True)
class Param:
    """A parameter's value within its range, on a log scale."""

    value: float
    low: float
    high: float

    @classmethod
    def of_lr(cls, lr: float) -> "Param":
        """An LR: the same range for all of them, unless this one is outside."""
        return cls(lr, min(1e-8, lr), max(10.0, lr))


@dataclass(frozen=True, slots=True)
class Entry:
    """One trial.

    Attributes:
        identity: What makes it the same trial, also in a copy that outlived its journal.
        value: Given where it is COMPLETE.
        attributes: Everything that a reviewer may want to sort or filter by.
        curve: Reads the intermediate values; called only where they are written.
        started: Wall clock in unix seconds.
        ended: Wall clock in unix seconds; None while it runs.
        note: Makes the note, in Markdown; empty for none.
        page: The study of the run's own page, which the note links to.
        verdict: What a person said of it, beginning with `good` or `bad`; empty where nobody did.
        measured: The entry with what is costly to know; called only where it is written.
    """

    home: Home
    identity: Identity
    state: State
    value: float | None
    params: Mapping[str, Param]
    attributes: Mapping[str, Any]
    curve: Callable[[], Mapping[int, float]]
    started: float
    ended: float | None = None
    note: Callable[[], str] = field(default=lambda: "")
    page: Home | None = None
    verdict: str = ""
    measured: "Callable[[Entry], Entry]" = field(default=lambda entry: entry)

    @property
    def pending(self) -> bool:
        """Whether more may come."""
        return self.state is State.RUNNING


def plain(value: Any) -> Any:
    """A value that strict JSON can hold: the dashboard's page cannot read a bare NaN."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def thinned(values: Mapping[int, float], most: int) -> dict[int, float]:
    """At most so many of the values, at equal distances, the first and the last among them."""
    items = list(values.items())
    if len(items) <= most:
        return dict(items)
    last = len(items) - 1
    return dict(items[round(i * last / (most - 1))] for i in range(most))
