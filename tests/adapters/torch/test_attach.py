"""`lrpilot.attach`: what it accepts, what it refuses with a reason, and when it stays inert."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import lrpilot
from lrpilot.testing import FakeDaemon
from lrpilot.torch.options import Options
from support.decisions import rollback


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> FakeDaemon:
    fake = FakeDaemon()
    monkeypatch.setattr(Options, "_connect", lambda self: fake)
    return fake


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(3, 1)


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.1)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"search": "yes"}, "search='yes': True, False or 'auto'"),
        ({"mode": "ask"}, "mode='ask': 'auto', 'advise', 'observe' or 'off'"),
        ({"total_steps": 0}, "total_steps=0: a whole number >= 1"),
        ({"total_steps": 1.5}, "total_steps=1.5"),
        ({"steps_per_epoch": -3}, "steps_per_epoch=-3"),
        ({"project": "a/b"}, "project='a/b': 1 to 200"),
        ({"run": ""}, "run=''"),
        ({"min_lr": -1.0}, "min_lr=-1.0"),
        ({"max_lr": float("inf")}, "max_lr=inf"),
        ({"min_lr": 0.5, "max_lr": 0.2}, "min_lr <= max_lr"),
        ({"token": "two words"}, "token: a token has"),
        ({"signals": {"plateau": "stop"}}, "plateau='stop': off, say, probe or cut is allowed"),
        ({"signals": {"platau": "cut"}}, "no signal 'platau'; there are nonfinite"),
        ({"signals": "plateau"}, "signals='plateau': a dict such as"),
        ({"connect_timeout": -1}, "connect_timeout=-1"),
    ],
)
def test_a_value_that_cannot_be_is_refused_with_what_is_allowed(
    model: nn.Module, daemon: FakeDaemon, keywords: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        lrpilot.attach(sgd(model), model=model, **keywords)


@pytest.mark.parametrize("address", ["nowhere", "unix:", "10.0.0.1:50051", "host:port"])
def test_an_address_that_cannot_be_is_refused_at_once(model: nn.Module, address: str) -> None:
    with pytest.raises(ValueError, match=r"address|unix|loopback|TLS"):
        lrpilot.attach(sgd(model), model=model, address=address)


def test_arguments_of_the_wrong_kind_are_type_errors(model: nn.Module, daemon: FakeDaemon) -> None:
    with pytest.raises(TypeError, match="optimizer is a str"):
        lrpilot.attach("adam", model=model)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="model is a dict"):
        lrpilot.attach(sgd(model), model={})  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="stateful holds a int"):
        lrpilot.attach(sgd(model), model=model, stateful=[3])  # type: ignore[list-item]


def test_an_optimizer_without_parameters_is_refused(model: nn.Module, daemon: FakeDaemon) -> None:
    optimizer = sgd(model)
    optimizer.param_groups[0]["params"] = []
    with pytest.raises(ValueError, match="no parameters"):
        lrpilot.attach(optimizer, model=model)


def test_a_scheduler_of_another_optimizer_is_refused(model: nn.Module, daemon: FakeDaemon) -> None:
    other = torch.optim.lr_scheduler.StepLR(sgd(model), 3)
    with pytest.raises(ValueError, match="does not drive the optimizer"):
        lrpilot.attach(sgd(model), model=model, scheduler=other)


def test_a_scheduler_that_was_not_passed_is_asked_for(model: nn.Module, daemon: FakeDaemon) -> None:
    optimizer = sgd(model)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 3)
    with pytest.warns(UserWarning, match="scheduler=..."):
        lrpilot.attach(optimizer, model=model)
    assert scheduler.optimizer is optimizer


def test_the_scheduler_gets_its_optimizer_back_at_the_end(
    model: nn.Module, daemon: FakeDaemon
) -> None:
    optimizer = sgd(model)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 3)
    for _ in range(2):  # as in a notebook, where a cell is run again
        with lrpilot.attach(optimizer, model=model, scheduler=scheduler):
            assert scheduler.optimizer is not optimizer
        assert scheduler.optimizer is optimizer
    lrpilot.attach(optimizer, model=model, scheduler=scheduler)
    lrpilot.attach(optimizer, model=model, scheduler=scheduler).close()


def test_the_daemon_is_told_what_is_to_follow_from_signals(
    model: nn.Module, daemon: FakeDaemon
) -> None:
    with lrpilot.attach(sgd(model), model=model, signals={"plateau": "cut"}) as pilot:
        pilot.step(1.0)
    assert daemon.hello is not None
    assert dict(daemon.hello.signals) == {"plateau": "cut"}


@pytest.mark.parametrize("off", ["mode", "environment"])
def test_off_is_inert(
    model: nn.Module, daemon: FakeDaemon, off: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    keywords = {}
    if off == "mode":
        keywords["mode"] = "off"
    else:
        monkeypatch.setenv("LRPILOT", "off")
    optimizer = sgd(model)
    with lrpilot.attach(optimizer, model=model, **keywords) as pilot:  # type: ignore[arg-type]
        pilot.step(1.0)
        pilot.validate(1.0)
        pilot.settle()
        assert list(pilot.batches([1, 2])) == [1, 2]
    assert pilot.step_count == 1
    assert pilot.lrs == [0.1]
    assert pilot.state_dict()["step"] == 1
    assert daemon.hello is None
    assert not pilot.should_stop


def test_the_start_snapshot_is_of_the_weights_just_before_the_first_update(
    model: nn.Module, daemon: FakeDaemon
) -> None:
    optimizer = sgd(model)
    pilot = lrpilot.attach(optimizer, model=model)
    assert pilot.summary().snapshots == 0
    with torch.no_grad():  # as a checkpoint that is loaded after attach
        for parameter in model.parameters():
            parameter.fill_(2.0)
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    pilot.step(1.0)
    pilot._trainer.restore(0, rng=False)
    assert all(bool((p == 2.0).all()) for p in model.parameters())


def test_hooks_of_others_stand_beside_ours(model: nn.Module, daemon: FakeDaemon) -> None:
    optimizer = sgd(model)
    pilot = lrpilot.attach(optimizer, model=model)
    called = []
    optimizer.register_step_pre_hook(lambda *_: called.append(1))
    for _ in range(2):
        optimizer.step()
        pilot.step(1.0)
    assert len(called) == 2
    assert pilot.summary().snapshots == 1
    pilot.close()
    assert len(optimizer._optimizer_step_pre_hooks) == 1
    optimizer.step()
    assert len(called) == 3


def test_a_validation_before_the_first_step_leaves_the_start_where_it_is(
    model: nn.Module, daemon: FakeDaemon
) -> None:
    optimizer = sgd(model)
    with lrpilot.attach(optimizer, model=model) as pilot:
        pilot.validate(3.0)
        with torch.no_grad():
            model.weight.fill_(7.0)  # as a checkpoint that is loaded only now
        model(torch.ones(2, 3)).sum().backward()
        optimizer.step()
        daemon.decide(rollback(1))
        pilot.step(1.0)
        assert torch.equal(model.weight, torch.full((1, 3), 7.0))


def test_a_start_that_was_missed_waits_for_its_proof(model: nn.Module, daemon: FakeDaemon) -> None:
    optimizer = sgd(model)
    with lrpilot.attach(optimizer, model=model) as pilot:
        optimizer._optimizer_step_pre_hooks.clear()  # no hook runs where a graph is replayed
        optimizer.step()
        pilot.step(1.0)
    taken = [r.snapshot for r in daemon.reports if r.HasField("snapshot")]
    assert [(one.step, one.proven) for one in taken] == [(1, False)]


def test_a_device_that_fails_at_the_end_hides_nothing(
    model: nn.Module, daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: object) -> None:
        raise RuntimeError("device lost")

    pilot = lrpilot.attach(sgd(model), model=model)
    pilot.step(1.0)
    monkeypatch.setattr("lrpilot.torch.losses.TorchLosses.drain", fail)

    def train() -> None:
        with pilot:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train()
    assert daemon.closed


def test_a_run_without_a_name_is_named_after_its_script(
    model: nn.Module, daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("sys.argv", [str(tmp_path / "finetune.py")])
    pilot = lrpilot.attach(sgd(model), model=model)
    pilot.step(1.0)
    assert daemon.hello is not None
    script, date, letters = daemon.hello.run.name.split("-")
    assert (script, len(date), len(letters)) == ("finetune", 8, 4)


def test_without_a_model_there_are_no_snapshots(model: nn.Module, daemon: FakeDaemon) -> None:
    pilot = lrpilot.attach(sgd(model), model=None)
    pilot.step(1.0)
    assert daemon.hello is not None
    assert not daemon.hello.capabilities.snapshot
    assert pilot.summary().snapshots == 0
