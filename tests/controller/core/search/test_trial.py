"""A trial of a few factors in mid-run: what is clear wins, else the LR in force stands."""

import math
import random
from collections.abc import Callable

import pytest

from lrpilot_controller.core.search.job import Family, Job, Prober
from lrpilot_controller.core.search.probe import Probe, Result
from lrpilot_controller.core.search.search import Found
from lrpilot_controller.core.search.trial import trial

FACTORS = (1 / 3, 1.0, 3.0)
JOB = Job(0.1, 1e-5, 10.0, Family.NORMALIZED, steps=5000, budget=2000)


def run(
    answer: Callable[[Probe], Result], job: Job = JOB, factors: tuple[float, ...] = FACTORS
) -> tuple[Found, list[Probe]]:
    prober = Prober(job)
    probing, probes = trial(prober, factors), []
    try:
        probe = next(probing)
        while True:
            probes.append(probe)
            probe = probing.send(answer(probe))
    except StopIteration as stop:
        found: Found = stop.value
        return found, probes


def losses(best: float, noise: float = 0.05, seed: int = 0) -> Callable[[Probe], Result]:
    """The same batches each time; the loss at the end depends on the distance to the best LR."""

    def answer(probe: Probe) -> Result:
        rng = random.Random(seed)
        worse = 0.02 * abs(math.log(probe.lr / best))
        return Result(tuple(1.0 + worse + rng.gauss(0, noise) for _ in range(probe.length)))

    return answer


@pytest.mark.parametrize(("best", "factor"), [(0.3, 3.0), (0.033, 1 / 3)])
def test_a_factor_that_is_clearly_better_wins(best: float, factor: float) -> None:
    found, _ = run(losses(best))
    assert found.lr == pytest.approx(0.1 * factor, rel=0.02)
    assert len(found.candidates) == 3


def test_what_is_not_clear_leaves_the_rate_as_it_was() -> None:
    rng = random.Random(1)
    found, _ = run(lambda probe: Result(tuple(rng.gauss(1, 0.1) for _ in range(probe.length))))
    assert found.lr is None
    assert "no other LR is clearly better" in found.reason


def test_every_program_starts_from_the_same_state_and_anneals_to_zero() -> None:
    _, probes = run(losses(0.1))
    assert probes[0].lr == 0.1
    assert sorted(probe.lr for probe in probes) == pytest.approx([0.1 / 3, 0.1, 0.3])
    for probe in probes:
        assert probe.origin == "start"
        assert 40 <= probe.length <= 80  # as late as it must be read, and as long as is replayed
        assert probe.segments[-1].end_value == 0.0


def test_a_factor_that_diverges_does_not_win() -> None:
    def answer(probe: Probe) -> Result:
        if probe.lr > 0.2:
            return Result((1.0, 5.0, float("nan")), "non_finite")
        return losses(0.3)(probe)

    found, _ = run(answer)
    assert found.lr is None or found.lr < 0.2


@pytest.mark.parametrize(
    ("job", "why"),
    [
        (Job(0.1, 1e-5, 10.0, Family.PLAIN, 5000, 2000, replay=False), "replayed"),
        (Job(0.1, 0.1, 0.1, Family.PLAIN, 5000, 2000), "no other LR"),
        (Job(0.1, 1e-5, 10.0, Family.PLAIN, 300, 120), "300 steps are left"),
    ],
)
def test_it_declines_where_it_could_tell_nothing(job: Job, why: str) -> None:
    found, probes = run(losses(0.3), job)
    assert found.lr is None
    assert why in found.reason
    assert probes == []


def test_a_spent_budget_ends_it_with_what_it_has() -> None:
    found, probes = run(losses(0.3), Job(0.1, 1e-5, 10.0, Family.PLAIN, 5000, budget=130))
    assert len(probes) == 2
    assert len(found.candidates) == 2
