"""A scheduler that is made in mid-run, as for stochastic weight averaging, keeps its curve."""

import pytest
import torch
from torch.optim.swa_utils import SWALR

import lrpilot
from lrpilot.testing import FakeDaemon
from lrpilot.torch.options import Options
from support.fits import cut, release

STEPS, SWA_AT = 24, 8
FACTOR = 0.37


def train(daemon: FakeDaemon | None, anneal: int, tensor: bool) -> list[float]:
    """The LR of each step: exponential first, then SWA's."""
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=torch.tensor(0.1) if tensor else 0.1)
    scheduler: torch.optim.lr_scheduler.LRScheduler
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
    pilot = None
    if daemon is not None:
        pilot = lrpilot.attach(optimizer, model=model, scheduler=scheduler, min_lr=0.0, max_lr=1.0)
    lrs = []
    for step in range(STEPS):
        if step == SWA_AT:
            scheduler = SWALR(optimizer, swa_lr=0.02, anneal_epochs=anneal)
            if pilot is not None:
                pilot.add_scheduler(scheduler)
        if daemon is not None and step in (4, 18):
            daemon.decide(cut(FACTOR) if step == 4 else release())
        lrs.append(float(optimizer.param_groups[0]["lr"]))
        loss = model(torch.ones(2, 3)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        if pilot is not None:
            pilot.step(loss)
    return lrs


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> FakeDaemon:
    fake = FakeDaemon()
    monkeypatch.setattr(Options, "_connect", lambda _: fake)
    return fake


@pytest.mark.parametrize("tensor", [False, True], ids=["float LR", "tensor LR"])
@pytest.mark.parametrize("anneal", [0, 6])
def test_its_curve_is_native_under_a_cut_and_after_a_release(
    daemon: FakeDaemon, anneal: int, tensor: bool
) -> None:
    alone, held = train(None, anneal, tensor), train(daemon, anneal, tensor)
    assert held[5:19] == pytest.approx([FACTOR * lr for lr in alone[5:19]])
    assert held[:5] + held[19:] == alone[:5] + alone[19:]


def test_after_close_it_drives_the_optimizer_again(daemon: FakeDaemon) -> None:
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.1)
    pilot = lrpilot.attach(optimizer, model=None)
    scheduler = SWALR(optimizer, swa_lr=0.02)
    pilot.add_scheduler(scheduler)
    assert scheduler.optimizer is not optimizer
    pilot.close()
    assert scheduler.optimizer is optimizer


def test_one_of_another_optimizer_is_refused(daemon: FakeDaemon) -> None:
    first, second = (torch.optim.SGD([torch.zeros(1)], lr=0.1) for _ in range(2))
    pilot = lrpilot.attach(first, model=None)
    with pytest.raises(ValueError, match="does not drive the optimizer"):
        pilot.add_scheduler(SWALR(second, swa_lr=0.02))


def test_a_pilot_that_only_observes_leaves_it_alone(daemon: FakeDaemon) -> None:
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.1)
    pilot = lrpilot.attach(optimizer, model=None, mode="observe")
    scheduler = SWALR(optimizer, swa_lr=0.02)
    pilot.add_scheduler(scheduler)
    assert scheduler.optimizer is optimizer
