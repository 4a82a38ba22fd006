"""Plans, and the programs that a trainer carries out by itself, as values."""

from dataclasses import dataclass, replace
from enum import StrEnum


class PlanKind(StrEnum):
    """How a plan's values are meant: a factor on the native LR, or the LR of the first group."""

    SCALE = "scale"
    REPLACE = "replace"


class Shape(StrEnum):
    """The curve of a segment between its start and end value."""

    CONSTANT = "constant"
    LINEAR = "linear"
    COSINE = "cosine"
    ONE_MINUS_SQRT = "one_minus_sqrt"
    EXPONENTIAL = "exponential"
    STEP = "step"
    CYCLICAL = "cyclical"


class Batches(StrEnum):
    """What a program trains on: new batches, or those that every program of a search replays."""

    FRESH = "fresh"
    REPLAYED = "replayed"


@dataclass(frozen=True, slots=True)
class Segment:
    """One closed-form piece of a plan over the steps [start, end).

    `count` is the number of stairs or cycles, for the shapes that have them.
    """

    shape: Shape
    start: int
    end: int
    start_value: float
    end_value: float
    count: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """Segments in order; the last one holds its end value for ever."""

    kind: PlanKind
    segments: tuple[Segment, ...]

    @classmethod
    def scale(cls, factor: float, start: int) -> "Plan":
        """A constant factor on the native LR from `start` on."""
        segment = Segment(Shape.CONSTANT, start, start + 1, factor, factor)
        return cls(PlanKind.SCALE, (segment,))

    @classmethod
    def constant(cls, lr: float, start: int) -> "Plan":
        """This LR of the first param group from `start` on."""
        segment = Segment(Shape.CONSTANT, start, start + 1, lr, lr)
        return cls(PlanKind.REPLACE, (segment,))

    def times(self, factor: float) -> "Plan":
        """The same curve, every value multiplied."""
        return replace(
            self,
            segments=tuple(
                replace(s, start_value=s.start_value * factor, end_value=s.end_value * factor)
                for s in self.segments
            ),
        )

    @property
    def end_value(self) -> float:
        """The value that the plan comes to rest at."""
        return self.segments[-1].end_value


@dataclass(frozen=True, slots=True)
class StopRule:
    """When a program ends before its length is run: a non-finite loss is above every cap.

    `loss_cap` bounds each loss, `ema_cap` the moving average with weight `ema_decay` of the past,
    `ema_rise` how far that average may be above its own lowest value.
    """

    non_finite: bool = True
    loss_cap: float | None = None
    ema_cap: float | None = None
    ema_decay: float = 0.0
    ema_rise: float | None = None


@dataclass(frozen=True, slots=True)
class Program:
    """A probe that the trainer carries out by itself.

    `id` is the id of the decision that brings it. The segments count from its first step and hold
    LRs of the first param group. `phase`, `lr` (the candidate) and `share` (of the search's budget
    that is spent so far, 0..1) are for people.
    """

    id: int
    segments: tuple[Segment, ...]
    length: int
    fallback: Plan
    stop: StopRule = StopRule()
    restore_snapshot: int | None = None
    restore_at_end: bool = False
    batches: Batches = Batches.FRESH
    fallback_snapshot: int | None = None
    phase: str = ""
    lr: float = 0.0
    share: float = 0.0
