"""The quality benchmark's tasks are what its measurements take them for."""

import itertools
import json
import math
import statistics
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks.quality import oracle
from benchmarks.quality.tasks import DESIGN_SEED, TASKS, Task, task


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Models this small are faster so, above all beside other work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def first_losses(job: Task, count: int) -> list[float]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # dropout
        return [job.loss(batch).item() for batch in itertools.islice(job.batches(), count)]


def test_there_are_at_least_ten_with_four_optimizers() -> None:
    jobs = [task(name, DESIGN_SEED) for name in TASKS]

    assert len(jobs) >= 10
    assert {job.optimizer_name for job in jobs} == {"sgd", "sgdm", "adam", "adamw"}
    assert all(500 <= job.total_steps <= 1500 for job in jobs)
    assert task(TASKS[0], DESIGN_SEED, steps=7).total_steps == 7


def test_no_oracle_seed_was_used_for_design() -> None:
    assert len(oracle.SEEDS) == 5
    assert DESIGN_SEED not in oracle.SEEDS


@pytest.mark.parametrize("name", TASKS)
def test_a_seed_fixes_weights_and_batches(name: str) -> None:
    torch.manual_seed(1)
    one = task(name, 11)
    torch.manual_seed(2)
    same, other = task(name, 11), task(name, 12)

    assert first_losses(one, 3) == first_losses(same, 3)
    assert first_losses(one, 3) != first_losses(other, 3)


@pytest.mark.parametrize("name", TASKS)
def test_batches_start_again_in_each_call_and_go_on(name: str) -> None:
    job = task(name, 11)
    stream = job.batches()
    first, second = next(stream), next(stream)
    again = next(job.batches())

    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], second[0])


@pytest.mark.parametrize("name", TASKS)
def test_building_and_validating_leave_random_state_and_modes_alone(name: str) -> None:
    state = torch.get_rng_state()
    job = task(name, 11)
    job.model.train()
    next(job.model.children(), job.model).eval()  # as someone does who freezes a layer
    modes = [module.training for module in job.model.modules()]
    tensors = [tensor.clone() for tensor in job.model.state_dict().values()]

    assert job.validate() == job.validate()
    assert torch.equal(torch.get_rng_state(), state)
    assert [module.training for module in job.model.modules()] == modes
    after = job.model.state_dict().values()
    assert all(torch.equal(a, b) for a, b in zip(tensors, after, strict=True))
    assert all(parameter.grad is None for parameter in job.model.parameters())


@pytest.mark.parametrize("name", TASKS)
def test_a_model_that_answers_zero_has_the_uninformed_loss(name: str) -> None:
    job = task(name, 11)
    with torch.no_grad():
        for parameter in job.model.parameters():
            parameter.zero_()

    assert job.validate() == pytest.approx(job.uninformed, rel=1e-4)


@pytest.mark.parametrize("name", TASKS)
def test_twenty_steps_lower_the_loss(name: str) -> None:
    job = task(name, 11)
    before = job.validate()
    optimizer = job.make_optimizer(job.lr_scale / 3)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        losses = []
        for batch in itertools.islice(job.batches(), 20):
            loss = job.loss(batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())

    assert all(math.isfinite(loss) for loss in losses)
    assert job.validate() < before


def test_held_out_data_is_not_trained_on() -> None:
    job = task("digits_mlp", 11)
    batches = itertools.islice(job.batches(), 45)  # more than one epoch
    trained = {tuple(row.tolist()) for inputs, _ in batches for row in inputs}
    seen: list[torch.Tensor] = []
    job.model.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    job.validate()

    held_out = {tuple(row.tolist()) for row in seen[0]}
    assert len(trained) > 1200
    assert trained.isdisjoint(held_out)


def test_many_epochs_are_many_and_use_batch_norm_and_dropout() -> None:
    job = task("digits_many_epochs", 11)
    stream = job.batches()
    first = next(stream)[0][0]
    seen = sum(
        bool((inputs == first).all(1).any())
        for inputs, _ in itertools.islice(stream, job.total_steps - 1)
    )

    assert seen >= 20
    kinds = {type(module) for module in job.model.modules()}
    assert {nn.BatchNorm1d, nn.Dropout} <= kinds


def test_excess() -> None:
    assert oracle.excess(0.5, 0.5, 2.5) == 0
    assert oracle.excess(1.5, 0.5, 2.5) == 0.5
    assert oracle.excess(0.4, 0.5, 2.5) < 0  # better than the oracle
    assert [oracle.excess(bad, 0.5, 2.5) for bad in (math.nan, math.inf, 2.5, 9.0)] == [1.0] * 4


def test_cosine_warms_up_for_a_twentieth_and_ends_near_zero() -> None:
    factors = [oracle.cosine(step, 100) for step in range(100)]

    assert factors[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert factors[5] == 1.0
    assert factors[5:] == sorted(factors[5:], reverse=True)
    assert 0 < factors[-1] < 0.001
    assert statistics.fmean(factors[5:]) == pytest.approx(0.5, abs=0.01)


def test_the_oracle_is_the_best_of_ten_runs_and_is_kept(tmp_path: Path) -> None:
    found = oracle.search("noisy_least_squares", DESIGN_SEED, steps=30)
    losses = [run["loss"] for run in found["grid"] if run["loss"] is not None]

    assert len(found["grid"]) == 10
    assert found["best"]["loss"] == min(losses)
    kept = oracle.load("noisy_least_squares", tmp_path)
    kept["seeds"]["100"] = found
    oracle.save(kept, tmp_path)
    assert oracle.load("noisy_least_squares", tmp_path) == kept
    assert [path.name for path in tmp_path.iterdir()] == ["noisy_least_squares.json"]
    assert json.loads((tmp_path / "noisy_least_squares.json").read_text())["steps"] == 1500


def test_a_run_that_blows_up_is_infinitely_bad_and_leaves_the_random_state_alone() -> None:
    state = torch.get_rng_state()

    assert oracle.train(task("noisy_least_squares", 11), "constant", 1e4) == math.inf
    assert torch.equal(torch.get_rng_state(), state)
