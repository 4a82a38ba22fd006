"""A trial in mid-run: would another factor on the LR be better? Programs on the same batches tell.

A loss curve alone tells poorly; programs that are paired step by step tell, where they are not read
too soon. Less noise looks like progress, so each program ends with its LR annealed to 0, and
another factor must win clearly.
"""

import contextlib
import math
from collections.abc import Iterable

from lrpilot_controller.core.findings import Candidate
from lrpilot_controller.core.plans import Segment, Shape
from lrpilot_controller.core.search.job import BudgetSpent, Prober
from lrpilot_controller.core.search.probe import Origin, Phase, Probe, Probing, mean
from lrpilot_controller.core.search.search import Found

HELD, ANNEALED = 40, 24
"""Steps at the candidate's LR, and on a straight line to 0. Before some 40 steps a raise has yet to
show; both together are within what is replayed."""

TAIL = 12
"""Losses at the end whose mean is the score."""

CLEARLY = 2.0
"""Standard errors of the paired difference by which another factor must win."""

WORTH = 5
"""Times the cost of a trial that must be left of the run."""


def trial(prober: Prober, factors: Iterable[float]) -> Probing[Found]:
    """Try these factors on the LR in force, 1 among them; 1 wins what is not clear."""
    job, length = prober.job, HELD + ANNEALED
    lrs = sorted({prober.within(job.base_lr * factor) for factor in factors})
    if not job.replay:
        return Found(None, "batches cannot be replayed: nothing could be compared")
    if job.base_lr not in lrs:
        return Found(None, f"the LR in force is not within [{job.low:.3g}, {job.high:.3g}]")
    if len(lrs) < 2:
        return Found(None, f"no other LR is within [{job.low:.3g}, {job.high:.3g}]")
    if job.steps is not None and job.steps < WORTH * length * len(lrs):
        return Found(None, f"{job.steps} steps are left, too few for {len(lrs)} programs")
    tails: dict[float, tuple[float, ...]] = {}
    with contextlib.suppress(BudgetSpent):
        for lr in sorted(lrs, key=lambda lr: abs(math.log(lr / job.base_lr))):  # 1 comes first
            result = yield from prober.run(_program(lr, length))
            tails[lr] = result.losses[-TAIL:] if result.complete else ()
    return _judged(job.base_lr, tails, length)


def _program(lr: float, length: int) -> Probe:
    segments = (
        Segment(Shape.CONSTANT, 0, HELD, lr, lr),
        Segment(Shape.LINEAR, HELD, length, lr, 0.0),
    )
    return Probe(Phase.TRIAL, lr, segments, length, origin=Origin.START)


def _judged(base: float, tails: dict[float, tuple[float, ...]], length: int) -> Found:
    scores = {lr: mean(tail) if tail else math.inf for lr, tail in tails.items()}
    tried = tuple(Candidate(lr, score, length) for lr, score in sorted(scores.items()))
    if not tails.get(base):
        return Found(None, "the LR in force could not be compared", candidates=tried)
    winner = min(scores, key=scores.__getitem__)
    if winner == base or not _clearly(tails[winner], tails[base]):
        return Found(None, "no other LR is clearly better", candidates=tried)
    reason = f"of {len(tails)} LRs {winner:.3g} ended clearly lower than {base:.3g}"
    return Found(winner, reason, candidates=tried)


def _clearly(better: tuple[float, ...], worse: tuple[float, ...]) -> bool:
    """Whether the paired losses differ by more than their noise."""
    gains = [b - a for a, b in zip(better, worse, strict=True)]
    gain = mean(tuple(gains))
    variance = sum((g - gain) ** 2 for g in gains) / (len(gains) - 1)
    return gain > CLEARLY * math.sqrt(variance / len(gains))
