"""The search for an LR, from a base that may be wrong by orders of magnitude.

Reference, linear response, range test, ladder; then the LR for the whole run, on the state of the
winning program. A generator: it yields probes and is sent their results, so it holds no clock, no
randomness and no trainer, and replays from a journal.
"""

import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from lrpilot_controller.core.findings import Candidate, Known, Reach, Sweep
from lrpilot_controller.core.search import choice, horizon, range_test, reference, response
from lrpilot_controller.core.search.job import BudgetSpent, Job, Prober
from lrpilot_controller.core.search.ladder import Ladder
from lrpilot_controller.core.search.probe import Probing
from lrpilot_controller.core.search.range_test import RangeTest
from lrpilot_controller.core.search.reference import Reference
from lrpilot_controller.core.search.standings import Standings

# Of the least fall that earlier runs of the job saw in the same program. On the twelve tasks it
# scatters by a tenth between seeds where batches tell anything; at a third of the LR it is a third.
REPRODUCED = 2 / 3
# In units of noise: falls on the same batches that are less scatter between seeds, those that are
# more by a third. They grow with the LR, so that a third of one means that all is another order.
CLEAR = 3.0
ANOTHER_ORDER = 1 / 3
DOUBTS = 3.0  # standard errors: less progress, on fresh batches, is no ground for a choice

NO_CANDIDATE = "the budget did not allow one candidate"


@dataclass(frozen=True, slots=True)
class Found:
    """What a search ends with.

    `lr` is None where it declines. `live` says that the state which the last probe ended in is the
    one to go on from, `kept` that the kept one is; else where the search began.
    """

    lr: float | None
    reason: str
    live: bool = False
    kept: bool = False
    reference: float | None = None
    candidates: tuple[Candidate, ...] = ()
    sweep: Sweep | None = None
    progress: Reach | None = None


def search(prober: Prober) -> Probing[Found]:
    """Find the LR for the rest of the run; batches are replayed.

    Where the budget is spent before all is tried, the best candidate so far wins.
    """
    left = prober.job.steps
    if left is not None and left < horizon.FEWEST:
        return Found(None, f"{left} steps are left, a search needs {horizon.FEWEST}")
    seen = yield from _reference(prober)
    if isinstance(seen, str):
        return Found(None, seen)
    return (yield from _anew(prober, seen))


def _anew(prober: Prober, seen: Reference) -> Probing[Found]:
    sweep = None
    ladder = _ladder(prober.job, seen, fall=0.0)
    with contextlib.suppress(BudgetSpent):
        start = yield from response.respond(prober, seen)
        sweep = yield from range_test.run(prober, seen, start)
        ladder = _ladder(prober.job, seen, seen.level - sweep.best)
        yield from ladder.climb(prober, sweep.anchor)
    return _found(prober, ladder, sweep)


def check(prober: Prober, known: Known) -> Probing[Found]:
    """See whether what earlier runs found still holds, by one program that they ran as well.

    It stands where the loss falls about as far as it did there, half-way already or at its end.
    Else, and where those runs did not measure it, the search is made as if nothing was known: what
    is wrong may be so by orders of magnitude.
    """
    if not known.progress:
        return (yield from search(prober))
    seen = yield from _reference(prober)
    if isinstance(seen, str):
        return Found(None, seen)
    program = known.progress[0]
    past = tuple(one for one in known.progress if one.steps == program.steps)
    ladder = _ladder(prober.job, seen, fall=max(one.end or one.halfway for one in past))
    came = None
    with contextlib.suppress(BudgetSpent):
        came = yield from ladder.again(prober, program, partial(_stands, past, seen.noise))
    if came is None:
        return (yield from _anew(prober, seen))
    lr = prober.safe = prober.within(known.lr)
    fell = came.halfway if came.end is None else came.end
    reason = (
        f"{lr:.3g} stands: a program at {came.lr:.3g} fell by {fell:.3g}, as in {len(past)} before"
    )
    told = (seen.level, _tried(ladder.standings), None, came)
    return Found(lr, reason, True, False, *told)


def _stands(past: Sequence[Reach], noise: float, now: Reach) -> bool | None:
    """Whether a program came about as far as earlier runs saw it come; None: its end will tell."""
    at_once = min(one.at_once for one in past)
    if at_once > CLEAR * noise and now.at_once < ANOTHER_ORDER * at_once:
        return False
    if now.end is None:
        return now.halfway >= REPRODUCED * min(one.halfway for one in past) > 0 or None
    ends = [one.end for one in past if one.end is not None]
    return now.end >= REPRODUCED * min(ends, default=0.0) > 0


def _reference(prober: Prober) -> Probing[Reference | str]:
    """The losses before any training, or why they cannot be had."""
    try:
        seen = yield from reference.measure(prober)
    except BudgetSpent:
        return NO_CANDIDATE
    return seen or "the loss is not finite before any training"


def _ladder(job: Job, seen: Reference, fall: float) -> Ladder:
    return Ladder(
        Standings(seen, job.replay),
        fall,
        horizon.program_steps(job.family, job.steps),
        partial(choice.choose, family=job.family),
        partial(horizon.correction, job.family, job.steps),
    )


def _found(prober: Prober, ladder: Ladder, sweep: RangeTest | None) -> Found:
    standings = ladder.standings
    winner = choice.choose(standings, prober.job.family)
    tried = _tried(standings)
    told = (standings.reference.level, tried, sweep.sweep if sweep else None)
    if winner is None:
        why = "every candidate diverged" if tried else NO_CANDIDATE
        return Found(None, why, False, False, *told)
    doubt = _doubt(standings, winner)
    if not prober.job.replay and (gained := standings.progress) < DOUBTS * doubt:
        why = f"the best of {len(tried)} LRs gained {gained:.3g}, the noise is {doubt:.3g}"
        lr = None
        if sweep is not None and sweep.diverged:
            lr = choice.rescue(prober.job.base_lr, sweep.edge)
        if sweep is not None and lr is not None:
            lr = prober.within(lr)
            why += f"; but the loss diverges at {sweep.edge:.3g}, and this is a thirtieth of it"
        return Found(lr, why, False, False, *told)
    at = 10 ** choice.vertex(standings, winner)
    lr = prober.within(choice.below_edge(standings, at * ladder.correction))
    reason = (
        f"of {len(tried)} LRs {10**winner:.3g} won, at {at:.3g} between its neighbours; "
        f"x{ladder.correction:.2g} for the whole run"
    )
    return Found(
        lr, reason, winner == ladder.live, winner == ladder.kept, *told, ladder.came(winner)
    )  # fmt: skip


def _tried(standings: Standings) -> tuple[Candidate, ...]:
    scores = sorted(standings.scores.items())
    return tuple(Candidate(10**x, score, standings.costs[x]) for x, score in scores)


def _doubt(standings: Standings, winner: float) -> float:
    """The standard error of what the winner gained."""
    return math.hypot(standings.reference.error, standings.error(winner))
