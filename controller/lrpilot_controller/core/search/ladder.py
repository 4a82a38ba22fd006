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
TRAILS_SLACK = 2.0
SHARP = 0.06  # of the progress: the standard error that a score is to have
LOOKS_SHARE = 0.35  # of a program's steps, at most
CLEARLY = 2.0
SIGNAL = 2.0
UNPAIRED_SLACK = 2.0  # standard errors
LONGER = 2.5
MOST = 80
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
    correct: Callable[[int], float]
    replay: bool = True
    scores: dict[float, float] = field(default_factory=dict)
    costs: dict[float, int] = field(default_factory=dict)
    halfway: dict[float, float] = field(default_factory=dict)
    whole: set[float] = field(default_factory=set)
    tails: dict[float, tuple[float, ...]] = field(default_factory=dict)
    correction: float = field(init=False)
    begun: set[float] = field(default_factory=set)
    long: bool = False
    looks: int | None = None
    kept: float | None = None
    live: float | None = None

    def __post_init__(self) -> None:
        self.correction = self.correct(self.steps)

    @property
    def best(self) -> float | None:
        """The candidate with the lowest score; None while all diverged."""
        leader = None
        for x in sorted(self.whole, reverse=True):
            if self.scores[x] < math.inf and (leader is None or self._beats(x, leader)):
                leader = x
        return leader

    def _beats(self, x: float, other: float) -> bool:
        """Whether a lower LR is better than a higher one, by more than the noise of the pair."""
        gain = self.scores[other] - self.scores[x]
        return gain > CLEARLY * self._error(x, other)

    def _error(self, x: float, other: float) -> float:
        """The standard error of the difference of two scores."""
        if not self.replay:
            return math.hypot(self.error(x), self.error(other))
        return _standard_error(
            tuple(b - a for a, b in zip(self.tails[x], self.tails[other], strict=True))
        )

    def error(self, x: float) -> float:
        """The standard error of a score that stands alone."""
        return _standard_error(self.tails[x])

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
        if x in self.begun:
            self.whole.add(x)
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
        if not self.whole and not self.long and self._unclear(middle, half - half // 2):
            self.long = True
            self.steps = min(round(LONGER * self.steps), MOST)
            self.correction = self.correct(self.steps)
            more = self.steps // 2 - half
            if more > 0:
                half, tail = self.steps // 2, self.steps - self.steps // 2
                further = yield from prober.run(
                    Probe(Phase.LADDER, lr, held(lr, more), more, stop, Origin.LIVE)
                )
                self.costs[x] += more
                if not further.complete:
                    return math.inf
                middle = mean((first.losses + further.losses)[half // 2 :])
        if leader is not None and self._trails(x, middle, leader):
            return self.scores[leader] + middle - self.halfway[leader]
        decay = (Segment(Shape.LINEAR, 0, tail, lr * tail / (tail + 1), 0.0),)
        second = yield from prober.run(Probe(Phase.LADDER, lr, decay, tail, stop, Origin.LIVE))
        self.costs[x] += len(second.losses)
        if not second.complete:
            return math.inf
        self.tails[x] = second.losses[-max(4, self.steps // 4) :]
        if not self.replay and (more := self._looks()):
            looked = yield from prober.run(
                Probe(Phase.LADDER, lr, held(0.0, more), more, stop, Origin.LIVE)
            )
            self.costs[x] += len(looked.losses)
            self.tails[x] += looked.losses
        score = mean(self.tails[x])
        if score > self.reference.level + LOST * self.reference.noise:
            return math.inf
        self.halfway[x] = middle
        self.begun.add(x)
        return score

    def _looks(self) -> int:
        """Steps at LR 0 after a program, so many that its score can be told from the others'.

        The first program that ran whole decides for all.
        """
        if self.looks is None:
            tail = next(iter(self.tails.values()))
            progress = max(self.reference.level - mean(tail), self.reference.noise / 2)
            needed = (self.reference.noise / (SHARP * progress)) ** 2 - len(tail)
            self.looks = math.ceil(min(max(needed, 0.0), LOOKS_SHARE * self.steps))
        return self.looks

    def _trails(self, x: float, middle: float, leader: float) -> bool:
        ahead = self.halfway[leader]
        if not self.replay:
            middle -= UNPAIRED_SLACK * self.reference.noise / math.sqrt(self.steps // 4)
        if x < leader:
            margin = TRAILS_BELOW * max(self.reference.level - ahead, 0.0)
            if self.long:
                margin += TRAILS_SLACK * self.reference.noise / math.sqrt(self.steps / 4)
            return middle > ahead + margin
        return middle > max(ahead, self.reference.level) + TRAILS_ABOVE * self.reference.noise

    def _unclear(self, middle: float, count: int) -> bool:
        error = self.reference.noise * math.sqrt(1 / len(self.reference.losses) + 1 / count)
        return self.reference.level - middle < SIGNAL * error

    def _keep(self) -> bool:
        """Whether the state that training is in is the one to keep so far."""
        if self.live is None or self.live not in self.whole or self.choose(self) != self.live:
            return False
        self.kept = self.live
        return True


def _standard_error(values: tuple[float, ...]) -> float:
    middle = math.fsum(values) / len(values)
    spread = math.fsum((value - middle) ** 2 for value in values) / (len(values) - 1)
    return math.sqrt(spread / len(values))


def blow_up_cap(reference: Reference, fall: float) -> float:
    """The loss above which a program has diverged."""
    return reference.worst + BLOW_UP * max(fall, LEAST_FALL * reference.noise)
