"""Training jobs without a framework: noisy quadratics that carry out a search's probes."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np

from lrpilot_controller.core.plans import Segment, Shape, StopRule
from lrpilot_controller.core.search.job import Family, Job
from lrpilot_controller.core.search.probe import Origin, Probe, Probing, Result

T = TypeVar("T")
Answer = Callable[[Probe], Result]
BATCHES = 2048  # then they come again


def drive(part: Probing[T], answer: Answer) -> tuple[T, list[Probe]]:
    """Run a part of a search to its end; what it returned, and the probes that it asked for."""
    probes: list[Probe] = []
    try:
        probe = next(part)
        while True:
            probes.append(probe)
            probe = part.send(answer(probe))
    except StopIteration as stop:
        return stop.value, probes


def lr_at(segments: Sequence[Segment], step: float) -> float:
    """The LR of a step; the last segment holds its end value for ever."""
    for s in segments:
        if step < s.end:
            share = max(step - s.start, 0) / (s.end - s.start)
            if s.shape is Shape.EXPONENTIAL:
                return s.start_value * (s.end_value / s.start_value) ** share
            assert s.shape in (Shape.CONSTANT, Shape.LINEAR)
            return s.start_value + share * (s.end_value - s.start_value)
    return segments[-1].end_value


def stopped(rule: StopRule, losses: Sequence[float]) -> str | None:
    """Why a program ends after the last of these losses; None where it does not."""
    if not math.isfinite(losses[-1]):
        return "non_finite"
    if rule.loss_cap is not None and losses[-1] > rule.loss_cap:
        return "loss_cap"
    if rule.ema_rise is not None:
        smooth = lowest = losses[0]
        for loss in losses[1:]:
            smooth = rule.ema_decay * smooth + (1 - rule.ema_decay) * loss
            lowest = min(lowest, smooth)
        if smooth - lowest > rule.ema_rise:
            return "ema_rise"
    return None


@dataclass(frozen=True)
class Bowl:
    """A quadratic with its minimum at 0, of which every batch sees one that is a little off.

    The edge of stability of gradient descent is at 2, as its highest curvature is 1.
    """

    family: Family = Family.PLAIN
    noise: float = 0.0
    lowest: float = 1e-4  # curvature
    size: int = 24
    seed: int = 0
    scale: float = 1.0
    offset: float = 0.0
    curvatures: np.ndarray = field(init=False, repr=False, compare=False)
    centers: np.ndarray = field(init=False, repr=False, compare=False)
    turned: np.ndarray = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        put = object.__setattr__
        put(self, "curvatures", np.geomspace(1.0, self.lowest, self.size))
        put(self, "turned", np.linalg.qr(rng.standard_normal((self.size, self.size)))[0])
        put(self, "centers", self.noise * rng.standard_normal((BATCHES, self.size)))

    def job(self, base_lr: float, steps: int | None = 1000, **more: object) -> Job:
        """What a search is told of it."""
        known = {"low": base_lr * 1e-6, "high": base_lr * 1e6, "budget": 400} | more
        return Job(base_lr, family=self.family, steps=steps, **known)  # type: ignore[arg-type]

    def best_constant(self, lrs: np.ndarray, steps: int = 1000) -> float:
        """The LR that ends lowest, of those that are constant over so many steps."""
        end = self.after(lrs, steps)
        return float(lrs[np.argmin(end)])

    def after(self, lrs: np.ndarray, steps: int = 1000) -> np.ndarray:
        """The loss after so many steps at each of these LRs, over the last tenth of them."""
        state, seen = State.begin(self, len(lrs)), []
        with np.errstate(over="ignore", invalid="ignore"):
            for _ in range(steps):
                state.step(self, lrs[:, None])
                seen.append(0.5 * (self.curvatures * state.weights**2).sum(axis=1))
        mean = np.mean(seen[-(steps // 10) :], axis=0)
        return np.where(np.isfinite(mean), mean, np.inf)


@dataclass
class State:
    """Weights, moments, and which batch comes next; one row for each of several runs."""

    weights: np.ndarray
    first: np.ndarray
    second: np.ndarray
    steps: int = 0
    batch: int = 0

    @classmethod
    def begin(cls, bowl: Bowl, runs: int = 1) -> "State":
        """The same for every run."""
        far = np.random.default_rng(bowl.seed + 1).uniform(0.5, 1.5, (1, bowl.size))
        weights = np.repeat(far / np.sqrt(bowl.curvatures), runs, axis=0)
        return cls(weights, np.zeros_like(weights), np.zeros_like(weights))

    def copy(self) -> "State":
        """Nothing shared."""
        parts = (self.weights, self.first, self.second)
        weights, first, second = (part.copy() for part in parts)
        return replace(self, weights=weights, first=first, second=second)

    def step(self, bowl: Bowl, lr: np.ndarray | float) -> float:
        """One update; the first run's loss before it."""
        off = self.weights - bowl.centers[self.batch % BATCHES]
        gradient = bowl.curvatures * off
        loss = 0.5 * float((gradient * off)[0].sum())
        self.steps, self.batch = self.steps + 1, self.batch + 1
        if bowl.family is Family.NORMALIZED:
            gradient = gradient @ bowl.turned
            self.first = 0.9 * self.first + 0.1 * gradient
            self.second = 0.999 * self.second + 0.001 * gradient**2
            second = np.sqrt(self.second / (1 - 0.999**self.steps)) + 1e-12
            gradient = self.first / (1 - 0.9**self.steps) / second @ bowl.turned.T
        self.weights = self.weights - lr * gradient
        return bowl.scale * loss + bowl.offset


class Simulated:
    """Carries out probes as a trainer does, with one slot for the state that is kept.

    Attributes:
        live: the state that training is in.
        kept: the one in the slot.
        ran: the probes that led to `live`, since the last restore; `kept_ran` those to `kept`.
        lrs: of every step.
    """

    def __init__(self, bowl: Bowl, *, replay: bool = True) -> None:
        self.bowl = bowl
        self._replay = replay
        self._start = State.begin(bowl)
        self._fresh = 0  # the next batch that was never seen
        self.live, self.kept = self._start.copy(), None
        self.ran: list[Probe] = []
        self.kept_ran: list[Probe] = []
        self.lrs: list[float] = []

    def __call__(self, probe: Probe) -> Result:
        """Run one probe."""
        if probe.keep:
            self.kept, self.kept_ran = self.live.copy(), [*self.ran]
        if probe.origin is Origin.START:
            self.live, self.ran = self._start.copy(), []
        self.ran.append(probe)
        if not self._replay:
            self.live.batch = self._fresh
        losses: list[float] = []
        why = None
        with np.errstate(over="ignore", invalid="ignore"):
            while why is None and len(losses) < probe.length:
                self.lrs.append(lr_at(probe.segments, len(losses)))
                losses.append(self.live.step(self.bowl, self.lrs[-1]))
                why = stopped(probe.stop, losses)
        self._fresh = self.live.batch
        return Result(tuple(losses), why or "length")
