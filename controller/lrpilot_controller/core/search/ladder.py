"""The ladder: candidates a constant factor apart, compared by short programs.

Each program begins at the same state and replays the same batches: half of it at the candidate's
LR, then a straight line to 0, because a high LR's progress shows only once its noise is annealed
away. Its score is the mean loss of the last quarter.
"""

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from lrpilot_controller.core.plans import Segment, Shape, StopRule
from lrpilot_controller.core.search.job import Prober
from lrpilot_controller.core.search.probe import Origin, Phase, Probe, Probing, Result, held, mean
from lrpilot_controller.core.search.reference import Reference

NOTCH = 0.5  # of a decade between neighbours
BUDGET = 4.0  # programs, before the last one at half a notch
DIVERGED_COSTS = 0.25  # of a program, at least, however early it ends
FINE = 0.13  # of a decade: nearer neighbours cannot be told apart
TRAILS_BELOW = 0.1  # of the leader's progress, behind which a lower LR is given up half-way
TRAILS_ABOVE = 2.0  # in units of noise, above the start or the leader, for a higher LR
LOST = 2.0  # in units of noise above the start, at the end of a program: it was blowing up
# Standard errors that a lower LR may lie beyond that margin where programs were made longer: there
# noise hides the progress that the margin is a share of.
TRAILS_SLACK = 2.0
REFUTES = 0.1  # of its own progress: by less, an LR is not another one
VISIBLE = 0.05  # of the noise: losses on the same batches differ by less at an LR next to none
SHARP = 0.06  # of the progress: the standard error that a score is to have
LOOKS_SHARE = 0.35  # of a program's steps, at most
# Standard errors of the (paired) difference by which a lower LR must win: nothing makes a short
# program look as good as noise does, and an LR that is too low costs the whole run.
CLEARLY = 2.0
# Standard errors of fall over half a program. Below it programs would be compared by their noise;
SIGNAL = 2.0
LONGER = 2.5  # so they are made so many times as long, in which progress grows and noise averages
MOST = 80  # steps, however: four such programs are a tenth of a run of some 3000
# Standard errors in its favour that a candidate is given before it is given up half-way, where its
# batches are not those of the leader.
UNPAIRED_SLACK = 2.0
BLOW_UP = 2.0  # of the greatest fall so far, over the worst loss before training
LEAST_FALL = 5.0  # in units of noise: what that fall is taken for at least


@dataclass(slots=True)
class Ladder:
    """Candidates by log10 of their LR: their scores (infinite: diverged) and costs in steps.

    `fall` is what the range test saw. Of those that ran whole, also the mean loss before the middle
    (`halfway`) and the losses that the score is the mean of (`tails`). `choose` picks the winner so
    far; `correct` gives the correction after programs of so many steps. `long` says that programs
    were made longer, `looks` how often each is looked at after its end. `kept` is the candidate
    whose end state is kept; `live` the one whose end state training is in.
    """

    reference: Reference
    fall: float
    steps: int
    choose: Callable[["Ladder"], float | None]
    correct: Callable[[int], float]
    replay: bool = True
    scores: dict[float, float] = field(default_factory=dict)
    costs: dict[float, int] = field(default_factory=dict)
    halfway: dict[float, float] = field(default_factory=dict)
    tails: dict[float, tuple[float, ...]] = field(default_factory=dict)
    long: bool = False
    looks: int | None = None
    kept: float | None = None
    live: float | None = None

    @property
    def correction(self) -> float:
        """What makes a program's best LR that of the whole run."""
        return self.correct(self.steps)

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

    def _beats(self, x: float, other: float) -> bool:
        """Whether one is better than another one by more than the noise of the pair."""
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
        low, high = (round(math.log10(lr), 6) for lr in (prober.job.low, prober.job.high))
        first = round(math.log10(prober.within(anchor)), 6)
        left, todo = BUDGET, [first]
        if first > low:
            todo.append(round(max(first - NOTCH, low), 6))
        while todo and left > 0:
            x = todo.pop(0)
            yield from self._try(prober, x)
            left -= max(self.costs[x] / self.steps, DIVERGED_COSTS)
            if not todo and (further := self._further(low, high)) is not None:
                todo.append(round(further, 6))
        finer = self._half_notch()
        if finer is not None:
            yield from self._try(prober, round(finer, 6))
        while self.best is None and low <= (edge := self._edge) - NOTCH < math.inf:
            # All that ran whole turned out to lie above one that diverged: below it, then.
            yield from self._try(prober, round(edge - NOTCH, 6))

    def beside(self, prober: Prober, anchor: float, distance: float) -> Probing[float | None]:
        """Try `anchor` and one on either side, until another one is clearly better.

        Returns:
            Its place where it stands; None where it does not, or diverged.
        """
        low, high = (round(math.log10(lr), 6) for lr in (prober.job.low, prober.job.high))
        x = round(math.log10(prober.within(anchor)), 6)
        others = [round(max(x - distance, low), 6), round(min(x + distance, high), 6)]
        for place in [x, *(other for other in others if other != x)]:
            yield from self._try(prober, place)
            if x not in self.whole or any(self._refutes(y, x) for y in self.whole):
                return None
        return x

    def above(self, x: float) -> bool:
        """Whether it is visibly better than the next lower one: lower is not as good."""
        below = max((y for y in self.scores if y < x), default=None)
        if below is None or below not in self.whole:
            return below is not None  # given up half-way
        gain = self.scores[below] - self.scores[x]
        return self._beats(x, below) and gain > VISIBLE * self.reference.noise

    def _refutes(self, x: float, other: float) -> bool:
        """Whether one is so much better than another one that this cannot be right."""
        gain = self.scores[other] - self.scores[x]
        return self._beats(x, other) and gain > REFUTES * (self.reference.level - self.scores[x])

    @property
    def _edge(self) -> float:
        """The lowest candidate that diverged; infinite where none did."""
        return min((x for x, score in self.scores.items() if score == math.inf), default=math.inf)

    def _further(self, low: float, high: float) -> float | None:
        """The next candidate outside; None where the best has a neighbour on either side."""
        tried, best = sorted(self.scores), self.best
        if tried[0] > low and best in (None, tried[0]):
            return max(tried[0] - NOTCH, low)
        if best == tried[-1] and best < high:
            return min(best + NOTCH, high)
        return None

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
        self.costs[x] = 0
        self.scores[x] = yield from self._score(prober, x)
        for tried in self.scores:  # a dead network can score better than the diverged one below it
            if any(x < tried and s == math.inf for x, s in self.scores.items()):
                self.scores[tried] = math.inf
        self.live = x
        if (winner := self.choose(self)) is not None:
            prober.safe = prober.within(10**winner * self.correction)

    def _score(self, prober: Prober, x: float) -> Probing[float]:
        """Run a candidate's program; an estimate where it is given up half-way."""
        leader = self.best
        middle = yield from self._first_half(prober, x)
        if middle == math.inf:
            return middle
        if leader is not None and self._trails(x, middle, leader):
            return self.scores[leader] + middle - self.halfway[leader]
        tail = yield from self._second_half(prober, x)
        score = mean(tail)
        if score > self.reference.level + LOST * self.reference.noise:
            return math.inf
        self.halfway[x], self.tails[x] = middle, tail
        return score

    def _first_half(self, prober: Prober, x: float) -> Probing[float]:
        """The mean loss just before the middle; infinite where it diverged."""
        half = self.steps // 2
        losses = yield from self._hold(prober, x, half, Origin.START, keep=self._keep())
        middle = mean(losses[half // 2 :])
        if middle == math.inf or self.whole or self.long:
            return middle
        if not self._unclear(middle, half - half // 2):
            return middle
        self.long = True
        self.steps = min(round(LONGER * self.steps), MOST)
        if (more := self.steps // 2 - half) > 0:
            losses += yield from self._hold(prober, x, more, Origin.LIVE)
            middle = mean(losses[self.steps // 4 :])
        return middle

    def _hold(
        self, prober: Prober, x: float, steps: int, origin: Origin, *, keep: bool = False
    ) -> Probing[tuple[float, ...]]:
        """The losses at a candidate's LR; infinite where it diverged."""
        lr = self._lr(prober, x)
        probe = Probe(Phase.LADDER, lr, held(lr, steps), steps, self._stop, origin, keep)
        result = yield from self._run(prober, x, probe)
        self.live = None
        return result.losses if result.complete else (math.inf,) * steps

    def _second_half(self, prober: Prober, x: float) -> Probing[tuple[float, ...]]:
        """The losses that the score is the mean of; infinite where it diverged."""
        lr, steps = self._lr(prober, x), self.steps - self.steps // 2
        decay = (Segment(Shape.LINEAR, 0, steps, lr * steps / (steps + 1), 0.0),)
        probe = Probe(Phase.LADDER, lr, decay, steps, self._stop, Origin.LIVE)
        result = yield from self._run(prober, x, probe)
        if not result.complete:
            return (math.inf,)
        tail = result.losses[-max(4, self.steps // 4) :]
        if not self.replay and (more := self._looks(tail)):
            probe = Probe(Phase.LADDER, lr, held(0.0, more), more, self._stop, Origin.LIVE)
            looked = yield from self._run(prober, x, probe)
            tail += looked.losses
        return tail

    def _run(self, prober: Prober, x: float, probe: Probe) -> Probing[Result]:
        result = yield from prober.run(probe)
        self.costs[x] += len(result.losses)
        return result

    @property
    def _stop(self) -> StopRule:
        """The loss above which a program has diverged: the more was learnt, the higher."""
        fall = max(self.fall, self.progress, LEAST_FALL * self.reference.noise)
        return StopRule(loss_cap=self.reference.worst + BLOW_UP * fall)

    @staticmethod
    def _lr(prober: Prober, x: float) -> float:
        return prober.within(10**x)

    def _looks(self, tail: tuple[float, ...]) -> int:
        """Steps at LR 0 after a program, so many that its score can be told from the others'.

        The first program that ran whole decides for all.
        """
        if self.looks is None:
            progress = max(self.reference.level - mean(tail), self.reference.noise / 2)
            needed = (self.reference.noise / (SHARP * progress)) ** 2 - len(tail)
            self.looks = math.ceil(min(max(needed, 0.0), LOOKS_SHARE * self.steps))
        return self.looks

    def _trails(self, x: float, middle: float, leader: float) -> bool:
        """Whether a candidate is so far behind half-way that the rest would be wasted."""
        noise, ahead = self.reference.noise, self.halfway[leader]
        if not self.replay:
            middle -= UNPAIRED_SLACK * noise / math.sqrt(self.steps // 4)
        if x < leader:
            margin = TRAILS_BELOW * max(self.reference.level - ahead, 0.0)
            if self.long:
                margin += TRAILS_SLACK * noise / math.sqrt(self.steps / 4)
            return middle > ahead + margin
        return middle > max(ahead, self.reference.level) + TRAILS_ABOVE * noise

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
