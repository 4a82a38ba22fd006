"""The LR range test: the LR rises exponentially until the loss does (Smith, 2017)."""

import math
from dataclasses import dataclass

from lrpilot_controller.core.findings import Sweep
from lrpilot_controller.core.plans import Segment, Shape, StopRule
from lrpilot_controller.core.search.job import Prober
from lrpilot_controller.core.search.probe import Phase, Probe, Probing
from lrpilot_controller.core.search.reference import Reference

STEPS_PER_DECADE = 6
DECADES = 7  # from an LR that hardly moves the loss, none needs more
SHARE = 0.1  # of the horizon, at most
SMOOTHING = 0.6  # weight of the past in the loss's moving average
RISE = 4.0  # in units of noise, of the average over its lowest: its own noise is half a unit
BLOW_UP = 12.0  # in units of noise, of a single loss over the worst before training
FEWEST = 5  # steps, or it began at the edge and says nothing
TRIES, RESTART = 3, 100.0
BELOW_BEST = 3.0  # the lowest loss is reached at the highest LR that still helps: begin below it
CLEAR_FALL = 1.5  # in units of noise; the average's own noise is half a unit
BELOW_EDGE = 30.0  # where the lowest loss says nothing, the edge of divergence does


@dataclass(frozen=True, slots=True)
class RangeTest:
    """What a range test saw: `best` is the lowest smoothed loss, at `best_lr`; `edge` the LR at
    which the loss rose, or the highest tried; `anchor` where a ladder should begin. `diverged`
    says that the edge is one of divergence, which is seen through any noise."""

    sweep: Sweep
    best: float
    best_lr: float
    edge: float
    anchor: float
    diverged: bool = False


def run(prober: Prober, reference: Reference, start: float) -> Probing[RangeTest]:
    """Raise the LR from `start` until the smoothed loss rises."""
    for _ in range(TRIES):
        seen = yield from _sweep(prober, reference, start)
        if len(seen.sweep.lrs) >= FEWEST or start <= prober.job.low:
            break
        start = prober.within(start / RESTART)  # it began at the edge
    return seen


def _sweep(prober: Prober, reference: Reference, start: float) -> Probing[RangeTest]:
    decades = min(DECADES, math.log10(prober.job.high / start))
    length = max(1, math.floor(STEPS_PER_DECADE * decades))
    if prober.job.steps is not None:
        length = max(STEPS_PER_DECADE, min(length, int(SHARE * prober.job.steps)))
    end = prober.within(start * 10 ** (length / STEPS_PER_DECADE))
    result = yield from prober.run(
        Probe(
            Phase.RANGE_TEST,
            start,
            (Segment(Shape.EXPONENTIAL, 0, length, start, end),),
            length,
            StopRule(
                loss_cap=reference.worst + BLOW_UP * reference.noise,
                ema_decay=SMOOTHING,
                ema_rise=RISE * reference.noise,
            ),
        )
    )
    lrs = tuple(start * (end / start) ** (i / length) for i in range(len(result.losses)))
    return _read(reference, lrs, result.losses, paired=prober.job.replay)


def _read(
    reference: Reference, lrs: tuple[float, ...], losses: tuple[float, ...], *, paired: bool
) -> RangeTest:
    smooth, best, best_lr = reference.level, math.inf, lrs[0]
    for i, (lr, loss) in enumerate(zip(lrs, losses, strict=True)):
        if not math.isfinite(loss):
            break
        if paired and i < len(reference.losses):  # : the batch's own share of the noise cancels
            loss += reference.level - reference.losses[i]
        smooth = SMOOTHING * smooth + (1 - SMOOTHING) * loss
        if i > 1 and smooth < best:
            best, best_lr = smooth, lr
    edge = lrs[-1]
    fell = paired or reference.level - best > CLEAR_FALL * reference.noise
    says = fell and best_lr * BELOW_EDGE >= edge
    anchor = best_lr / BELOW_BEST if says else edge / BELOW_EDGE
    diverged = not losses[-1] <= reference.worst + BLOW_UP * reference.noise
    return RangeTest(Sweep(lrs, losses), best, best_lr, edge, anchor, diverged)
