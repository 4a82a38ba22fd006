"""The ladder: candidates a constant factor apart, compared by short programs.

Each program begins at the same state and replays the same batches: half of it at the candidate's
LR, then a straight line to 0, because a high LR's progress shows only once its noise is annealed
away. Its score is the mean loss of the last quarter.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from lrpilot_controller.core.findings import Reach
from lrpilot_controller.core.plans import Segment, Shape, StopRule
from lrpilot_controller.core.search.job import Prober
from lrpilot_controller.core.search.probe import Origin, Phase, Probe, Probing, Result, held, mean
from lrpilot_controller.core.search.standings import Standings

NOTCH = 0.5  # of a decade between neighbours
BUDGET = 4.0  # programs, before the last one at half a notch
DIVERGED_COSTS = 0.25  # of a program, at least, however early it ends
FINE = 0.13  # of a decade: nearer neighbours cannot be told apart
LOST = 2.0  # in units of noise above the start, at the end of a program: it was blowing up
SHARP = 0.06  # of the progress: the standard error that a score is to have
LOOKS_SHARE = 0.35  # of a program's steps, at most
# Standard errors of fall over half a program. Below it programs would be compared by their noise;
SIGNAL = 2.0
LONGER = 2.5  # so they are made so many times as long, in which progress grows and noise averages
MOST = 80  # steps, however: four such programs are a tenth of a run of some 3000
BLOW_UP = 2.0  # of the greatest fall so far, over the worst loss before training
LEAST_FALL = 5.0  # in units of noise: what that fall is taken for at least


@dataclass(slots=True)
class Ladder:
    """Runs the programs of candidates, each by log10 of its LR.

    `fall` is what the range test saw, `steps` how long a program is. `choose` picks the winner so
    far; `correct` gives the correction after programs of so many steps. `looks` says how often each
    is looked at after its end. `kept` is the candidate whose end state is kept; `live` the one
    whose end state training is in.
    """

    standings: Standings
    fall: float
    steps: int
    choose: Callable[[Standings], float | None]
    correct: Callable[[int], float]
    looks: int | None = None
    kept: float | None = None
    live: float | None = None

    @property
    def correction(self) -> float:
        """What makes a program's best LR that of the whole run."""
        return self.correct(self.steps)

    def climb(self, prober: Prober, anchor: float) -> Probing[None]:
        """Try candidates from `anchor` on, in the winning direction, until bracketed."""
        standings = self.standings
        low, high = (round(math.log10(lr), 6) for lr in (prober.job.low, prober.job.high))
        first = round(math.log10(prober.within(anchor)), 6)
        left, todo = BUDGET, [first]
        if first > low:
            todo.append(round(max(first - NOTCH, low), 6))
        while todo and left > 0:
            x = todo.pop(0)
            yield from self._try(prober, x)
            left -= max(standings.costs[x] / self.steps, DIVERGED_COSTS)
            if not todo and (further := self._further(low, high)) is not None:
                todo.append(round(further, 6))
        finer = self._half_notch()
        if finer is not None:
            yield from self._try(prober, round(finer, 6))
        while standings.best is None and low <= (edge := standings.edge) - NOTCH < math.inf:
            # All that ran whole turned out to lie above one that diverged: below it, then.
            yield from self._try(prober, round(edge - NOTCH, 6))

    def again(
        self, prober: Prober, program: Reach, stands: Callable[[Reach], bool | None]
    ) -> Probing[Reach | None]:
        """Run a program that another run ran, until it is told whether its progress `stands`.

        Returns:
            How far it came where it stands, half-way or at its end; None where it does not.
        """
        x, standings = math.log10(program.lr), self.standings
        self.steps, standings.long = program.steps, True
        standings.costs[x], standings.scores[x] = 0, math.inf
        middle = yield from self._first_half(prober, x)
        if middle == math.inf:
            return None
        level = standings.reference.level
        came = Reach(program.lr, self.steps, standings.at_once.get(x, 0.0), level - middle)
        standings.scores[x], verdict = middle, stands(came)
        if verdict is None:
            standings.scores[x] = mean((yield from self._second_half(prober, x)))
            came = replace(came, end=level - standings.scores[x])
            verdict = stands(came)
        return came if verdict else None

    def came(self, x: float) -> Reach:
        """How far a program came that ran whole."""
        standings, level = self.standings, self.standings.reference.level
        falls = (
            standings.at_once.get(x, 0.0),
            level - standings.halfway[x],
            level - standings.scores[x],
        )
        return Reach(10**x, self.steps, *falls)

    def _further(self, low: float, high: float) -> float | None:
        """The next candidate outside; None where the best has a neighbour on either side."""
        tried, best = sorted(self.standings.scores), self.standings.best
        if tried[0] > low and best in (None, tried[0]):
            return max(tried[0] - NOTCH, low)
        if best == tried[-1] and best < high:
            return min(best + NOTCH, high)
        return None

    def _half_notch(self) -> float | None:
        """Between the best and its better neighbour, or up to a diverged one: that is cheap."""
        scores, best = self.standings.scores, self.standings.best
        if best is None:
            return None
        tried = sorted(scores)
        i = tried.index(best)
        above = tried[i + 1] if i + 1 < len(tried) else None
        if above is not None and scores[above] == math.inf and above - best > FINE:
            return (best + above) / 2
        near = [x for x in tried[max(i - 1, 0) : i + 2] if abs(x - best) > FINE]
        if not near:
            return None
        return (best + min(near, key=scores.__getitem__)) / 2

    def _try(self, prober: Prober, x: float) -> Probing[None]:
        self.standings.costs[x] = 0
        score = yield from self._score(prober, x)
        self.standings.enter(x, score)
        self.live = x
        if (winner := self.choose(self.standings)) is not None:
            prober.safe = prober.within(10**winner * self.correction)

    def _score(self, prober: Prober, x: float) -> Probing[float]:
        """Run a candidate's program; an estimate where it is given up half-way."""
        standings, start = self.standings, self.standings.reference
        middle = yield from self._first_half(prober, x)
        if middle == math.inf:
            return middle
        if standings.trails(x, middle, self.steps):
            return standings.estimate(middle)
        tail = yield from self._second_half(prober, x)
        score = mean(tail)
        if score > start.level + LOST * start.noise:
            return math.inf
        standings.halfway[x], standings.tails[x] = middle, tail
        return score

    def _first_half(self, prober: Prober, x: float) -> Probing[float]:
        """The mean loss just before the middle; infinite where it diverged."""
        half = self.steps // 2
        losses = yield from self._hold(prober, x, half, Origin.START, keep=self._keep())
        middle = mean(losses[half // 2 :])
        if middle < math.inf and self.standings.replay:
            self.standings.at_once[x] = self.standings.reference.fall(losses)
        if middle == math.inf or self.standings.whole or self.standings.long:
            return middle
        if not self._unclear(middle, half - half // 2):
            return middle
        self.standings.long = True
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
        if not self.standings.replay and (more := self._looks(tail)):
            probe = Probe(Phase.LADDER, lr, held(0.0, more), more, self._stop, Origin.LIVE)
            looked = yield from self._run(prober, x, probe)
            tail += looked.losses
        return tail

    def _run(self, prober: Prober, x: float, probe: Probe) -> Probing[Result]:
        result = yield from prober.run(probe)
        self.standings.costs[x] += len(result.losses)
        return result

    @property
    def _stop(self) -> StopRule:
        """The loss above which a program has diverged: the more was learnt, the higher."""
        start = self.standings.reference
        fall = max(self.fall, self.standings.progress, LEAST_FALL * start.noise)
        return StopRule(loss_cap=start.worst + BLOW_UP * fall)

    @staticmethod
    def _lr(prober: Prober, x: float) -> float:
        return prober.within(10**x)

    def _looks(self, tail: tuple[float, ...]) -> int:
        """Steps at LR 0 after a program, so many that its score can be told from the others'.

        The first program that ran whole decides for all.
        """
        if self.looks is None:
            start = self.standings.reference
            progress = max(start.level - mean(tail), start.noise / 2)
            needed = (start.noise / (SHARP * progress)) ** 2 - len(tail)
            self.looks = math.ceil(min(max(needed, 0.0), LOOKS_SHARE * self.steps))
        return self.looks

    def _unclear(self, middle: float, count: int) -> bool:
        start = self.standings.reference
        error = start.noise * math.sqrt(1 / len(start.losses) + 1 / count)
        return start.level - middle < SIGNAL * error

    def _keep(self) -> bool:
        """Whether the state that training is in is the one to keep so far."""
        if self.live not in self.standings.whole or self.choose(self.standings) != self.live:
            return False
        self.kept = self.live
        return True
