"""Which candidate of a ladder wins, and the LR that follows from it and its neighbours."""

import math

from lrpilot_controller.core.search import range_test
from lrpilot_controller.core.search.job import Family
from lrpilot_controller.core.search.standings import Standings

TIE = 0.03  # of the best progress: within it, the lowest LR of a normalized optimizer wins
# An LR so far below the edge of divergence, or so near to it, is absurd for any job: the best ones
# lie at a third to a hundredth of it.
FAR_BELOW, TOO_NEAR = 300.0, 3.0
TIE_UNCLEAR = 0.4  # the same where the first program showed no clear progress
# Factor that a whole run's LR stays below the lowest one that diverged in a short program: an edge
# that is seen after some 30 steps comes down in the steps that follow.
BELOW_EDGE = 5.0
WORST = 0.5  # of the progress, above the best: what a far worse neighbour counts as


def choose(standings: Standings, family: Family) -> float | None:
    """The winner, as log10 of its LR, among those whose programs ran whole; None without one.

    Plain optimizers: the lowest score. Normalized ones are flat near their best LR, and the lower
    end of the flat part is the better one for a longer run.
    """
    whole = {x: s for x, s in standings.scores.items() if x in standings.whole and s < math.inf}
    if not whole:
        return None
    best = standings.best if standings.best in whole else min(whole, key=whole.__getitem__)
    if family is Family.PLAIN:
        return best
    tie = TIE_UNCLEAR if standings.long else TIE
    limit = whole[best] + tie * max(standings.reference.level - whole[best], 0.0)
    if not standings.replay:
        limit = max(limit, whole[best] + standings.error(best))
    return min(x for x, score in whole.items() if score <= limit)


def vertex(standings: Standings, winner: float) -> float:
    """The minimum of the parabola through the winner and its neighbours, in log10 of the LR.

    At most half-way to either neighbour; the winner itself where it has none on one side.
    """
    tried = sorted(standings.scores)
    i = tried.index(winner)
    if not 0 < i < len(tried) - 1:
        return winner
    cap = standings.scores[winner] + WORST * max(standings.progress, 0.0)
    (x0, y0), (x1, y1), (x2, y2) = (
        (x, min(standings.scores[x], cap)) for x in tried[i - 1 : i + 2]
    )
    left, right = (y1 - y0) / (x1 - x0), (y2 - y1) / (x2 - x1)
    if right <= left:
        return winner
    middle_left, middle_right = (x0 + x1) / 2, (x1 + x2) / 2
    at = middle_left - left * (middle_right - middle_left) / (right - left)
    return min(max(at, middle_left), middle_right)


def rescue(base: float, edge: float) -> float | None:
    """An LR in place of an absurd one, by the edge of divergence alone; None where it is not."""
    if edge / FAR_BELOW <= base <= edge / TOO_NEAR:
        return None
    return edge / range_test.BELOW_EDGE


def below_edge(standings: Standings, lr: float) -> float:
    """`lr`, or less: at a distance from the lowest candidate that diverged."""
    diverged = (10**x for x, score in standings.scores.items() if score == math.inf)
    return min(lr, min(diverged, default=math.inf) / BELOW_EDGE)
