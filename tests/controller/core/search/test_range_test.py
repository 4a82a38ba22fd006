"""The range test: an LR that rises until the loss does, and where a ladder should begin."""

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrpilot_controller.core.search.job import Family, Job, Prober
from lrpilot_controller.core.search.probe import Phase, Probe, Result, held
from lrpilot_controller.core.search.range_test import RangeTest, run
from lrpilot_controller.core.search.reference import Reference
from support.simulated import Bowl, Simulated, drive, lr_at, stopped

REFERENCE = Reference((2.0, 2.2, 1.8, 2.1, 1.9, 2.0), level=2.0, noise=0.1)
PLAIN = Family.PLAIN


def swept(
    answer: Callable[[Probe], Result], start: float, **known: object
) -> tuple[RangeTest, list[Probe]]:
    facts = {"low": 1e-9, "high": 1e9, "steps": 1000, "budget": 400} | known
    prober = Prober(Job(start, family=PLAIN, **facts))  # type: ignore[arg-type]
    return drive(run(prober, REFERENCE, start), answer)


def valley(bottom: float, edge: float) -> Callable[[Probe], Result]:
    """A loss that falls by a unit up to the LR `bottom`, and explodes beyond `edge`."""

    def answer(probe: Probe) -> Result:
        losses: list[float] = []
        why = None
        while why is None and len(losses) < probe.length:
            lr = lr_at(probe.segments, len(losses))
            batch = REFERENCE.losses[len(losses)] - 2.0 if len(losses) < 6 else 0.0
            rise = 10.0 * math.log(lr / edge) if lr > edge else 0.0
            losses.append(2.0 - min(lr / bottom, 1.0) + rise + batch)
            why = stopped(probe.stop, losses)
        return Result(tuple(losses), why or "length")

    return answer


def test_the_lr_rises_by_a_constant_factor_of_six_a_decade() -> None:
    seen, (probe,) = swept(valley(1.0, 100.0), 1e-3)
    assert probe.phase is Phase.RANGE_TEST
    lrs = seen.sweep.lrs
    assert lrs[0] == 1e-3
    assert [b / a for a, b in itertools.pairwise(lrs)] == pytest.approx(
        [10 ** (1 / 6)] * (len(lrs) - 1)
    )
    assert lrs == pytest.approx([lr_at(probe.segments, i) for i in range(len(lrs))])


def test_it_stops_soon_after_the_loss_rises() -> None:
    seen, (probe,) = swept(valley(0.1, 10.0), 1e-3)
    assert len(seen.sweep.lrs) < probe.length
    assert 10.0 < seen.edge < 30.0


def test_a_single_bad_batch_does_not_stop_it() -> None:
    well = valley(1.0, 1e12)

    def answer(probe: Probe) -> Result:
        losses = list(well(probe).losses)
        losses[12] += 0.5  # five times the noise
        why = stopped(probe.stop, losses[:13])
        assert why is None
        return Result(tuple(losses))

    swept(answer, 1e-3)


def test_the_ladder_begins_below_the_lowest_loss() -> None:
    seen, _ = swept(valley(1.0, 30.0), 1e-3)
    assert 1.0 <= seen.best_lr <= 30.0
    assert seen.anchor == pytest.approx(seen.best_lr / 3)


def test_a_lowest_loss_far_below_the_edge_says_nothing() -> None:
    seen, _ = swept(valley(1e-4, 1.0), 1e-4, steps=None)
    if seen.best_lr * 30 < seen.edge:
        assert seen.anchor == pytest.approx(seen.edge / 30)
    flat, _ = swept(lambda p: Result((2.0,) * 20, "ema_rise"), 1e-3, replay=False)
    assert flat.anchor == pytest.approx(flat.edge / 30)


def test_where_it_began_at_the_edge_it_begins_again_further_down() -> None:
    seen, probes = swept(valley(1e-3, 2e-2), 1e-2)
    assert [probe.lr for probe in probes[:2]] == pytest.approx([1e-2, 1e-4])
    assert len(seen.sweep.lrs) >= 5
    assert seen.anchor < 2e-2


def test_it_begins_again_a_few_times_only_and_not_below_the_bound() -> None:
    _, probes = swept(lambda _: Result((50.0,), "loss_cap"), 1.0)
    assert [probe.lr for probe in probes] == pytest.approx([1.0, 1e-2, 1e-4])
    _, probes = swept(lambda _: Result((50.0,), "loss_cap"), 1.0, low=0.1)
    assert [probe.lr for probe in probes] == pytest.approx([1.0, 0.1])


@pytest.mark.parametrize("steps", [200, 300, 1000, 100_000, None])
def test_it_costs_a_tenth_of_the_run_at_most(steps: int | None) -> None:
    _, (probe,) = swept(valley(1.0, 1e12), 1e-6, steps=steps)
    assert probe.length <= 42  # seven decades
    assert steps is None or probe.length <= 0.1 * steps


@given(
    st.floats(-8, 3),
    st.floats(0, 9),
    st.lists(st.floats(), min_size=1, max_size=50),
    st.booleans(),
    st.none() | st.integers(200, 5000),
)
def test_it_never_goes_beyond_the_bounds(
    start: float, above: float, losses: list[float], replay: bool, steps: int | None
) -> None:
    low, high = 1e-9, 10 ** (start + above)

    def answer(probe: Probe) -> Result:
        for step in range(probe.length):
            assert low <= lr_at(probe.segments, step) <= high * (1 + 1e-9)
        return Result(tuple((losses * probe.length)[: probe.length]), "ema_rise")

    seen, _ = swept(answer, min(10**start, high), low=low, high=high, replay=replay, steps=steps)
    assert all(low <= lr <= high * (1 + 1e-9) for lr in seen.sweep.lrs)
    assert seen.best_lr <= seen.edge <= high * (1 + 1e-9)
    assert 0 < seen.anchor < high


@pytest.mark.parametrize("noise", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("family", list(Family))
@pytest.mark.parametrize("replay", [True, False])
def test_on_a_simulated_job_it_leads_to_about_the_best_lr(
    family: Family, noise: float, replay: bool
) -> None:
    bowl = Bowl(family, noise)
    best = bowl.best_constant(np.geomspace(1e-3, 30, 19))
    trainer = Simulated(bowl, replay=replay)
    losses = trainer(Probe(Phase.REFERENCE, 0.0, held(0.0, 6), 6)).losses
    reference = Reference(losses, float(np.mean(losses)), float(np.std(losses, ddof=1)) + 1e-5)
    prober = Prober(bowl.job(best * 1e-3, replay=replay))
    seen, _ = drive(run(prober, reference, best * 1e-3), trainer)
    assert best / 30 < seen.anchor < best * 5
    if family is PLAIN and noise:  # without noise, what is unstable begins too small to be seen
        assert seen.anchor < 2.0 < seen.edge * 1.5
