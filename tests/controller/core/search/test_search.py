"""The whole search: what it finds where the best LR is known, and what no loss makes of it."""

import itertools
import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrpilot_controller.core.findings import Candidate, Known, Reach
from lrpilot_controller.core.search.job import Family, Job, Prober
from lrpilot_controller.core.search.probe import Phase, Probe, Result, held
from lrpilot_controller.core.search.search import Found, check, search
from support.simulated import Bowl, Simulated, drive, stopped

BASES = [1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0]  # times the best LR
PLAIN, NORMALIZED = Family.PLAIN, Family.NORMALIZED
BOWLS = [Bowl(family, noise) for family in Family for noise in (0.0, 0.3, 1.0)]
any_bowl = pytest.mark.parametrize("bowl", BOWLS, ids=lambda b: f"{b.family}, noise {b.noise}")
any_batches = pytest.mark.parametrize("replay", [True, False], ids=["replayed", "fresh"])


@cache
def best_of(bowl: Bowl) -> float:
    return bowl.best_constant(np.geomspace(1e-3, 30, 37))


def searched(
    bowl: Bowl,
    base: float = 1.0,
    *,
    known: Known | None = None,
    replay: bool = True,
    **more: object,
) -> tuple[Found, list[Probe], Simulated, Prober]:
    """A search from `base` times the best LR of a bowl."""
    best = best_of(Bowl(bowl.family, bowl.noise))
    prober = Prober(bowl.job(best * base, replay=replay, **more))
    trainer = Simulated(bowl, replay=replay)
    part = search(prober) if known is None else check(prober, known)
    found, probes = drive(part, trainer)
    return found, probes, trainer, prober


# -- what it finds


@any_batches
@any_bowl
def test_from_a_base_that_is_wrong_by_orders_it_finds_the_best_lr(bowl: Bowl, replay: bool) -> None:
    best = best_of(bowl)
    for base in BASES:
        found, _, _, prober = searched(bowl, base, replay=replay)
        assert found.lr is not None
        assert best / 5 < found.lr < best * 5
        assert prober.spent <= prober.job.budget


@pytest.mark.parametrize("noise", [0.0, 0.3, 1.0])
@any_batches
def test_it_stays_below_the_edge_of_stability(noise: float, replay: bool) -> None:
    for base in BASES:
        found, *_ = searched(Bowl(PLAIN, noise), base, replay=replay)
        assert found.lr is not None
        assert found.lr < 1.0  # the edge is at 2


@any_bowl
def test_it_finds_about_the_same_from_any_base(bowl: Bowl) -> None:
    lrs = [searched(bowl, base)[0].lr for base in BASES]
    assert max(lrs) < 4 * min(lrs)


def test_an_unknown_horizon_is_one_of_2000_steps() -> None:
    bowl = Bowl(PLAIN, 0.3)
    unknown, probes, *_ = searched(bowl, 0.1, steps=None)
    known, others, *_ = searched(bowl, 0.1, steps=2000)
    assert unknown.lr == known.lr
    assert probes == others


def test_the_order_of_a_search() -> None:
    _, probes, *_ = searched(Bowl(PLAIN, 0.3), 0.01)
    phases = [phase for phase, _ in itertools.groupby(probe.phase for probe in probes)]
    assert phases == [Phase.REFERENCE, Phase.RESPONSE, Phase.RANGE_TEST, Phase.LADDER]


def test_what_was_found_says_what_was_tried() -> None:
    found, probes, trainer, prober = searched(Bowl(PLAIN, 0.3), 0.01)
    assert found.reference == pytest.approx(np.mean(run(Bowl(PLAIN, 0.3), 0.0, 6)))
    assert found.sweep is not None
    assert len(found.sweep.lrs) == len(found.sweep.losses) > 10
    tried = sorted({probe.lr for probe in probes if probe.phase is Phase.LADDER})
    assert [candidate.lr for candidate in found.candidates] == pytest.approx(tried)
    assert math.inf in [candidate.score for candidate in found.candidates]
    before = sum(probe.length for probe in probes if probe.phase is Phase.RESPONSE) + 6
    spent = sum(candidate.steps for candidate in found.candidates) + len(found.sweep.lrs) + before
    assert spent == prober.spent == len(trainer.lrs)
    assert f"of {len(tried)} LRs" in found.reason


def run(bowl: Bowl, lr: float, steps: int) -> tuple[float, ...]:
    return Simulated(bowl)(Probe(Phase.LADDER, lr, held(lr, steps), steps)).losses


# -- where training goes on from


@any_batches
@pytest.mark.parametrize("family", list(Family))
@pytest.mark.parametrize("lowest", [1e-2, 1e-4])
def test_the_state_that_is_named_is_the_one_that_the_winner_ended_in(
    family: Family, replay: bool, lowest: float
) -> None:
    named = 0
    for noise, base, seed in itertools.product((0.0, 0.1, 1.0), (1e-2, 1.0, 30.0), range(3)):
        found, _, trainer, _ = searched(Bowl(family, noise, lowest, seed=seed), base, replay=replay)
        if found.lr is None or not (found.live or found.kept):
            continue
        named += 1
        ran = trainer.ran if found.live else trainer.kept_ran
        winner = next(iter({probe.lr for probe in ran}))
        assert f" {winner:.3g} won" in found.reason
        # To the end of its program: the LR went to 0, perhaps with looks at LR 0 after it.
        assert {probe.lr for probe in ran} == {winner}
        assert ran[-1].segments[-1].end_value == 0.0
    assert named > 20


# -- a check of what an earlier run found


def past_of(*found: Found, times: float = 1.0) -> Known:
    """What such runs tell the next one, or what a liar does who has seen them."""
    assert found[0].lr is not None
    came = [replace(one.progress, lr=one.progress.lr * times) for one in found if one.progress]
    return Known(found[0].lr * times, tuple(came))


@any_batches
@any_bowl
def test_what_was_found_says_how_far_the_winners_program_came(bowl: Bowl, replay: bool) -> None:
    found, *_ = searched(bowl, 0.01, replay=replay)
    assert found.progress is not None
    assert found.reference is not None
    (winner,) = (one for one in found.candidates if math.isclose(one.lr, found.progress.lr))
    assert found.progress.end == pytest.approx(found.reference - winner.score)
    assert f" {winner.lr:.3g} won" in found.reason


@any_bowl
def test_what_is_still_right_stands_after_one_program(bowl: Bowl) -> None:
    first, _, _, whole = searched(bowl, 0.01)
    again, probes, _, once = searched(bowl, 0.01, known=past_of(first))
    assert again.lr == first.lr
    assert {probe.phase for probe in probes} == {Phase.REFERENCE, Phase.LADDER}
    assert len({probe.lr for probe in probes if probe.phase is Phase.LADDER}) == 1
    assert once.spent < whole.spent / 2
    assert "stands" in again.reason


def test_it_stands_on_other_batches_too() -> None:
    kept, spent, searches = 0, 0, 0
    for family, noise, seed in itertools.product(Family, (0.0, 0.3), range(1, 6)):
        first, _, _, whole = searched(Bowl(family, noise), 0.01)
        again, _, _, once = searched(Bowl(family, noise, seed=seed), 0.01, known=past_of(first))
        kept += again.lr == first.lr
        spent, searches = spent + once.spent, searches + whole.spent
    assert kept >= 16
    assert spent < searches / 2


@any_bowl
def test_it_goes_on_half_way_where_the_loss_fell_as_far_as_there(bowl: Bowl) -> None:
    first, *_ = searched(bowl, 0.01)
    assert first.progress is not None
    again, probes, trainer, _ = searched(bowl, 0.01, known=past_of(first))
    assert again.live
    assert trainer.ran[-1].lr == pytest.approx(first.progress.lr)
    assert again.progress is not None
    if first.progress.halfway > 0:  # the same batches, so that it came as far
        assert [probe.length for probe in probes] == [6, first.progress.steps // 2]
        assert again.progress == replace(again.progress, lr=first.progress.lr, end=None)
        assert again.progress.halfway == pytest.approx(first.progress.halfway)


def test_the_least_that_earlier_runs_saw_is_enough() -> None:
    bowl = Bowl(PLAIN, 0.3)
    first, *_ = searched(bowl, 0.01)
    claimed = past_of(first).progress[0]
    far = replace(claimed, halfway=2 * claimed.halfway, end=2 * (claimed.end or 0.0))
    alone, *_ = searched(bowl, 0.01, known=Known(first.lr or 0.0, (far,)))
    assert "stands" not in alone.reason
    beside, *_ = searched(bowl, 0.01, known=Known(first.lr or 0.0, (far, claimed)))
    assert "stands" in beside.reason
    other = replace(claimed, steps=claimed.steps + 1)  # of no use: another program
    apart, *_ = searched(bowl, 0.01, known=Known(first.lr or 0.0, (far, other)))
    assert "stands" not in apart.reason


def test_progress_that_was_none_is_no_past() -> None:
    bowl = Bowl(PLAIN, 0.3)
    first, *_ = searched(bowl, 0.01)
    nothing = replace(past_of(first).progress[0], halfway=-0.1, end=0.0)
    found, *_ = searched(bowl, 0.01, known=Known(first.lr or 0.0, (nothing,)))
    assert "stands" not in found.reason


@any_batches
def test_a_past_that_measured_nothing_is_none(replay: bool) -> None:
    plain, probes, *_ = searched(Bowl(PLAIN, 0.3), 0.01, replay=replay)
    found, others, *_ = searched(Bowl(PLAIN, 0.3), 0.01, replay=replay, known=Known(30.0))
    assert (found, others) == (plain, probes)


# Where noise hides what an LR does at once, a thirtieth of it comes as far in a short program.
BY_ORDERS = [*itertools.product(BOWLS, (1e-6, 1e-3, 30.0, 1e4))]
BY_TENS = [*itertools.product((Bowl(PLAIN), Bowl(PLAIN, 0.3), Bowl(NORMALIZED)), (1 / 30, 0.1))]


@pytest.mark.parametrize(("bowl", "wrong"), BY_ORDERS + BY_TENS, ids=str)
def test_a_past_that_is_not_right_any_more_is_followed_by_a_search(
    bowl: Bowl, wrong: float
) -> None:
    first, *_, whole = searched(bowl, 0.01)
    assert first.progress is not None
    again, *_, once = searched(bowl, 0.01, known=past_of(first, times=wrong))
    assert again.lr == pytest.approx(first.lr)
    assert once.spent <= whole.spent + 6 + first.progress.steps


def test_what_falls_less_than_a_third_at_once_is_given_up_half_way() -> None:
    bowl = Bowl(PLAIN, 0.3)
    first, *_ = searched(bowl, 0.01)
    assert first.progress is not None
    for times, given_up in ((1.0, False), (2.9, False), (3.1, True)):
        claimed = replace(first.progress, at_once=times * first.progress.at_once)
        found, probes, *_ = searched(bowl, 0.01, known=Known(first.lr or 0.0, (claimed,)))
        assert ("stands" not in found.reason) is given_up
        assert probes[1].lr == pytest.approx(first.progress.lr)
        assert probes[1].length == first.progress.steps // 2
        assert [probe.phase for probe in probes[2:3]] == ([Phase.RESPONSE] if given_up else [])


# -- what the losses' scale and offset change: nothing


MAPS = [(1e-3, 0.0), (1e3, 0.0), (1.0, 100.0), (1.0, -3.0), (1e3, -3e3), (1e-3, 0.1)]


def shape(probes: list[Probe]) -> list[tuple[object, ...]]:
    return [(p.phase, p.origin, p.keep, p.length, [s.shape for s in p.segments]) for p in probes]


@any_batches
@pytest.mark.parametrize(("scale", "offset"), MAPS)
@pytest.mark.parametrize("family", list(Family))
def test_a_search_does_not_depend_on_the_scale_and_offset_of_the_loss(
    family: Family, scale: float, offset: float, replay: bool
) -> None:
    for base in (1e-2, 1.0, 100.0):
        plain, probes, plain_trainer, _ = searched(Bowl(family, 0.3), base, replay=replay)
        mapped = Bowl(family, 0.3, scale=scale, offset=offset)
        found, others, trainer, _ = searched(mapped, base, replay=replay)
        assert found.lr == pytest.approx(plain.lr, rel=1e-6)
        assert (found.live, found.kept) == (plain.live, plain.kept)
        assert shape(others) == shape(probes)
        assert trainer.lrs == pytest.approx(plain_trainer.lrs, rel=1e-6)
        for probe, other in zip(probes, others, strict=True):
            if probe.stop.loss_cap is not None:
                cap = scale * probe.stop.loss_cap + offset
                assert other.stop.loss_cap == pytest.approx(cap, rel=1e-6)
            if probe.stop.ema_rise is not None:
                assert other.stop.ema_rise == pytest.approx(scale * probe.stop.ema_rise, rel=1e-6)


@given(st.floats(-3, 3), st.floats(-50, 50), st.sampled_from(list(Family)), st.booleans())
@settings(max_examples=25)
def test_nor_on_any_other(decades: float, offset: float, family: Family, replay: bool) -> None:
    scale = 10**decades
    plain, *_ = searched(Bowl(family, 1.0), 0.1, replay=replay)
    mapped = Bowl(family, 1.0, scale=scale, offset=offset * scale)
    found, *_ = searched(mapped, 0.1, replay=replay)
    assert found.lr == pytest.approx(plain.lr, rel=1e-6)


# -- what no loss can make of it


LOSSES = st.one_of(
    st.floats(),
    st.floats(0, 10),
    st.sampled_from([math.nan, math.inf, -math.inf, 1e308, -1e308, 1e200, 5e-324, 0.0]),
)
REASONS = st.sampled_from(["", "", "", "length", "loss_cap", "non_finite", "made up"])


@st.composite
def jobs(draw: st.DrawFn) -> Job:
    low = 10 ** draw(st.floats(-12, 0))
    high = low * 10 ** draw(st.floats(0, 12))
    return Job(
        base_lr=10 ** draw(st.floats(-14, 14)),
        low=low,
        high=high,
        family=draw(st.sampled_from(list(Family))),
        steps=draw(st.none() | st.integers(1, 10_000)),
        budget=draw(st.integers(0, 2000)),
        replay=draw(st.booleans()),
    )


FALLS = st.floats(-1e12, 1e12)
PROGRESS = st.builds(
    Reach, st.floats(1e-9, 1e9), st.integers(24, 80), FALLS, FALLS, st.none() | FALLS
)
PASTS = st.builds(Known, st.floats(1e-9, 1e9), st.lists(PROGRESS, max_size=3).map(tuple))


@given(jobs(), st.lists(LOSSES, min_size=1, max_size=60), REASONS, st.none() | PASTS)
@settings(max_examples=200)
def test_any_losses_end_it_within_the_budget_and_the_bounds(
    job: Job, losses: list[float], reason: str, known: Known | None
) -> None:
    said, ran, lrs = itertools.cycle(losses), 0, list[float]()

    def answer(probe: Probe) -> Result:
        nonlocal ran
        heard: list[float] = []
        why = None
        while why is None and len(heard) < probe.length:
            heard.append(next(said))
            why = stopped(probe.stop, heard)
        ran += len(heard)
        lrs.extend(v for s in probe.segments for v in (s.start_value, s.end_value))
        assert probe.length >= 1
        return Result(tuple(heard), reason or why or "length")

    prober = Prober(job)
    found, _ = drive(search(prober) if known is None else check(prober, known), answer)
    assert prober.spent == ran <= job.budget
    for lr in lrs:
        assert lr == 0.0 or lr <= job.high
    starts = [lr for lr in lrs if lr > 0]
    assert all(math.isfinite(lr) for lr in starts)
    if found.lr is not None:
        assert job.low <= found.lr <= job.high
    assert prober.safe is None or job.low <= prober.safe <= job.high
    assert found.reason
    assert all(isinstance(one, Candidate) for one in found.candidates)


@given(st.lists(LOSSES, max_size=80), st.sampled_from(["length", "loss_cap"]), jobs())
@settings(max_examples=150)
def test_a_result_of_any_length_does_no_harm(losses: list[float], reason: str, job: Job) -> None:
    found, _ = drive(search(Prober(job)), lambda _: Result(tuple(losses), reason))
    assert found.lr is None or job.low <= found.lr <= job.high


def test_what_it_declines() -> None:
    short, probes, *_ = searched(Bowl(), steps=199)
    assert (short.lr, probes) == (None, [])
    assert short.reason == "199 steps are left, a search needs 200"

    broken = Prober(Bowl().job(0.1))
    found, probes = drive(search(broken), lambda p: Result((math.nan,), "non_finite"))
    assert found.lr is None
    assert len(probes) == 1
    assert found.reason == "the loss is not finite before any training"

    poor = Prober(Bowl().job(0.1, budget=20))
    found, _ = drive(search(poor), Simulated(Bowl()))
    assert found.lr is None
    assert found.reason == "the budget did not allow one candidate"


def test_where_every_candidate_diverges_it_declines() -> None:
    def answer(probe: Probe) -> Result:
        if probe.phase is Phase.REFERENCE:
            return Result((1.0, 1.1, 0.9, 1.0, 1.1, 0.9))
        return Result((math.inf,), "non_finite")

    found, _ = drive(search(Prober(Bowl().job(0.1))), answer)
    assert (found.lr, found.reason) == (None, "every candidate diverged")
    assert all(candidate.score == math.inf for candidate in found.candidates)
    assert (found.live, found.kept) == (False, False)


def test_on_fresh_batches_noise_alone_is_no_ground_for_a_choice() -> None:
    rng = np.random.default_rng(3)
    declined = 0
    for _ in range(20):
        prober = Prober(Bowl(NORMALIZED).job(0.1, replay=False))
        found, _ = drive(
            search(prober), lambda p: Result(tuple(2.0 + 0.1 * rng.standard_normal(p.length)))
        )
        declined += found.lr is None
    assert declined >= 19


@any_bowl
def test_a_budget_that_is_spent_before_the_end_takes_the_best_so_far(bowl: Bowl) -> None:
    whole, probes, _, prober = searched(bowl, 0.1, budget=10_000)
    for share in (0.6, 0.8, 0.95):
        found, some, _, less = searched(bowl, 0.1, budget=int(share * prober.spent))
        assert less.spent <= less.job.budget
        assert some == probes[: len(some)]
        assert len(some) < len(probes)
        if found.candidates:
            assert found.lr is None or 0.1 < found.lr / whole.lr < 10
