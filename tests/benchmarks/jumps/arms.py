"""What a user may have in place when the learning rate jumps, other than LRPilot.

Every arm trains the same weights on the same batches, with a metric or a gradient norm for free.
"""

import itertools
import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from benchmarks.quality.outcome import Outcome
from benchmarks.quality.peers import judged, seeded
from benchmarks.quality.tasks import Task

from .scenario import UNTOUCHED, Scenario

METRIC_EVERY = 10  # steps between two reports to ReduceLROnPlateau
PATIENCE = 5
CLIP_NORM = 1.0
FORESEEN_COST = 50  # steps, as LRPilot's rescues take about
STOP_RATIO = 3.0
STOP_SMOOTHING = 0.98

BeforeUpdate = Callable[[], None]
AfterUpdate = Callable[[int, float], bool]  # steps done and the last loss -> go on?


def fit(
    run: Scenario,
    job: Task,
    optimizer: torch.optim.Optimizer,
    before: BeforeUpdate = lambda: None,
    after: AfterUpdate = lambda done, loss: True,
) -> int:
    """Trains under the user's own scheduler; returns the steps that it took."""
    scheduler = run.scheduler(optimizer)
    done = 0
    with seeded(job):
        job.model.train()
        for batch in itertools.islice(job.batches(), run.steps):
            loss = job.loss(batch)
            optimizer.zero_grad()
            loss.backward()
            before()
            optimizer.step()
            scheduler.step()
            done += 1
            if not after(done, loss.item()):
                break
    return done


def nothing(run: Scenario) -> Outcome:
    """Nobody looks."""
    job = run.job()
    fit(run, job, job.make_optimizer(run.lr))
    return Outcome(judged(job, healthy=True))


def plateau(run: Scenario) -> Outcome:
    """torch's ReduceLROnPlateau on the held-out loss every ten steps, patience 5.

    What it has left of an LR of 1 is a factor on the user's schedule, which would otherwise write
    over it.
    """
    job = run.job()
    optimizer = job.make_optimizer(run.lr)
    one = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    rule = ReduceLROnPlateau(one, patience=PATIENCE)

    def scale() -> None:
        for group in optimizer.param_groups:
            group["lr"] *= one.param_groups[0]["lr"]

    def report(done: int, loss: float) -> bool:
        if done % METRIC_EVERY == 0:
            rule.step(job.validate())
        return True

    fit(run, job, optimizer, scale, report)
    return Outcome(judged(job, healthy=True))


def clip(run: Scenario) -> Outcome:
    """The norm of the gradient is clipped to 1."""
    job = run.job()
    parameters = list(job.model.parameters())

    def before() -> None:
        nn.utils.clip_grad_norm_(parameters, CLIP_NORM)

    fit(run, job, job.make_optimizer(run.lr), before)
    return Outcome(judged(job, healthy=True))


class ZClip:
    """The rule of "ZClip: Adaptive Spike Mitigation for LLM Pre-Training" (2025), as published.

    The norms of the first steps give a mean and a variance, which are then averages with `ALPHA`. A
    norm more than `THRESHOLD` deviations z above the mean is clipped to the mean plus
    `THRESHOLD` ** 2 / z deviations, and counts as that.
    """

    ALPHA = 0.97
    THRESHOLD = 2.5
    WARM_UP = 25
    TINY = 1e-6

    def __init__(self) -> None:
        self._first: list[float] = []
        self._mean = self._variance = 0.0

    def limit(self, norm: float) -> float:
        """The norm that a gradient of such a norm may have."""
        if len(self._first) < self.WARM_UP:
            self._first.append(norm)
            self._mean = math.fsum(self._first) / len(self._first)
            squares = ((one - self._mean) ** 2 for one in self._first)
            self._variance = math.fsum(squares) / len(self._first)
            return norm
        deviation = math.sqrt(self._variance)
        z = (norm - self._mean) / (deviation + self.TINY)
        if z > self.THRESHOLD:
            norm = self._mean + self.THRESHOLD**2 / z * deviation
        self._mean = self.ALPHA * self._mean + (1 - self.ALPHA) * norm
        squared = (norm - self._mean) ** 2
        self._variance = self.ALPHA * self._variance + (1 - self.ALPHA) * squared
        return norm


def zclip(run: Scenario) -> Outcome:
    """Gradients whose norm is an outlier are clipped."""
    job = run.job()
    parameters = list(job.model.parameters())
    rule = ZClip()

    def before() -> None:
        norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None]).item()
        limit = rule.limit(norm)
        if limit < norm:
            nn.utils.clip_grad_norm_(parameters, limit)

    fit(run, job, job.make_optimizer(run.lr), before)
    return Outcome(judged(job, healthy=True))


def stop(run: Scenario) -> Outcome:
    """Training ends when a loss is not finite, or above three times the best average so far."""
    job = run.job()
    best, total, weight = math.inf, 0.0, 0.0

    def healthy(done: int, loss: float) -> bool:
        nonlocal best, total, weight
        if not (math.isfinite(loss) and loss <= STOP_RATIO * best):
            return False
        total = STOP_SMOOTHING * total + (1 - STOP_SMOOTHING) * loss
        weight = STOP_SMOOTHING * weight + (1 - STOP_SMOOTHING)
        best = min(best, total / weight)
        return True

    done = fit(run, job, job.make_optimizer(run.lr), after=healthy)
    note = f"stopped at step {done}" if done < run.steps else ""
    return Outcome(judged(job, healthy=True), note=note)


def foreseen(run: Scenario) -> Outcome:
    """What the best rescue could do that costs `FORESEEN_COST` steps: no step at the wrong LR.

    The LR is 0 for so long from the jump on, and as it should be after that.
    """
    job, tuned = run.job(), replace(run, factor=UNTOUCHED)
    optimizer = job.make_optimizer(run.lr)
    cost = 0 if run.factor == UNTOUCHED else FORESEEN_COST
    steps = itertools.count()

    def before() -> None:
        if run.jump <= next(steps) < run.jump + cost:
            for group in optimizer.param_groups:
                group["lr"] = 0.0

    fit(tuned, job, optimizer, before)
    return Outcome(judged(job, healthy=True))


ARMS: dict[str, Callable[[Scenario], Outcome]] = {
    "nothing": nothing,
    "plateau": plateau,
    "clip": clip,
    "zclip": zclip,
    "stop": stop,
    "foreseen": foreseen,
}
