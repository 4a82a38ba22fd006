"""The pilot across checkpoints, and where a state does not fit."""

import json
from typing import Any

import pytest
import torch

from lrpilot.pilot import Pilot
from lrpilot.plan import Bounds
from lrpilot.run import RunInfo
from lrpilot.testing import FakeDaemon
from lrpilot.torch.losses import TorchLosses
from lrpilot.torch.trainer import TorchTrainer
from lrpilot_proto.v1 import model_pb2, session_pb2
from support.guarded import LR, Loop, cut, rollback
from support.schedules import SCHEDULERS


@pytest.fixture(autouse=True)
def _steps_are_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """These loops step in microseconds; real ones can afford their snapshots."""
    monkeypatch.setattr("lrpilot.snapshots.TIME_SHARE", 1e9)


def test_a_checkpoint_carries_step_branch_plan_and_native_lr() -> None:
    loop = Loop(scheduler=SCHEDULERS["ExponentialLR"])
    loop.train(3)
    loop.daemon.decide(rollback(1, 0.5))
    loop.train(2)
    state = json.loads(json.dumps(loop.pilot.state_dict()))
    resumed = Loop(scheduler=SCHEDULERS["ExponentialLR"], state=state)
    assert resumed.pilot.step_count == 5
    assert resumed.pilot.lrs == loop.pilot.lrs
    resumed.train()
    hello = resumed.daemon.hello
    assert hello is not None
    assert (hello.resumes, hello.start_step, hello.branch) == ("a", 5, 1)
    assert hello.plan.segments[-1].end_value == 0.5
    assert hello.last_decision_id == 1


def test_an_optimizer_loaded_before_attach_does_not_narrow_the_bounds() -> None:
    loop = Loop()
    loop.daemon.decide(cut(0.25))
    loop.train()
    state = loop.pilot.state_dict()
    resumed = Loop(lrs=(LR * 0.25,), state=state)  # as its optimizer's checkpoint says
    assert resumed.pilot.lrs == [LR * 0.25]
    resumed.daemon.decide(model_pb2.Decision(id=2, action="ACTION_RELEASE", release=True, branch=0))
    resumed.train()
    hello = resumed.daemon.hello
    assert hello is not None
    assert (hello.groups[0].base_lr, hello.max_lr) == (LR, LR)
    assert resumed.pilot.lrs == [LR]


def test_a_state_that_does_not_fit_is_refused_with_both_numbers() -> None:
    state = Loop().pilot.state_dict()
    with pytest.raises(ValueError, match="2 param groups, the optimizer 1"):
        Loop(state=Loop(lrs=(LR, LR)).pilot.state_dict())
    with pytest.raises(ValueError, match="version 99"):
        Loop(state=state | {"version": 99})


def test_a_group_added_since_the_checkpoint_is_no_reason_to_refuse_it() -> None:
    resumed = Loop(lrs=(LR, LR), state=Loop().pilot.state_dict())
    resumed.train()
    assert len(resumed.pilot.lrs) == 1


@pytest.mark.parametrize("mode", ["observe", "off"])
def test_who_writes_nothing_writes_nothing_on_a_resume_either(mode: str) -> None:
    loop = Loop()
    loop.daemon.decide(cut(0.5))
    loop.train()
    state = loop.pilot.state_dict()
    assert Loop(mode=mode, state=state).pilot.lrs == [LR]


def test_state_is_loaded_before_the_first_step_or_not_at_all() -> None:
    loop = Loop()
    loop.train()
    with pytest.raises(RuntimeError, match="before the first"):
        loop.pilot.load_state_dict(loop.pilot.state_dict())


def test_a_decision_about_the_old_attempts_snapshot_is_refused_after_a_resume() -> None:
    state = Loop().pilot.state_dict()
    loop = Loop(state=state)
    loop.daemon.decide(rollback(7))
    loop.train()
    assert loop.daemon.receipts[0].status == model_pb2.DECISION_STATUS_REJECTED


class Running(torch.nn.Module):
    """Re-assigns its buffer instead of writing into it, as much code does."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(4, 4)
        self.register_buffer("mean", torch.zeros(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.linear(x)
        self.mean = 0.9 * self.mean + 0.1 * out.detach().mean(0)
        return out - self.mean


def test_a_buffer_that_was_put_in_anothers_place_is_restored() -> None:
    model = Running()
    optimizer = torch.optim.SGD(model.parameters(), lr=LR)
    trainer = TorchTrainer(optimizer, model)
    trainer.snapshot(0)
    with torch.no_grad():
        model(torch.full((2, 4), torch.nan))
    assert model.mean.isnan().all()
    trainer.restore(0, rng=False)
    assert model.mean.eq(0).all()


def test_a_tensor_that_no_longer_fits_is_refused_before_anything_is_touched() -> None:
    model = torch.nn.Linear(4, 4)
    trainer = TorchTrainer(torch.optim.SGD(model.parameters(), lr=LR), model)
    trainer.snapshot(0)
    with torch.no_grad():
        model.weight.fill_(3.0)
    model.bias = torch.nn.Parameter(torch.ones(5))
    with pytest.raises(RuntimeError, match="bias"):
        trainer.restore(0, rng=False)
    assert model.weight.eq(3.0).all()


def test_a_restore_that_fails_still_lowers_the_lr(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("half-way")

    monkeypatch.setattr(TorchTrainer, "restore", fail)
    loop = Loop()
    loop.daemon.decide(rollback(1, 0.5))
    loop.train()
    assert loop.pilot.lrs == [LR / 2]
    assert loop.daemon.receipts[0].status == model_pb2.DECISION_STATUS_REJECTED


def test_a_tensor_lr_under_a_plan_is_nobody_elses_writing() -> None:
    model = torch.nn.Linear(4, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=torch.tensor(LR))
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
    daemon = FakeDaemon()
    trainer = TorchTrainer(optimizer, model, schedulers=[scheduler])
    info = RunInfo("p", "r", "a", total_steps=250)
    pilot = Pilot(trainer, daemon, info, TorchLosses(), lambda base: Bounds(base * 1e-4, base))
    seen = []
    for k in range(6):
        if k == 1:
            daemon.decide(cut(0.5))
        optimizer.step()
        scheduler.step()
        pilot.step(1.0)
        seen.append(pilot.lrs[0])
    native = [LR * 0.9 ** (k + 1) for k in range(6)]
    assert seen == pytest.approx([native[0], *(lr / 2 for lr in native[1:])])
    assert all(r.WhichOneof("body") != "notice" for r in daemon.reports)


def test_an_optimizer_loaded_after_attach_brings_its_lr(tmp_path: Any) -> None:
    """LRPilot adopted in the middle of a run: there is no state of a pilot yet."""
    old = Loop(mode="observe", scheduler=SCHEDULERS["StepLR"])
    old.train(7)
    loop = Loop(scheduler=SCHEDULERS["StepLR"])
    loop.optimizer.load_state_dict(old.optimizer.state_dict())
    loop.scheduler.load_state_dict(old.scheduler.state_dict())
    for one in (old, loop):
        one.train(4)
    assert loop.pilot.lrs == old.pilot.lrs


def test_unknown_messages_of_a_newer_daemon_are_ignored() -> None:
    loop = Loop()
    loop.daemon.inbox.append(session_pb2.Welcome())
    loop.daemon.decide(model_pb2.Decision(id=1, action=99, reason="from the future"))
    loop.train()
    assert loop.pilot.lrs == [LR]
    assert loop.pilot.decisions[0].action == "99"
