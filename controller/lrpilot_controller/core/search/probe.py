"""What a search asks a trainer to run, and what comes back."""

import math
from collections.abc import Generator
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from lrpilot_controller.core.plans import Segment, Shape, StopRule

NON_FINITE_ONLY = StopRule()
HUGE = 1e100  # a loss beyond it is as good as infinite; below it, squares and sums are numbers


class Phase(StrEnum):
    """The parts of a search, in their order."""

    REFERENCE = "reference"
    RESPONSE = "response"
    RANGE_TEST = "range test"
    LADDER = "ladder"
    CHECK = "check"
    TRIAL = "trial"


class Origin(StrEnum):
    """The state that a probe begins from: where the search began, or where the last probe ended."""

    START = "start"
    LIVE = "live"


@dataclass(frozen=True, slots=True)
class Probe:
    """A few training steps at LRs that count from the probe's first step.

    `keep` says that the state which the probe before this one ended in is kept, in place of what
    was kept before. `lr` is the candidate, for people.
    """

    phase: Phase
    lr: float
    segments: tuple[Segment, ...]
    length: int
    stop: StopRule = NON_FINITE_ONLY
    origin: Origin = Origin.START
    keep: bool = False


@dataclass(frozen=True, slots=True)
class Result:
    """The loss of each step that a probe ran, before its update, and why it ended."""

    losses: tuple[float, ...]
    stop_reason: str = "length"

    @property
    def complete(self) -> bool:
        """Whether the probe ran its whole length, with finite losses."""
        return self.stop_reason == "length" and all(map(math.isfinite, self.losses))

    def of(self, length: int) -> "Result":
        """The same for a probe of this length: losses that can be reckoned with, at least one."""
        losses = tuple(math.inf if abs(loss) > HUGE else loss for loss in self.losses[:length])
        short = self.stop_reason == "length" and len(losses) < length
        return Result(losses or (math.inf,), "short" if short else self.stop_reason)


T = TypeVar("T")
Probing = Generator[Probe, Result, T]
"""A part of a search: yields probes, is sent their results, and returns what it found."""


def held(lr: float, steps: int) -> tuple[Segment, ...]:
    """A constant LR."""
    return (Segment(Shape.CONSTANT, 0, steps, lr, lr),)


def mean(values: tuple[float, ...]) -> float:
    """The mean; infinite where a value is not finite."""
    if not all(map(math.isfinite, values)):
        return math.inf
    return math.fsum(values) / len(values)
