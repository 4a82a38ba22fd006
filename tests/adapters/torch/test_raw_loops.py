"""Raw loops as people write them: accumulation, loss scaling, closures, averaged weights."""

import copy
import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import lrpilot
from lrpilot.testing import FakeDaemon
from lrpilot.torch.options import Options
from support.decisions import cut, release, rollback
from support.training import same

LR = 0.1
HAS_SCALER = hasattr(torch.amp, "GradScaler")  # before torch 2.3 it was CUDA's alone


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> FakeDaemon:
    fake = FakeDaemon()
    monkeypatch.setattr(Options, "_connect", lambda self: fake)
    monkeypatch.setattr("lrpilot.snapshots.TIME_SHARE", 1e9)  # these steps take microseconds
    return fake


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 1))


def batches() -> Iterator[torch.Tensor]:
    data = torch.Generator().manual_seed(1)
    while True:
        yield torch.randn(6, 4, generator=data)


def loss_of(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return (model(x) - x.sum(1, keepdim=True)).square().mean()


def weights(model: nn.Module) -> list[torch.Tensor]:
    return [tensor.detach().clone() for tensor in model.state_dict().values()]


# -- gradient accumulation


def test_accumulation_is_one_step_per_update_with_the_mean_loss(
    model: nn.Module, daemon: FakeDaemon
) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=LR)
    data, means = batches(), []
    start = [p.detach().clone() for p in model.parameters()]
    with lrpilot.attach(optimizer, model=model) as pilot:
        for k in range(4):
            total = torch.zeros(())
            for _ in range(3):
                loss = loss_of(model, next(data)) / 3
                loss.backward()
                total += loss.detach()
            optimizer.step()
            means.append(total.item())
            if k == 3:
                daemon.decide(rollback(1))
            pilot.step(total)
            left = [p.grad for p in model.parameters() if p.grad is not None and p.grad.any()]
            assert not left if k == 3 else left  # they belong to the weights that were left
            optimizer.zero_grad()
    assert daemon.losses == means
    assert same(model.parameters(), start)
    assert pilot.step_count == 4


# -- loss scaling


def train_scaled(
    model: nn.Module, daemon: FakeDaemon, skipped: set[int], *, steps: int, always: bool
) -> list[dict[str, Any]]:
    """A loop with a GradScaler, a rollback at step 2 and a release at step 7.

    Returns: of each step the LR it ran at, the native LR, and the scaler's state before and after
        `pilot.step`.
    """
    optimizer = torch.optim.SGD(model.parameters(), lr=LR, momentum=0.5)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
    scaler = torch.amp.GradScaler("cpu", init_scale=16.0, growth_interval=2)
    data, seen, native = batches(), [], LR
    with lrpilot.attach(optimizer, model=model, scheduler=scheduler) as pilot:
        for k in range(steps):
            loss = loss_of(model, next(data))
            scaler.scale(loss).backward()
            if k in skipped:
                next(model.parameters()).grad.fill_(math.inf)  # type: ignore[union-attr]
            row = {"lr": optimizer.param_groups[0]["lr"], "native": native}
            before, scale = weights(model)[:2], scaler.get_scale()
            scaler.step(optimizer)
            scaler.update()
            moved = not same(before, weights(model)[:2])
            assert moved is (k not in skipped)
            assert (scaler.get_scale() < scale) is (k in skipped)
            optimizer.zero_grad()
            if moved or always:
                scheduler.step()
                native = scheduler.get_last_lr()[0]
            if k == 2:
                daemon.decide(rollback(1))
            if k == 7:
                daemon.decide(release(id=9, branch=1))
            row["scaler before"] = copy.deepcopy(scaler.state_dict())
            pilot.step(loss)
            row["scaler after"] = scaler.state_dict()
            seen.append(row)
        assert pilot.step_count == steps
    return seen


@pytest.mark.skipif(not HAS_SCALER, reason="this torch has no GradScaler for the CPU")
@pytest.mark.filterwarnings("ignore:Detected call of .lr_scheduler.step")  # torch, of a first skip
@pytest.mark.parametrize("always", [True, False], ids=["scheduler always", "scheduler if moved"])
@pytest.mark.parametrize("skipped", [{0, 1}, {2}, {4, 5}, {7, 8}])
def test_lr_plan_scheduler_and_scaler_stay_in_order_where_the_scaler_skips(
    model: nn.Module, daemon: FakeDaemon, skipped: set[int], always: bool
) -> None:
    seen = train_scaled(model, daemon, skipped, steps=12, always=always)
    for k, row in enumerate(seen):
        under_plan = 2 < k <= 7
        assert row["lr"] == row["native"] * (0.5 if under_plan else 1.0), k
        assert row["scaler before"] == row["scaler after"], "a restore is no business of the scaler"
    skips = 0 if always else len(skipped)
    curve = LR
    for _ in range(11 - skips):
        curve *= 0.9
    assert seen[-1]["native"] == curve
    assert [item[2] for item in daemon.items] == list(range(12)), "a skipped step is a step"
    assert [r.applied_step for r in daemon.receipts] == [3, 8]


def test_a_loss_of_half_precision_is_reported(model: nn.Module, daemon: FakeDaemon) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=LR)
    with lrpilot.attach(optimizer, model=model) as pilot:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = model(next(batches())).mean()
        assert loss.dtype is torch.bfloat16
        loss.backward()
        optimizer.step()
        pilot.step(loss)
    assert daemon.losses == [loss.item()]


# -- closures


def test_a_closure_is_a_step_like_any_other(model: nn.Module, daemon: FakeDaemon) -> None:
    twin = copy.deepcopy(model)
    data, losses, start = batches(), [], weights(model)
    optimizer = torch.optim.Adam(twin.parameters(), lr=LR)
    for _ in range(5):
        optimizer.zero_grad()
        loss = loss_of(twin, next(data))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())

    optimizer, data = torch.optim.Adam(model.parameters(), lr=LR), batches()

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = loss_of(model, next(data))
        loss.backward()
        return loss

    with lrpilot.attach(optimizer, model=model) as pilot:
        for _ in range(5):
            pilot.step(optimizer.step(closure))
        assert same(weights(model), weights(twin))
        daemon.decide(rollback(1))
        pilot.step(optimizer.step(closure))
        assert same(weights(model), start), "the start is what was there before the first closure"
        assert pilot.lrs == [LR / 2]
    assert daemon.losses[:5] == losses


# -- averaged weights


def test_averaged_weights_go_back_with_the_weights(model: nn.Module, daemon: FakeDaemon) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=LR)
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    start, data = weights(averaged), batches()
    places = [p.data_ptr() for p in averaged.parameters()]
    with lrpilot.attach(optimizer, model=model, stateful=[averaged]) as pilot:
        for k in range(4):
            optimizer.zero_grad()
            loss = loss_of(model, next(data))
            loss.backward()
            optimizer.step()
            averaged.update_parameters(model)
            if k == 3:
                daemon.decide(rollback(1))
            pilot.step(loss)
            assert same(weights(averaged), start) is (k == 3)
    assert int(averaged.n_averaged) == 0
    assert [p.data_ptr() for p in averaged.parameters()] == places


# -- several param groups


def test_groups_keep_their_ratios_and_their_names(model: nn.Module, daemon: FakeDaemon) -> None:
    body, norm, head = model.children()
    optimizer = torch.optim.AdamW(
        [
            {"params": body.parameters(), "lr": LR, "name": "body"},
            {"params": norm.parameters(), "lr": 0.0, "name": "norm"},
            {"params": head.parameters(), "lr": torch.tensor(LR / 8), "name": "head"},
        ]
    )
    with lrpilot.attach(optimizer, model=model) as pilot:
        daemon.decide(cut(0.5))
        pilot.step(1.0)
        assert pilot.lrs == [LR / 2, 0.0, pytest.approx(LR / 16)]
        assert isinstance(optimizer.param_groups[2]["lr"], torch.Tensor)
    assert daemon.hello is not None
    assert [group.name for group in daemon.hello.groups] == ["body", "norm", "head"]
