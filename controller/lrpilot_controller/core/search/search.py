"""The search for an LR, from a base that may be wrong by orders of magnitude.

Reference, linear response, range test, ladder; then the LR for the whole run, on the state of the
winning program. A generator: it yields probes and is sent their results, so it holds no clock, no
randomness and no trainer, and replays from a journal.
"""

import contextlib
import math
from dataclasses import dataclass
from functools import partial

from lrpilot_controller.core.findings import Candidate, Sweep
from lrpilot_controller.core.search import choice, horizon, range_test, reference, response
from lrpilot_controller.core.search.job import BudgetSpent, Job, Prober
from lrpilot_controller.core.search.ladder import Ladder
from lrpilot_controller.core.search.probe import Probing
from lrpilot_controller.core.search.range_test import RangeTest
from lrpilot_controller.core.search.reference import Reference
from lrpilot_controller.core.search.standings import Standings

GLANCE = 0.5  # of a program: enough to tell LRs apart that are that far from each other
BESIDE = 0.75  # of a decade
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


def check(prober: Prober, known: float) -> Probing[Found]:
    """See whether an LR that an earlier run found is still right, by a glance on either side.

    It stands where it gains clearly and none of them is clearly better. Else the search is made as
    if nothing was known: what is wrong may be so by orders of magnitude.
    """
    seen = yield from _reference(prober)
    if isinstance(seen, str):
        return Found(None, seen)
    ladder = _ladder(prober.job, seen, fall=0.0, share=GLANCE if prober.job.replay else 1.0)
    ladder.standings.long = True  # no longer, however unclear: what is right was clear enough once
    ladder.choose = _first
    center = None
    with contextlib.suppress(BudgetSpent):
        center = yield from ladder.beside(prober, known / ladder.correction, BESIDE)
    if center is None or not _gains(prober, ladder.standings, center):
        return (yield from _anew(prober, seen))
    lr = prober.within(known)
    reason = f"{lr:.3g} stands, of {len(ladder.standings.scores)} LRs none was clearly better"
    told = (seen.level, _tried(ladder.standings), None)
    return Found(lr, reason, center == ladder.live, center == ladder.kept, *told)


def _reference(prober: Prober) -> Probing[Reference | str]:
    """The losses before any training, or why they cannot be had."""
    try:
        seen = yield from reference.measure(prober)
    except BudgetSpent:
        return NO_CANDIDATE
    return seen or "the loss is not finite before any training"


def _ladder(job: Job, seen: Reference, fall: float, share: float = 1.0) -> Ladder:
    """One whose programs are this share of their usual length."""
    return Ladder(
        Standings(seen, job.replay),
        fall,
        round(share * horizon.program_steps(job.family, job.steps)),
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
    return Found(lr, reason, winner == ladder.live, winner == ladder.kept, *told)


def _gains(prober: Prober, standings: Standings, center: float) -> bool:
    """Whether an LR does something: by itself, or beside a lower one on the same batches."""
    if standings.progress > DOUBTS * _doubt(standings, center):
        return True
    return prober.job.replay and standings.above(center)


def _first(standings: Standings) -> float | None:
    """The first one whose program ran whole: what is checked, while it stands."""
    return next(iter(standings.whole), None)


def _tried(standings: Standings) -> tuple[Candidate, ...]:
    scores = sorted(standings.scores.items())
    return tuple(Candidate(10**x, score, standings.costs[x]) for x, score in scores)


def _doubt(standings: Standings, winner: float) -> float:
    """The standard error of what the winner gained."""
    return math.hypot(standings.reference.error, standings.error(winner))
