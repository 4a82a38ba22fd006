"""The ladder: candidates a constant factor apart, compared by short programs.

Each program begins at the same state and replays the same batches: half of it at the candidate's
LR, then a straight line to 0, because a high LR's progress shows only once its noise is annealed
away. Its score is the mean loss of the last quarter.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from lrpilot_controller.core.model import Segment, Shape, StopRule
from lrpilot_controller.core.search.job import Prober
from lrpilot_controller.core.search.probe import (
    Origin,
    Phase,
    Probe,
    Probing,
    held,
    mean,
)
from lrpilot_controller.core.search.reference import Reference

NOTCH = 0.5  # of a decade between neighbours
BUDGET = 4.0  # programs, before the last one at half a notch
DIVERGED_COSTS = 0.25  # of a program: it ends early
FINE = 0.13  # of a decade: nearer neighbours cannot be told apart
TRAILS_BELOW = 0.1  # of the leader's progress, behind which a lower LR is given up half-way
TRAILS_ABOVE = 2.0  # in units of noise, above the start or the leader, for a higher LR
LOST = 2.0  # in units of noise above the start, at the end of a program: it was blowing up
BLOW_UP = 2.0  # of the range test's fall, over the worst loss before training
LEAST_FALL = 5.0  # in units of noise: what that fall is taken for at least


@dataclass(slots=True)
class Ladder:
    """Candidates by log10 of their LR: scores (infinite: diverged), and the LRs they were run at.

    `choose` picks the winner so far; `correction` makes its LR that of a whole run. `kept` is the
    candidate whose end state is kept; `live` the one whose end state training is in.
    """

    reference: Reference
    cap: float
    steps: int
    choose: Callable[["Ladder"], float | None]
    correction: float = 1.0
    scores: dict[float, float] = field(default_factory=dict)
    costs: dict[float, int] = field(default_factory=dict)
    halfway: dict[float, float] = field(default_factory=dict)
    whole: set[float] = field(default_factory=set)
    kept: float | None = None
    live: float | None = None

    @property
    def best(self) -> float | None:
        """The candidate with the lowest score; None while all diverged."""
        finite = {x: score for x, score in self.scores.items() if score < math.inf}
        return min(finite, key=finite.__getitem__) if finite else None

    @property
    def progress(self) -> float:
        """How far the best candidate came."""
        return 0.0 if self.best is None else self.reference.level - self.scores[self.best]

    def climb(self, prober: Prober, anchor: float) -> Probing[None]:
        """Try candidates from `anchor` on, in the winning direction, until bracketed."""
        low, high = (math.log10(lr) for lr in (prober.job.low, prober.job.high))
        first = math.log10(prober.within(anchor))
        left, todo = BUDGET, [first, first - NOTCH]
        while todo and left > 0:
            x = round(min(max(todo.pop(0), low), high), 6)
            if x in self.scores:
                break
            yield from self._try(prober, x)
            left -= DIVERGED_COSTS if self.scores[x] == math.inf else 1.0
            if not todo and (further := self._further()) is not None:
                todo.append(further)
        finer = self._half_notch()
        if finer is not None and low <= finer <= high:
            yield from self._try(prober, round(finer, 6))

    def _further(self) -> float | None:
        """The next candidate outside; None where the best has a neighbour on either side."""
        tried, best = sorted(self.scores), self.best
        if best is None or best == tried[0]:
            return tried[0] - NOTCH
        return best + NOTCH if best == tried[-1] else None

    def _half_notch(self) -> float | None:
        """Between the best and its better neighbour, or up to a diverged one: that is cheap."""
        best = self.best
        if best is None:
            return None
        tried = sorted(self.scores)
        i = tried.index(best)
        above = tried[i + 1] if i + 1 < len(tried) else None
        if above is not None and self.scores[above] == math.inf and above - best > FINE:
            return (best + above) / 2
        near = [x for x in tried[max(i - 1, 0) : i + 2] if abs(x - best) > FINE]
        if not near:
            return None
        return (best + min(near, key=self.scores.__getitem__)) / 2

    def _try(self, prober: Prober, x: float) -> Probing[None]:
        score = yield from self._score(prober, x)
        self.scores[x] = score
        for tried in self.scores:  # a dead network can score better than the diverged one below it
            if any(x < tried and s == math.inf for x, s in self.scores.items()):
                self.scores[tried] = math.inf
        self.live = x
        if (winner := self.choose(self)) is not None:
            prober.safe = prober.within(10**winner * self.correction)

    def _score(self, prober: Prober, x: float) -> Probing[float]:
        lr, half = 10**x, self.steps // 2
        tail = self.steps - half
        stop = StopRule(loss_cap=self.cap)
        leader = self.best
        keep = self._keep()
        first = yield from prober.run(
            Probe(Phase.LADDER, lr, held(lr, half), half, stop, Origin.START, keep)
        )
        self.costs[x] = len(first.losses)
        self.live = None
        if not first.complete:
            return math.inf
        middle = mean(first.losses[half // 2 :])
        if leader is not None and self._trails(x, middle, leader):
            return self.scores[leader] + middle - self.halfway[leader]
        decay = (Segment(Shape.LINEAR, 0, tail, lr * tail / (tail + 1), 0.0),)
        second = yield from prober.run(Probe(Phase.LADDER, lr, decay, tail, stop, Origin.LIVE))
        self.costs[x] += len(second.losses)
        if not second.complete:
            return math.inf
        score = mean(second.losses[-max(4, self.steps // 4) :])
        if score > self.reference.level + LOST * self.reference.noise:
            return math.inf
        self.halfway[x] = middle
        self.whole.add(x)
        return score

    def _trails(self, x: float, middle: float, leader: float) -> bool:
        ahead = self.halfway[leader]
        if x < leader:
            return middle > ahead + TRAILS_BELOW * max(self.reference.level - ahead, 0.0)
        return middle > max(ahead, self.reference.level) + TRAILS_ABOVE * self.reference.noise

    def _keep(self) -> bool:
        """Whether the state that training is in is the one to keep so far."""
        if self.live is None or self.live not in self.whole or self.choose(self) != self.live:
            return False
        self.kept = self.live
        return True


def blow_up_cap(reference: Reference, fall: float) -> float:
    """The loss above which a program has diverged."""
    return reference.worst + BLOW_UP * max(fall, LEAST_FALL * reference.noise)
