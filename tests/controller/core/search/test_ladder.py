"""The ladder: candidates by short programs, from an anchor until the best is bracketed."""

import contextlib
import itertools
import math
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrpilot_controller.core.plans import Shape
from lrpilot_controller.core.search import choice
from lrpilot_controller.core.search.job import BudgetSpent, Family, Job, Prober
from lrpilot_controller.core.search.ladder import Ladder
from lrpilot_controller.core.search.probe import Origin, Phase, Probe, Result
from lrpilot_controller.core.search.reference import Reference
from lrpilot_controller.core.search.standings import Standings
from support.simulated import drive

PLAIN, NORMALIZED = Family.PLAIN, Family.NORMALIZED
LEVEL, NOISE = 10.0, 0.1
REFERENCE = Reference((9.9, 10.1) * 3, LEVEL, NOISE)
INF = math.inf
Scores = Callable[[float], float]


class Scripted:
    """A trainer whose programs end at the scores that `score` gives each log10 of an LR.

    A program's first half is as good as `halfway` says, else on half the way. Infinite scores
    diverge at once; `spread` is the noise of the last losses, of its own in every program.
    """

    def __init__(
        self, score: Scores, halfway: Scores | None = None, spread: float = 0.0, seed: int = 0
    ) -> None:
        self._score = score
        self._halfway = halfway or (lambda x: (LEVEL + score(x)) / 2)
        self.spread = spread
        self._rng = np.random.default_rng(seed)
        self.live: list[Probe] = []
        self.kept: list[Probe] = []
        self.tried: list[float] = []

    def __call__(self, probe: Probe) -> Result:
        if probe.keep:
            self.kept = self.live
        if probe.origin is Origin.START:
            self.live = []
            self.tried.append(round(math.log10(probe.lr), 3))
        self.live = [*self.live, probe]
        x = math.log10(probe.lr)
        if self._score(x) == INF:
            return Result((LEVEL, 50.0), "loss_cap")
        first = probe.segments[0].shape is Shape.CONSTANT and probe.segments[0].start_value > 0
        level = self._halfway(x) if first else self._score(x)
        noise = self.spread * self._rng.standard_normal(probe.length)
        return Result(tuple(level + noise))


def climbed(
    trainer: Scripted,
    anchor: float = 0.0,
    *,
    family: Family = PLAIN,
    low: float = -9.0,
    high: float = 9.0,
    budget: int = 10_000,
    replay: bool = True,
    steps: int = 24,
    fall: float = 1.0,
) -> tuple[Ladder, list[Probe], Prober]:
    job = Job(1.0, 10**low, 10**high, family, 1000, budget, replay)
    choose = partial(choice.choose, family=family)
    made = Ladder(Standings(REFERENCE, replay), fall, steps, choose, lambda _: 0.5)
    prober = Prober(job)

    def climb():  # type: ignore[no-untyped-def]
        with contextlib.suppress(BudgetSpent):
            yield from made.climb(prober, 10**anchor)

    _, probes = drive(climb(), trainer)
    return made, probes, prober


def bowl(at: float, depth: float = 6.0) -> Scores:
    """The best score at one LR; a quarter less for every notch of distance."""
    return lambda x: LEVEL - depth + depth / 4 * min(abs(x - at) / 0.5, 3.5)


# -- the programs


def test_a_program_is_half_at_its_lr_and_half_a_line_to_0() -> None:
    _, probes, _ = climbed(Scripted(bowl(0.0)))
    first, second = probes[:2]
    assert (first.origin, second.origin) == (Origin.START, Origin.LIVE)
    assert (first.length, second.length) == (12, 12)
    assert [(s.shape, s.start_value) for s in first.segments] == [(Shape.CONSTANT, 1.0)]
    (line,) = second.segments
    assert line.shape is Shape.LINEAR
    assert line.start_value == pytest.approx(12 / 13)
    assert (line.end, line.end_value) == (12, 0.0)
    assert {probe.phase for probe in probes} == {Phase.LADDER}


def caps(score: Scores, fall: float) -> list[float | None]:
    return [probe.stop.loss_cap for probe in climbed(Scripted(score), fall=fall)[1]]


def test_a_loss_above_all_before_by_twice_the_greatest_fall_is_a_blow_up() -> None:
    flat = caps(lambda x: 9.9, 3.0)
    assert flat == pytest.approx([10.1 + 2 * 3.0] * len(flat))
    for little in (0.0, -1.0, -INF):  # five times the noise
        flat = caps(lambda x: 9.9, little)
        assert flat == pytest.approx([10.1 + 2 * 0.5] * len(flat))
    deep = caps(bowl(0.0), 1.0)
    assert deep[:2] == pytest.approx([10.1 + 2 * 1.0] * 2)
    assert deep[2:] == pytest.approx([10.1 + 2 * 6.0] * (len(deep) - 2))


# -- which candidates


@pytest.mark.parametrize("at", [-1.0, -0.5, 0.0, 0.5, 1.0])
def test_it_climbs_until_the_best_has_neighbours_on_both_sides(at: float) -> None:
    made, _, _ = climbed(Scripted(bowl(at)))
    assert made.standings.best == pytest.approx(at, abs=0.26)
    tried = sorted(made.standings.scores)
    assert tried[0] < made.standings.best < tried[-1]


def test_neighbours_are_half_a_decade_apart_and_the_last_one_half_of_that() -> None:
    trainer = Scripted(bowl(0.2))
    climbed(trainer)
    assert trainer.tried == [0.0, -0.5, 0.5, 0.25]


def test_it_gives_up_after_four_programs_and_a_last_one() -> None:
    trainer = Scripted(bowl(5.0, depth=1.0))
    climbed(trainer)
    assert len(trainer.tried) <= 6


def test_next_to_a_diverged_one_it_tries_half_a_notch_up() -> None:
    trainer = Scripted(lambda x: INF if x > 0.1 else bowl(0.0)(x))
    made, _, _ = climbed(trainer)
    assert trainer.tried == [0.0, -0.5, 0.5, 0.25]
    assert made.standings.best == 0.0


def test_diverged_programs_are_cheap_so_it_goes_a_long_way_down() -> None:
    made, _, _ = climbed(Scripted(lambda x: INF if x > -2.4 else bowl(-3.0)(x)))
    assert made.standings.best is not None
    assert made.standings.best < -2.4


def test_everything_above_a_diverged_lr_counts_as_diverged() -> None:
    # A dead network stands still at a low loss.
    dead = Scripted(lambda x: 3.0 if x > 0.4 else INF if x > -0.1 else bowl(-0.5)(x))
    made, _, _ = climbed(dead, 0.5)
    assert dead.tried[:2] == [0.5, 0.0]
    assert made.standings.scores[0.5] == made.standings.scores[0.0] == INF
    assert made.standings.best is not None
    assert made.standings.best < 0


def test_where_all_diverge_there_is_no_best() -> None:
    made, _, prober = climbed(Scripted(lambda x: INF))
    assert made.standings.best is None
    assert made.standings.progress == 0.0
    assert prober.safe is None
    assert set(made.standings.scores.values()) == {INF}
    assert min(made.standings.scores) < -8.4  # down to the bound


def test_a_program_that_ends_above_where_it_began_was_blowing_up() -> None:
    made, _, _ = climbed(Scripted(lambda x: LEVEL + 0.3 if x > -0.2 else bowl(-0.5)(x)))
    assert made.standings.scores[0.0] == INF


# -- within the bounds


@given(st.floats(-3, 3), st.floats(-3, 3), st.floats(0, 3), st.floats(-3, 3), st.floats(-3, 3))
def test_every_lr_lies_within_the_bounds(
    anchor: float, low: float, width: float, best: float, edge: float
) -> None:
    trainer = Scripted(lambda x: INF if x > edge else bowl(best)(x))
    made, probes, prober = climbed(trainer, anchor, low=low, high=low + width)
    for probe in probes:
        assert prober.job.low <= probe.lr <= prober.job.high
    assert len(trainer.tried) == len(made.standings.scores)  # none twice


@pytest.mark.parametrize(("bound", "best"), [(0.0, 0.5), (0.1, 0.6)])
def test_from_the_lower_bound_it_goes_up(bound: float, best: float) -> None:
    made, _, _ = climbed(Scripted(bowl(best)), bound - 1, low=bound)
    assert made.standings.best == pytest.approx(best, abs=0.26)


def test_at_the_upper_bound_it_stays() -> None:
    made, probes, _ = climbed(Scripted(bowl(3.0)), 0.0, high=math.log10(2.0))
    assert max(probe.lr for probe in probes) == 2.0
    assert 10**made.standings.best == pytest.approx(2.0, rel=1e-5)


def test_beyond_the_budget_nothing_is_run() -> None:
    whole, probes, prober = climbed(Scripted(bowl(0.5)))
    for budget in range(0, prober.spent, 7):
        made, some, less = climbed(Scripted(bowl(0.5)), budget=budget)
        assert less.spent <= budget
        assert some == probes[: len(some)]
        assert made.standings.scores.items() <= whole.standings.scores.items()


# -- who is ahead


def test_a_lower_lr_wins_only_clearly() -> None:
    """Six losses with noise of their own: a standard error of the difference of about 0.06."""
    close, clear = 0, 0
    for seed in range(40):
        made, *_ = climbed(Scripted(lambda x: 5.0 if x < -0.2 else 5.02, spread=0.1, seed=seed))
        close += made.standings.best >= 0
        made, *_ = climbed(Scripted(lambda x: 5.0 if x < -0.2 else 5.5, spread=0.1, seed=seed))
        clear += made.standings.best < 0
    assert close >= 30
    assert clear == 40


def test_a_lower_lr_that_trails_is_given_up_half_way() -> None:
    made, probes, _ = climbed(Scripted(bowl(0.0), lambda x: 7.0 if x > -0.1 else 7.5))
    assert [p.origin for p in probes[2:4]] == [Origin.START, Origin.START]
    assert -0.5 in made.standings.scores
    assert -0.5 not in made.standings.whole
    assert made.standings.costs[-0.5] == 12
    assert made.standings.scores[-0.5] == pytest.approx(made.standings.scores[0.0] + 0.5)


def test_a_lower_lr_that_keeps_up_is_not() -> None:
    made, _, _ = climbed(Scripted(bowl(0.0), lambda x: 7.0 if x > -0.1 else 7.2))
    assert -0.5 in made.standings.whole


def test_a_higher_lr_may_be_behind_until_it_is_annealed() -> None:
    good = Scripted(bowl(0.5), lambda x: 7.0 if x < 0.2 else 10.15)
    made, _, _ = climbed(good)
    assert made.standings.best == 0.5
    lost = Scripted(bowl(0.5), lambda x: 7.0 if x < 0.2 else 10.5)
    made, _, _ = climbed(lost)
    assert 0.5 not in made.standings.whole


def test_a_search_without_clear_progress_makes_its_programs_longer() -> None:
    made, probes, _ = climbed(Scripted(lambda x: 9.95, lambda x: 9.99))
    assert made.standings.long
    assert made.steps == 60
    assert [p.length for p in probes[:3]] == [12, 18, 30]
    assert [p.origin for p in probes[:3]] == [Origin.START, Origin.LIVE, Origin.LIVE]
    assert probes[3].length == 30  # and all that follow
    clear, *_ = climbed(Scripted(bowl(0.0)))
    assert not clear.standings.long


def test_longer_is_bounded() -> None:
    made, _, _ = climbed(Scripted(lambda x: 9.95, lambda x: 9.99), steps=64)
    assert made.steps == 80


def test_what_a_candidate_cost_is_what_it_ran() -> None:
    trainer = Scripted(lambda x: INF if x > 0.1 else 9.95, lambda x: 9.99)
    made, _, prober = climbed(trainer)
    assert sum(made.standings.costs.values()) == prober.spent
    assert made.standings.costs[0.5] == 2


# -- on fresh batches


def test_on_fresh_batches_every_whole_program_is_looked_at_as_long() -> None:
    trainer = Scripted(lambda x: bowl(0.0, depth=0.5)(x), spread=NOISE)
    made, probes, _ = climbed(trainer, replay=False)
    looks = [p.length for p in probes if p.segments[0].start_value == 0.0]
    assert len(looks) == len(made.standings.whole)
    assert set(looks) == {made.looks}
    assert 0 < made.looks <= 0.35 * made.steps
    replayed, probes, _ = climbed(Scripted(lambda x: bowl(0.0, depth=0.5)(x), spread=NOISE))
    assert replayed.looks is None
    assert all(p.segments[0].start_value > 0 for p in probes)


def test_a_score_that_is_sharp_anyway_needs_no_look() -> None:
    _, probes, _ = climbed(Scripted(bowl(0.0)), replay=False)
    assert all(p.segments[0].start_value > 0 for p in probes)


# -- what a run falls back to, and what is kept


def test_the_winner_so_far_is_safe() -> None:
    made, _, prober = climbed(Scripted(bowl(0.5)))
    assert made.standings.best is not None
    assert prober.safe == pytest.approx(0.5 * 10**made.standings.best)


@st.composite
def trainers(draw: st.DrawFn) -> Scripted:
    level = st.sampled_from([INF, 3.0, 4.0, 4.05, 4.1, 5.0, 9.0, 9.9, 10.5])
    scores = draw(st.dictionaries(st.integers(-40, 40), level, min_size=1))
    halves = draw(st.lists(st.sampled_from([6.0, 6.5, 7.0, 9.9, 10.15]), min_size=1))

    def score(x: float) -> float:
        return scores.get(round(4 * x), 4.02)

    return Scripted(
        score,
        lambda x: halves[round(4 * x) % len(halves)],
        spread=draw(st.sampled_from([0.0, 0.05, 0.3])),
        seed=draw(st.integers(0, 9)),
    )


@given(trainers(), st.sampled_from(list(Family)), st.booleans(), st.integers(24, 300))
@settings(max_examples=150)
def test_live_and_kept_are_the_states_that_those_programs_ended_in(
    trainer: Scripted, family: Family, replay: bool, budget: int
) -> None:
    made, _, _ = climbed(trainer, family=family, replay=replay, budget=budget)
    winner = choice.choose(made.standings, family)
    if winner is None:
        return
    # One that had been overtaken, and wins after all, has its state nowhere; without noise and
    # edges there is none.
    if family is PLAIN and not trainer.spread and INF not in made.standings.scores.values():
        assert winner in (made.live, made.kept)
    for x, ran in ((made.live, trainer.live), (made.kept, trainer.kept)):
        if x == winner and not (x == made.kept == made.live and ran is trainer.kept):
            assert {round(math.log10(probe.lr), 5) for probe in ran} == {round(winner, 5)}
            assert ran[0].origin is Origin.START
            assert ran[-1].segments[-1].end_value == 0.0
            assert sum(probe.length for probe in ran) == made.standings.costs[winner]


def test_the_state_is_kept_before_the_next_program_and_only_of_the_winner() -> None:
    trainer = Scripted(bowl(0.5))
    made, probes, _ = climbed(trainer)
    starts = [p for p in probes if p.origin is Origin.START]
    assert (
        [p.keep for p in starts]
        == [
            False,  # nothing to keep yet
            True,  # 0
            False,  # -0.5 is worse
            True,  # 0.5
            False,
            False,
        ][: len(starts)]
    )
    assert made.kept == 0.5
    assert {round(math.log10(probe.lr), 6) for probe in trainer.kept} == {0.5}
    assert all(not p.keep for p in probes if p.origin is Origin.LIVE)


def test_candidates_come_in_the_same_order_from_the_same_losses() -> None:
    runs = [climbed(Scripted(bowl(0.3), spread=0.1, seed=4)) for _ in range(2)]
    assert runs[0][1] == runs[1][1]
    assert runs[0][0].standings.scores == runs[1][0].standings.scores
    assert list(itertools.chain(runs[0][0].standings.costs)) == list(runs[1][0].standings.costs)
