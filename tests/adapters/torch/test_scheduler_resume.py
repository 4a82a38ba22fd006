"""`PilotLR` across checkpoints and copies, and at its end."""

import copy
import io
import math
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.optim.lr_scheduler import ChainedScheduler, ExponentialLR

from lrpilot.testing import FakeDaemon
from lrpilot.torch import PilotLR
from lrpilot.torch.options import Options
from support.decisions import cut, decay, release
from support.piloted import LR, PilotedLoop, native_curve


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> FakeDaemon:
    """The daemon of every attempt in the test."""
    fake = FakeDaemon()
    monkeypatch.setattr(Options, "_connect", lambda self: fake)
    monkeypatch.setattr("lrpilot.snapshots.TIME_SHARE", 1e9)  # these steps take microseconds
    return fake


# -- checkpoints


def stored(state: dict[str, Any]) -> dict[str, Any]:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    loaded: dict[str, Any] = torch.load(file, weights_only=True)
    return loaded


def chain(optimizer: torch.optim.Optimizer, make: Callable[..., PilotLR]) -> Any:
    native = ExponentialLR(optimizer, 0.9)
    return ChainedScheduler([native, make(scheduler=native)])


@pytest.mark.parametrize("observes", [True, False])
@pytest.mark.parametrize("compose", [None, chain])
def test_a_checkpoint_taken_under_a_plan_goes_on_with_it(
    daemon: FakeDaemon, compose: Any, observes: bool
) -> None:
    loop = PilotedLoop(compose)
    daemon.decide(cut(0.5))
    loop.train(4)
    saved = stored({"scheduler": loop.scheduler.state_dict(), "opt": loop.optimizer.state_dict()})
    reference = loop.train(3)

    resumed = PilotedLoop(compose)
    resumed.optimizer.load_state_dict(saved["opt"])
    resumed.scheduler.load_state_dict(saved["scheduler"])
    assert resumed.scheduler.state_dict() == saved["scheduler"]
    assert resumed.scheduler.get_last_lr() == [reference[0]]
    if observes:
        assert resumed.train(3) == reference
        assert daemon.hello is not None
        assert daemon.hello.start_step == 4
        assert daemon.hello.resumes == saved_run(saved["scheduler"])["attempt"]
        daemon.decide(release(id=3))
        resumed.train()
        native = native_curve(lambda o: ExponentialLR(o, 0.9), 9)
        assert resumed.lr == (native[8] if compose else LR)
    else:
        seen = []
        for _ in range(3):
            seen.append(resumed.lr)
            resumed.optimizer.step()
            resumed.scheduler.step()
        assert seen == reference
    assert resumed.pilot_lr.pilot.step_count == (8 if observes else 7)


def saved_run(state: dict[str, Any]) -> dict[str, Any]:
    run: dict[str, Any] = state["pilot"] if "pilot" in state else state["_schedulers"][1]["pilot"]
    return run


def test_a_state_that_is_loaded_in_mid_run_begins_another_attempt(daemon: FakeDaemon) -> None:
    loop = PilotedLoop()
    loop.train(2)
    state = loop.scheduler.state_dict()
    loop.train(3)
    loop.scheduler.load_state_dict(state)
    loop.train()
    goodbyes = [r.goodbye.step for r in daemon.reports if r.HasField("goodbye")]
    assert goodbyes == [5]
    assert daemon.items[-1][2] == 2


def test_a_state_of_another_optimizer_is_refused(daemon: FakeDaemon) -> None:
    loop = PilotedLoop()
    loop.train()
    state = loop.scheduler.state_dict()
    state["pilot"]["native_lrs"] *= 2
    with pytest.raises(ValueError, match="2 param groups, the optimizer 1"):
        loop.scheduler.load_state_dict(state)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))])
def test_a_copy_follows_its_plan_and_talks_to_nobody(
    daemon: FakeDaemon, copied: Callable[[PilotLR], PilotLR]
) -> None:
    loop = PilotedLoop(max_lr=1.0)
    daemon.decide(decay(0, 10, LR))
    loop.train(3)
    twin = copied(loop.scheduler)
    assert twin.state_dict() == loop.scheduler.state_dict()
    told, seen = len(daemon.items), []
    for _ in range(3):
        seen.append(twin.optimizer.param_groups[0]["lr"])
        twin.observe(1.0)
        twin.optimizer.step()
        twin.step()
    assert len(daemon.items) == told
    assert loop.train(3) == seen
    assert len(set(seen)) == 3


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))])
def test_a_copy_of_a_chain_keeps_its_own_curve(
    daemon: FakeDaemon, copied: Callable[[Any], Any]
) -> None:
    loop = PilotedLoop(chain)
    daemon.decide(cut(0.5))
    loop.train(3)
    twin, seen = copied(loop.scheduler), []
    for _ in range(4):
        seen.append(twin.optimizer.param_groups[0]["lr"])
        twin.optimizer.step()
        twin.step()
    assert seen == loop.train(4)
    assert seen == [lr / 2 for lr in native_curve(lambda o: ExponentialLR(o, 0.9), 7)[3:]]


# -- the end


def test_closing_ends_the_run_and_the_pilot_can_still_be_asked(daemon: FakeDaemon) -> None:
    loop = PilotedLoop()
    daemon.decide(cut(0.5))
    loop.train(2)
    loop.pilot_lr.close()
    loop.pilot_lr.close()
    assert [r.goodbye.reason for r in daemon.reports if r.HasField("goodbye")] == ["finished"]
    assert loop.train(2) == [LR / 2] * 2
    assert len(daemon.losses) == 2
    assert loop.pilot_lr.pilot.decisions[0].action == "cut"


def test_the_run_ends_with_the_scheduler(daemon: FakeDaemon) -> None:
    loop = PilotedLoop()
    loop.train(2)
    assert not daemon.closed
    del loop.pilot_lr, loop.scheduler
    assert daemon.closed
    assert [r.goodbye.step for r in daemon.reports if r.HasField("goodbye")] == [2]


def test_validation_and_stops_are_the_pilots(daemon: FakeDaemon) -> None:
    loop = PilotedLoop()
    loop.train()
    loop.pilot_lr.pilot.validate(2.0)
    assert daemon.items[-1][5] == 2.0
    loop.train(1, loss=math.nan)
    assert math.isnan(daemon.losses[-1])
    assert not loop.pilot_lr.pilot.should_stop
