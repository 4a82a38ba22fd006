"""The whole search: what it finds where the best LR is known, and what no loss makes of it."""

import itertools
import math
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrpilot_controller.core.findings import Candidate
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
    known: float | None = None,
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


@pytest.mark.parametrize("bowl", [one for one in BOWLS if one.noise], ids=str)
def test_a_check_keeps_what_is_still_right_for_less_than_half_the_price(bowl: Bowl) -> None:
    first, _, _, whole = searched(bowl, 0.01)
    again, probes, _, glance = searched(bowl, 0.01, known=first.lr)
    assert {probe.phase for probe in probes} == {Phase.REFERENCE, Phase.LADDER}
    assert again.lr == first.lr
    assert glance.spent < whole.spent / 2
    assert "stands" in again.reason


@pytest.mark.parametrize("wrong", [1e-6, 1e-3, 0.1, 30.0, 1e4])
@any_bowl
def test_a_check_of_what_is_not_right_any_more_is_followed_by_a_search(
    bowl: Bowl, wrong: float
) -> None:
    first, *_, whole = searched(bowl, 0.01)
    again, *_, glance = searched(bowl, 0.01, known=first.lr * wrong)
    assert again.lr == pytest.approx(first.lr)
    assert glance.spent < whole.spent + 80


@any_bowl
def test_what_stands_goes_on_from_the_state_of_its_own_program(bowl: Bowl) -> None:
    first, *_ = searched(bowl, 0.01)
    again, _, trainer, _ = searched(bowl, 0.01, known=first.lr)
    if "stands" in again.reason:
        assert again.kept != again.live
        ran = trainer.kept_ran if again.kept else trainer.ran
        assert ran[-1].segments[-1].end_value == 0.0
        assert ran[-1].lr < 5 * again.lr  # what short programs overrate an LR by


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


@given(jobs(), st.lists(LOSSES, min_size=1, max_size=60), REASONS, st.none() | st.floats(1e-9, 1e9))
@settings(max_examples=200)
def test_any_losses_end_it_within_the_budget_and_the_bounds(
    job: Job, losses: list[float], reason: str, known: float | None
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
