"""What a run went back behind: steps that were undone, and those that a later attempt left."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from lrpilot_controller.story.curve import CurveSample
from lrpilot_controller.story.model import Point
from lrpilot_controller.story.trend import Mean


@dataclass(slots=True)
class AttemptTold:
    """What the fold keeps of one attempt.

    `next_seq` is where new telemetry begins: a trainer resends from its last acknowledged item, so
    what lies below was told before. `undone` holds the steps [from, to) that were undone by
    rollbacks, and by searches that began from an older state.
    """

    index: int
    start_step: int = 0
    next_seq: int = 0
    dropped: int = 0
    snapshots: dict[int, int] = field(default_factory=dict)
    undone: list[tuple[int, int]] = field(default_factory=list)

    def steps_undone(self) -> int:
        """Each step once: another rollback to the same snapshot finds some undone already."""
        total = end = 0
        for a, b in sorted(self.undone):
            total += max(b - max(a, end), 0)
            end = max(end, b)
        return total


def points_of(attempts: Sequence[AttemptTold], samples: Iterable[CurveSample]) -> tuple[Point, ...]:
    """The samples of a curve, each with whether the run went back behind it."""
    left = _left(attempts)
    return tuple(Point(s.step, s.loss, s.lr, s.probe or left(s.attempt, s.step)) for s in samples)


def means_of(
    attempts: Sequence[AttemptTold], means: Iterable[Mean]
) -> tuple[tuple[float, float], ...]:
    """The middle step and the value of each mean of which the run left no step."""
    left = _left(attempts)
    return tuple(
        ((mean.first + mean.last) / 2, mean.value)
        for mean in means
        if not left(mean.attempt, mean.last)
        and not any(a <= mean.last and mean.first < b for a, b in attempts[mean.attempt].undone)
    )


def _left(attempts: Sequence[AttemptTold]) -> Callable[[int, int], bool]:
    """Whether the run went back behind a step of an attempt; attempts are in order."""
    # A step is abandoned from where any later attempt resumed.
    ends = [math.inf] * len(attempts)
    for i in reversed(range(len(attempts) - 1)):
        ends[i] = min(ends[i + 1], attempts[i + 1].start_step)

    def left(attempt: int, step: int) -> bool:
        undone = attempts[attempt].undone
        return step >= ends[attempt] or any(a <= step < b for a, b in undone)

    return left
