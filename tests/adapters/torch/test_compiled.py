"""Compiled models and compiled steps: nothing is compiled again because of LRPilot."""

import shutil
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest
import torch
from torch import nn

import lrpilot
from lrpilot.testing import FakeDaemon
from lrpilot.torch import PilotLR
from lrpilot.torch.options import Options
from support.decisions import decay, rollback
from support.training import same

# What torch imports to compile warns of itself.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")

dynamo_testing = pytest.importorskip("torch._dynamo.testing")

LR = 0.05


@pytest.fixture(autouse=True)
def _compiled_anew() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> FakeDaemon:
    fake = FakeDaemon()
    monkeypatch.setattr(Options, "_connect", lambda self: fake)
    monkeypatch.setattr("lrpilot.snapshots.TIME_SHARE", 1e9)  # these steps take microseconds
    return fake


def build() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))


INPUTS = torch.linspace(-1, 1, 24).reshape(6, 4)


def loss_of(model: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    return (model(INPUTS) - INPUTS.sum(1, keepdim=True)).square().mean()


@pytest.mark.parametrize("given", ["compiled", "original"])
def test_a_compiled_model_is_restored_in_place(daemon: FakeDaemon, given: str) -> None:
    original, counter = build(), dynamo_testing.CompileCounter()
    compiled = torch.compile(original, backend=counter)
    optimizer = torch.optim.Adam(compiled.parameters(), lr=LR)
    start = [p.detach().clone() for p in original.parameters()]
    places = [p.data_ptr() for p in original.parameters()]
    with lrpilot.attach(optimizer, model=compiled if given == "compiled" else original) as pilot:
        for k in range(6):
            optimizer.zero_grad()
            loss = loss_of(compiled)
            loss.backward()
            optimizer.step()
            if k == 3:
                daemon.decide(rollback(1))
            pilot.step(loss)
            assert same(original.parameters(), start) is (k == 3)
    assert [p.data_ptr() for p in original.parameters()] == places
    assert counter.frame_count == 1
    assert daemon.losses[0] == daemon.losses[4]


OPTIMIZERS: dict[str, Callable[[Any, Any], torch.optim.Optimizer]] = {
    "sgd": lambda params, lr: torch.optim.SGD(params, lr, momentum=0.9),
    "adamw": lambda params, lr: torch.optim.AdamW(params, lr, capturable=False),
}


CONTROLS = ["attach", "attach, scheduler", "PilotLR"]


def compiled_graphs(name: str, lr: Any, control: str, daemon: FakeDaemon, steps: int = 6) -> int:
    """How many graphs a compiled `optimizer.step` comes to, the LR another one at every step."""
    torch._dynamo.reset()
    counter = dynamo_testing.CompileCounter()  # a backend that runs what it is given
    model = build()
    optimizer = OPTIMIZERS[name](list(model.parameters()), lr)
    pilot: Any = None
    if control == "attach":
        pilot = lrpilot.attach(optimizer, model=model, max_lr=1.0)
    elif control == "attach, scheduler":
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda k: 1.0)
        pilot = lrpilot.attach(optimizer, model=model, max_lr=1.0, scheduler=scheduler)
    elif control == "PilotLR":
        pilot = PilotLR(optimizer, model=model, max_lr=1.0)
    update = torch.compile(optimizer.step, backend=counter)
    daemon.decide(decay(0, steps, LR))
    seen = set()
    for _ in range(steps):
        seen.add(float(optimizer.param_groups[0]["lr"]))
        optimizer.zero_grad()
        loss = loss_of(model)
        loss.backward()
        update()
        if control == "PilotLR":
            pilot.observe(loss)
            pilot.step()
        elif pilot is not None:
            pilot.step(loss)
    assert len(seen) == (1 if pilot is None else steps)
    if pilot is not None:
        pilot.close()
    return int(counter.frame_count)


@cache
def compiled_alone(name: str, tensor: bool) -> int:
    """The same at a constant LR, as if LRPilot were not there."""
    return compiled_graphs(name, torch.tensor(LR) if tensor else LR, "none", FakeDaemon())


@pytest.mark.parametrize(
    ("name", "control"), [("sgd", "attach"), *(("adamw", control) for control in CONTROLS)]
)
def test_a_tensor_lr_that_moves_compiles_nothing_again(
    daemon: FakeDaemon, name: str, control: str
) -> None:
    assert compiled_graphs(name, torch.tensor(LR), control, daemon) == compiled_alone(name, True)


@pytest.mark.parametrize("control", CONTROLS)
def test_a_float_lr_that_moves_compiles_once_more_at_most(daemon: FakeDaemon, control: str) -> None:
    assert compiled_graphs("adamw", LR, control, daemon) <= compiled_alone("adamw", False) + 1


def test_a_compiled_step_is_restored_to_what_was_there_before_it(daemon: FakeDaemon) -> None:
    model = build()
    optimizer = torch.optim.Adam(model.parameters(), lr=torch.tensor(LR))
    update = torch.compile(optimizer.step, backend="eager")
    start = [p.detach().clone() for p in model.parameters()]
    with lrpilot.attach(optimizer, model=model) as pilot:
        daemon.decide(rollback(1))
        loss_of(model).backward()
        update()
        assert not same(model.parameters(), start)
        pilot.step(1.0)
        assert same(model.parameters(), start)


@pytest.mark.slow
@pytest.mark.skipif(
    not any(map(shutil.which, ("c++", "g++", "clang++"))), reason="no C++ compiler for inductor"
)
def test_a_step_that_inductor_compiled_runs_at_the_lr_that_was_decided(
    daemon: FakeDaemon,
) -> None:
    model = build()
    optimizer = torch.optim.SGD(model.parameters(), lr=torch.tensor(LR))
    update = torch.compile(optimizer.step)
    with lrpilot.attach(optimizer, model=model, max_lr=1.0) as pilot:
        daemon.decide(decay(0, 6, LR))
        for k in range(7):
            loss = loss_of(model)
            optimizer.zero_grad()
            loss.backward()
            before = [p.detach().clone() for p in model.parameters()]
            update()
            lr = LR if k == 0 else max(LR * (1 - k / 6), LR * 1e-4)
            for old, p in zip(before, model.parameters(), strict=True):
                assert p.grad is not None
                torch.testing.assert_close(p.detach(), old - lr * p.grad, rtol=1e-5, atol=1e-7)
            pilot.step(loss)
