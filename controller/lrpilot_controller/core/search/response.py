"""How strongly the loss answers to an LR, measured on paired batches.

Replaying the batches of the reference cancels their noise, so that a response of a ten-thousandth
of it can be seen, and the LR for a wanted response follows by linear extrapolation. This finds
the LR's order of magnitude in a few steps, from a base that is wrong by many.
"""

import math

from lrpilot_controller.core.plans import StopRule
from lrpilot_controller.core.search.job import Prober
from lrpilot_controller.core.search.probe import Phase, Probe, Probing, Result, held, mean
from lrpilot_controller.core.search.reference import LAST, STEPS, Reference

TARGET = 0.5  # fall over the few steps, in units of noise: clearly seen, yet far from the edge
WORSE = 8.0  # a rise by so much noise is no accident
MEASURABLE = 1e-4  # of the noise: below it, rounding of 32 bits begins
UNCLEAR = 1.0  # a rise by less is the transient of the first steps, or noise
CLEAR_RISE = 3.0  # in standard errors
TRIES = 6
FIRST_CUT, NEXT_CUT = 1e-3, 0.03  # after a blow-up: in one stride below any usual mistake
RAISE, STEP_BACK = 300.0, 0.1
STRIDE = 30.0  # linear extrapolation is trusted so far; beyond it is measured again


def respond(prober: Prober, reference: Reference) -> Probing[float]:
    """An LR from which a range test can begin: it lowers the loss a little over a few steps.

    Without replayed batches a small response cannot be seen: then it is one that does no harm.
    """
    if not prober.job.replay:
        return (yield from _harmless(prober, reference))
    lr = prober.within(prober.job.base_lr)
    cut = FIRST_CUT
    for _ in range(TRIES):
        result = yield from prober.run(_probe(lr, reference))
        fall = _fall(result, reference)
        if fall is None:
            lr = prober.within(lr * cut)
            cut = NEXT_CUT
        elif abs(fall) < MEASURABLE:
            lr = prober.within(lr * RAISE)
        elif fall < -UNCLEAR:
            lr = prober.within(lr * STEP_BACK)
        elif fall < 0:
            return lr  # an optimizer's first steps may raise the loss a little: it is low enough
        else:
            prober.safe = lr
            if TARGET / fall <= STRIDE:
                return prober.within(lr * max(TARGET / fall, 1.0))
            lr = prober.within(lr * STRIDE)
    return lr


def _harmless(prober: Prober, reference: Reference) -> Probing[float]:
    """The base LR, or one below at which the loss does not clearly rise."""
    lr = prober.within(prober.job.base_lr)
    cut = FIRST_CUT
    for _ in range(TRIES):
        result = yield from prober.run(_probe(lr, reference))
        error = math.hypot(reference.error, reference.noise / math.sqrt(LAST))
        if result.complete and mean(result.losses[-LAST:]) < reference.level + CLEAR_RISE * error:
            return lr
        lr = prober.within(lr * cut)
        cut = NEXT_CUT
    return lr


def _probe(lr: float, reference: Reference) -> Probe:
    cap = reference.worst + WORSE * reference.noise
    return Probe(Phase.RESPONSE, lr, held(lr, STEPS), STEPS, StopRule(loss_cap=cap))


def _fall(result: Result, reference: Reference) -> float | None:
    """The mean fall of the last steps in units of noise; None where the loss rose at once."""
    if not result.complete:
        return None
    falls = [
        (before - loss) / reference.noise
        for before, loss in zip(reference.losses, result.losses, strict=True)
    ]
    if min(falls) < -WORSE:
        return None
    return math.fsum(falls[-LAST:]) / LAST
