"""The jumps benchmark: its runs, what stands in for LRPilot in them, and what its tables say."""

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.jumps import arms, guarded, runs, table
from benchmarks.jumps.scenario import FACTORS, JUMPS, TASKS, Scenario, scenario
from benchmarks.quality import oracle, store
from benchmarks.quality.daemons import serving
from benchmarks.quality.store import Cell
from benchmarks.quality.tasks import own_steps

FAST = "matrix_factorization"


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def short(factor: float, name: str = FAST) -> Scenario:
    """A run of a third of its length, or half of it."""
    return replace(scenario(name, 1, factor), steps=500, jump=200)


@pytest.fixture(scope="module")
def untouched() -> float:
    return arms.nothing(short(1.0)).final


# -- the runs


@pytest.mark.parametrize("name", TASKS)
def test_the_rate_jumps_once_and_stays_wherever_the_factor(name: str) -> None:
    plain, *jumping = (scenario(name, 1, factor) for factor in FACTORS)
    for run in jumping:
        assert run.jump == plain.jump
        assert 0.2 <= run.jump / run.steps <= 0.7
        for step in range(run.steps):
            wrong = run.factor if step >= run.jump else 1.0
            assert run.rate(step) == pytest.approx(wrong * plain.rate(step))


def test_seeds_jump_at_different_steps() -> None:
    assert len({scenario(FAST, seed, 10.0).jump for seed in oracle.SEEDS}) == len(oracle.SEEDS)


def test_the_untouched_run_is_the_oracles_best() -> None:
    best = oracle.load(FAST)["seeds"]["1"]["best"]["loss"]
    assert arms.nothing(scenario(FAST, 1, 1.0)).final == pytest.approx(best, rel=1e-4)


def test_a_hundredfold_rate_destroys_a_run_that_nobody_guards() -> None:
    assert arms.nothing(short(100.0)).non_finite


# -- what stands in for LRPilot


@given(st.lists(st.floats(0.5, 2.0), min_size=30, max_size=60), st.floats(1.0, 1e6))
def test_zclip_lowers_outliers_alone_and_never_below_the_mean(
    norms: list[float], factor: float
) -> None:
    rule = arms.ZClip()
    assert [rule.limit(norm) for norm in norms[: rule.WARM_UP]] == norms[: rule.WARM_UP]
    for norm in norms[rule.WARM_UP :]:
        assert rule.limit(norm) <= norm
    norm = max(norms) * factor
    limit = rule.limit(norm)
    assert min(norms) <= limit <= norm
    assert limit <= 3.0 or limit == norm  # nothing above mean + 2.5 deviations of [.5, 2] passes
    assert limit <= 5.0


def test_stop_ends_at_the_jump_and_is_judged_there() -> None:
    run = short(100.0)
    outcome = arms.stop(run)
    stopped = int(outcome.note.rsplit(" ", 1)[1])
    assert run.jump < stopped < run.jump + 50
    assert math.isfinite(outcome.final)


def test_plateau_lowers_the_schedule_once_the_held_out_loss_stays_up() -> None:
    run = short(10.0, "digits_mlp")
    assert arms.plateau(run).final < arms.nothing(run).final


# -- LRPilot


def test_lrpilot_leaves_a_good_run_alone_and_rolls_a_bad_one_back(untouched: float) -> None:
    with serving([guarded.DAEMON]) as folders:
        folder = folders[guarded.DAEMON]
        good, quiet = guarded.run(short(1.0), folder, "good")
        assert (good.final, quiet.rollbacks) == (untouched, 0)

        bad = short(100.0, "digits_mlp")
        for direct in (False, True):  # by the user's scheduler, and by a write into the group
            outcome, story = guarded.run(bad, folder, f"direct-{direct}", direct=direct)
            assert story.rollbacks >= 1
            assert story.decisions["rollback, applied"] == story.rollbacks
            assert 0 < outcome.steps_outside < bad.steps


# -- what is kept, and what is told


def test_a_run_that_is_kept_is_not_missing(tmp_path: Path) -> None:
    chosen: dict[str, Any] = {"tasks": [FAST], "seeds": [1], "results": tmp_path}
    every = runs.missing(["stop", "lrpilot"], **chosen)
    assert [unit.cell.base for unit in every] == [*FACTORS, *FACTORS]

    store.append("stop", [runs.measure(every[1])], tmp_path)
    left = runs.missing(["stop", "lrpilot"], **chosen)
    assert left == [unit for unit in every if unit != every[1]]


def told(factor: float, final: float | None, seed: int = 1, **others: Any) -> dict[str, Any]:
    place = {"task": FAST, "seed": seed, "base": factor, "steps": own_steps(FAST)}
    numbers = {"final": final, "oracle": 0.1, "uninformed": 1.1}
    return place | numbers | {"versions": "torch 2", "commit": "abc"} | others


def keep(results: Path, arm: str, *rows: dict[str, Any]) -> None:
    store.append(arm, rows, results)


def test_harm_is_the_excess_that_an_arm_adds(tmp_path: Path) -> None:
    keep(tmp_path, "nothing", told(1.0, 0.10), told(1.0, 0.10, seed=2))
    twice = {"rollbacks": 2, "decisions": {"rollback, applied": 2}}
    keep(tmp_path, "lrpilot", told(1.0, 0.10), told(1.0, 0.16, seed=2, **twice))

    [line] = [line for line in table.table(tmp_path).splitlines() if line.startswith("| lrpilot")]

    assert line == "| lrpilot | 2 | .030 [.000, .060] | .060 | 1 | 2 | 2 rollback, applied |"


def test_a_rescue_is_near_the_untouched_run_and_a_lost_run_is_not(tmp_path: Path) -> None:
    keep(tmp_path, "nothing", told(1.0, 0.10))
    keep(tmp_path, "clip", told(10.0, 0.109), told(100.0, None))
    rows = table.compared(store.load("clip", tmp_path), store.load("nothing", tmp_path))
    steps = own_steps(FAST)

    near, lost = (rows[Cell(FAST, 1, factor, steps)] for factor in JUMPS)

    assert near["times"] == pytest.approx(1.09)
    assert near["more"] == pytest.approx(0.009)
    assert (lost["times"], lost["more"]) == (math.inf, pytest.approx(1.0))
    page = table.table(tmp_path)
    assert "| clip | x10 | 1 | 100 % [100 %, 100 %] | 100 % [100 %, 100 %] |" in page
    assert "| clip | x100 | 1 | 0 % [0 %, 0 %] | 0 % [0 %, 0 %] | 1.00 [1.00, 1.00] | 1 |" in page
    assert f"| {FAST} | 1/2 |" in page


def test_a_scenario_of_a_seed_without_an_oracle_is_refused() -> None:
    with pytest.raises(KeyError):
        scenario(FAST, 999, 1.0)


def test_a_scenario_builds_the_same_job_again() -> None:
    run: Scenario = scenario(FAST, 2, 10.0)
    first, second = run.job(), run.job()
    assert first.validate() == second.validate()
