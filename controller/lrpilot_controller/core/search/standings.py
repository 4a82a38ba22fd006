"""What the candidates of a ladder scored, and which of them is better by more than noise."""

import math
from collections.abc import Collection
from dataclasses import dataclass, field

from lrpilot_controller.core.search.reference import Reference

# Standard errors of the (paired) difference by which a lower LR must win: nothing makes a short
# program look as good as noise does, and an LR that is too low costs the whole run.
CLEARLY = 2.0
TRAILS_BELOW = 0.1  # of the leader's progress, behind which a lower LR is given up half-way
TRAILS_ABOVE = 2.0  # in units of noise, above the start or the leader, for a higher LR
# Standard errors that a lower LR may lie beyond that margin where programs were made longer: there
# noise hides the progress that the margin is a share of.
TRAILS_SLACK = 2.0
# Standard errors in its favour that a candidate is given before it is given up half-way, where its
# batches are not those of the leader.
UNPAIRED_SLACK = 2.0


@dataclass(slots=True)
class Standings:
    """Candidates by log10 of their LR: their scores (infinite: diverged) and costs in steps.

    Of those that came half-way on replayed batches, also their fall on those of the reference
    (`at_once`); of those that ran whole, the mean loss before the middle (`halfway`) and the losses
    that the score is the mean of (`tails`). `replay`: all ran on the same batches, so that their
    losses are compared in pairs. `long` says that programs were made longer, as progress was
    unclear.
    """

    reference: Reference
    replay: bool = True
    long: bool = False
    scores: dict[float, float] = field(default_factory=dict)
    costs: dict[float, int] = field(default_factory=dict)
    at_once: dict[float, float] = field(default_factory=dict)
    halfway: dict[float, float] = field(default_factory=dict)
    tails: dict[float, tuple[float, ...]] = field(default_factory=dict)

    @property
    def whole(self) -> Collection[float]:
        """The candidates whose programs ran to their end."""
        return self.tails.keys()

    @property
    def best(self) -> float | None:
        """The highest candidate, or a lower one that clearly beats it; None while all diverged."""
        leader = None
        for x in sorted(self.whole, reverse=True):
            if self.scores[x] < math.inf and (leader is None or self._beats(x, leader)):
                leader = x
        return leader

    @property
    def progress(self) -> float:
        """How far the best candidate came."""
        return 0.0 if self.best is None else self.reference.level - self.scores[self.best]

    @property
    def edge(self) -> float:
        """The lowest candidate that diverged; infinite where none did."""
        return min((x for x, score in self.scores.items() if score == math.inf), default=math.inf)

    def enter(self, x: float, score: float) -> None:
        """Enter a score: all above a candidate that diverged count as diverged.

        A dead network can score better than the diverged one below it.
        """
        self.scores[x] = score
        edge = self.edge
        for tried in self.scores:
            if tried > edge:
                self.scores[tried] = math.inf

    def error(self, x: float) -> float:
        """The standard error of a score that stands alone."""
        return _standard_error(self.tails[x])

    def trails(self, x: float, middle: float, steps: int) -> bool:
        """Whether a candidate is so far behind the best that the rest would be wasted.

        Args:
            x: the candidate.
            middle: its mean loss just before the middle.
            steps: of a program.
        """
        if (leader := self.best) is None:
            return False
        noise, ahead = self.reference.noise, self.halfway[leader]
        if not self.replay:
            middle -= UNPAIRED_SLACK * noise / math.sqrt(steps // 4)
        if x < leader:
            margin = TRAILS_BELOW * max(self.reference.level - ahead, 0.0)
            if self.long:
                margin += TRAILS_SLACK * noise / math.sqrt(steps / 4)
            return middle > ahead + margin
        return middle > max(ahead, self.reference.level) + TRAILS_ABOVE * noise

    def estimate(self, middle: float) -> float:
        """The score of a candidate that is given up: as far behind the best one as half-way."""
        assert self.best is not None
        return self.scores[self.best] + middle - self.halfway[self.best]

    def _beats(self, x: float, other: float) -> bool:
        """Whether one is better than another one by more than the noise of the pair."""
        gain = self.scores[other] - self.scores[x]
        return gain > CLEARLY * self._error_between(x, other)

    def _error_between(self, x: float, other: float) -> float:
        """The standard error of the difference of two scores."""
        if not self.replay:
            return math.hypot(self.error(x), self.error(other))
        return _standard_error(
            tuple(b - a for a, b in zip(self.tails[x], self.tails[other], strict=True))
        )


def _standard_error(values: tuple[float, ...]) -> float:
    middle = math.fsum(values) / len(values)
    spread = math.fsum((value - middle) ** 2 for value in values) / (len(values) - 1)
    return math.sqrt(spread / len(values))
