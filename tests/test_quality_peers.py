"""What LRPilot is compared with does what its authors say."""

import math
from collections.abc import Iterator, Sequence

import pytest
import torch
from torch import nn

from benchmarks.quality import finder, oracle, peers
from benchmarks.quality.greedy import GreedyLR
from benchmarks.quality.ours import Meter
from benchmarks.quality.tasks import task

SHORT = 60  # steps


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def optimizer(lr: float) -> torch.optim.SGD:
    return torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr)


def lrs(rule: GreedyLR, metrics: Sequence[float]) -> list[float]:
    found = []
    for metric in metrics:
        rule.step(metric)
        found.append(rule.lr)
    return found


# -- GreedyLR's rule


def test_it_raises_after_patience_and_one_new_bests_in_a_row() -> None:
    found = lrs(GreedyLR(optimizer(0.1), factor=0.5, patience=2), [5, 4, 3, 2, 1, 0])

    assert found == [0.1, 0.1, 0.2, 0.2, 0.2, 0.4]


def test_it_cuts_after_patience_and_one_that_are_no_new_best() -> None:
    found = lrs(GreedyLR(optimizer(0.1), factor=0.5, patience=2), [5, 5, 5, 5, 5, 5, 5])

    assert found == [0.1, 0.1, 0.1, 0.05, 0.05, 0.05, 0.025]


def test_one_bad_metric_breaks_the_row_and_nan_is_bad() -> None:
    assert set(lrs(GreedyLR(optimizer(0.1), patience=1), [5, 6, 4, 5, 3, 4])) == {0.1}
    assert lrs(GreedyLR(optimizer(0.1), factor=0.5, patience=1), [math.nan] * 2) == [0.1, 0.05]


def test_its_default_bounds_leave_a_lower_lr_to_rise_only() -> None:
    low = GreedyLR(optimizer(5e-5), patience=0)
    assert set(lrs(low, [5.0] * 50)) <= {5e-5, 5e-5 / 0.95}  # the first metric is a new best

    high = GreedyLR(optimizer(3.0), patience=0)
    assert set(lrs(high, [5, 4, 3])) == {3.0}


def test_bounds_hold() -> None:
    rule = GreedyLR(optimizer(0.1), factor=0.5, patience=0, min_lr=0.04, max_lr=0.15)

    assert lrs(rule, [5, 4, 4, 4, 4]) == [0.15, 0.15, 0.075, 0.04, 0.04]


def test_metrics_are_passed_over_after_a_change() -> None:
    rule = GreedyLR(optimizer(0.1), factor=0.5, patience=0, warmup=2, cooldown=1)

    assert lrs(rule, [5, 4, 3, 9, 8, 9]) == [0.2, 0.2, 0.2, 0.1, 0.1, 0.05]


def test_smoothing_judges_the_mean_of_the_window() -> None:
    rule = GreedyLR(optimizer(0.1), factor=0.5, patience=0, smooth=True, window_size=2)

    assert lrs(rule, [4, 6, 0]) == [0.2, 0.1, 0.2]  # means 4, 5, 3


def test_it_starts_again_after_so_many_cuts_at_its_minimum() -> None:
    rule = GreedyLR(optimizer(0.1), factor=0.5, patience=0, min_lr=0.05, reset_start=2)

    assert lrs(rule, [1, 2, 2, 2, 3]) == [0.2, 0.1, 0.05, 0.1, 0.2]


# -- the peers


@pytest.mark.parametrize("name", peers.PEERS)
def test_a_peer_learns_and_repeats(name: str) -> None:
    state = torch.get_rng_state()

    def final() -> float:
        job = task("digits_many_epochs", 11, steps=3 * SHORT)  # with dropout and BatchNorm
        return peers.PEERS[name].run(job, job.lr_scale).final

    first = final()
    assert first < math.log(10) or name == "lr-finder"  # which may suggest what learns nothing
    assert final() == first
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", [name for name, peer in peers.PEERS.items() if peer.needs_base])
def test_a_run_that_blows_up_is_lost(name: str) -> None:
    job = task("noisy_least_squares", 11, steps=SHORT)

    assert peers.PEERS[name].run(job, 1e6).non_finite


def test_following_the_oracles_cosine_is_the_oracles_cosine() -> None:
    def job():  # type: ignore[no-untyped-def]
        return task("digits_many_epochs", 11, steps=SHORT)

    one = job()
    chosen = one.make_optimizer(0.01)
    with peers.seeded(one):
        assert peers.fit(one, chosen, before=peers.follow(chosen, 0.01, SHORT))

    assert peers.judged(one, True) == oracle.train(job(), "cosine", 0.01)


def test_the_finders_steps_are_charged_and_undone() -> None:
    job = task("digits_tanh_noisy_labels", 11, steps=4 * SHORT)
    before = [tensor.clone() for tensor in job.model.state_dict().values()]
    found, spent = finder.find(job, 0.01)

    assert 1e-8 <= found <= 1
    assert 0 < spent <= 100
    after = job.model.state_dict().values()
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    outcome = peers.lr_finder(task("digits_tanh_noisy_labels", 11, steps=4 * SHORT), 0.01)
    assert (outcome.lr, outcome.steps_outside) == (found, spent)


def test_a_meter_goes_back_with_the_weights() -> None:
    meter = Meter()
    meter.steps = 3
    state = meter.state_dict()
    meter.steps = 9
    meter.load_state_dict(state)

    assert meter.steps == 3
