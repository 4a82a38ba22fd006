"""What follows from the horizon: how long programs are, how far they overrate an LR, the plan.

Short programs favour high LRs, because the best LR falls with the number of steps. Measured on six
tasks over horizons from 500 to 9000 steps.
"""

from lrpilot_controller.core.plans import Plan, PlanKind, Segment, Shape
from lrpilot_controller.core.search.job import Family

SHARE = {Family.NORMALIZED: 0.02, Family.PLAIN: 0.04}  # a program's share of the horizon
SHORTEST, LONGEST = 24, 64  # below, an optimizer's first transient decides; above, it only costs
UNKNOWN = 2000  # steps taken for the horizon where none is known
SAFETY = {Family.NORMALIZED: 0.8, Family.PLAIN: 0.6}  # what a program's best LR is worth later
ENOUGH = 0.045  # a program of this share of the horizon needs no further correction
EXPONENT = 0.5
FEWEST = 200  # steps; in a shorter run a search costs more than it can find
AFTERWARDS = 0.05  # of the LR, where a run goes on beyond its horizon: rather slowly than in vain
CONSTANT_SHARE = 0.6  # of the steps that are left; the rest decays. Makes an LR a notch low free


def program_steps(family: Family, horizon: int | None) -> int:
    """The length of a ladder's programs."""
    return round(min(max(SHARE[family] * (horizon or UNKNOWN), SHORTEST), LONGEST))


def correction(family: Family, horizon: int | None, program: int) -> float:
    """What a program's best LR is multiplied by, for the whole run."""
    prior = min(1.0, program / (ENOUGH * (horizon or UNKNOWN)))
    return float(SAFETY[family] * prior**EXPONENT)


def main_plan(lr: float, start: int, end: int | None) -> Plan:
    """Constant, then linear to 0 at `end`; constant for ever where no end is known.

    Beyond `end` training goes on, if it does, at a small LR.
    """
    if end is None or end - start < 2:
        last = max(start + 1, end or 0)
        return Plan(PlanKind.REPLACE, (Segment(Shape.CONSTANT, start, last, lr, lr),))
    turn = start + max(1, round(CONSTANT_SHARE * (end - start)))
    segments = [Segment(Shape.CONSTANT, start, turn, lr, lr)]
    if turn < end:
        low = AFTERWARDS * lr
        segments += [
            Segment(Shape.LINEAR, turn, end, lr, 0.0),
            Segment(Shape.CONSTANT, end, end + 1, low, low),
        ]
    return Plan(PlanKind.REPLACE, tuple(segments))
