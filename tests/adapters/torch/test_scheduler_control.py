"""`PilotLR` under control: what is told, and who writes the LR, alone and composed."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.optim.lr_scheduler import (
    ChainedScheduler,
    ConstantLR,
    ExponentialLR,
    ReduceLROnPlateau,
    SequentialLR,
)

from lrpilot.testing import FakeDaemon
from lrpilot.torch import PilotLR
from lrpilot.torch.options import Options
from lrpilot_proto.v1 import model_pb2
from support.decisions import cut, decay, release, rollback
from support.piloted import LR, NATIVE, PilotedLoop, native_curve
from support.searches import Script, over, program, runs


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> FakeDaemon:
    """The daemon of every attempt in the test."""
    fake = FakeDaemon()
    monkeypatch.setattr(Options, "_connect", lambda self: fake)
    monkeypatch.setattr("lrpilot.snapshots.TIME_SHARE", 1e9)  # these steps take microseconds
    return fake


# -- what is reported


def test_a_step_is_one_sample_with_the_mean_of_its_losses(daemon: FakeDaemon) -> None:
    loop = PilotedLoop()
    for losses in ((1.0,), (2.0, torch.tensor([4.0])), (torch.tensor(5.0), 6.0, 7.0)):
        for loss in losses:
            loop.pilot_lr.observe(loss)
        loop.optimizer.step()
        loop.scheduler.step()
    assert daemon.losses == [1.0, 3.0, 6.0]
    assert [item[2] for item in daemon.items] == [0, 1, 2]
    assert [item[6] for item in daemon.items] == [(LR,)] * 3


def test_a_loss_may_come_after_the_optimizers_step(daemon: FakeDaemon) -> None:
    loop = PilotedLoop()
    for k in range(3):
        loop.optimizer.step()
        loop.pilot_lr.observe(float(k))
        loop.scheduler.step()
    assert [(item[2], item[5]) for item in daemon.items] == [(0, 0.0), (1, 1.0), (2, 2.0)]
    (taken,) = [r.snapshot for r in daemon.reports if r.HasField("snapshot")]
    assert not taken.proven, "it is not what the run started with"


def test_a_search_needs_the_first_loss_before_the_first_update(daemon: FakeDaemon) -> None:
    loop = PilotedLoop(search=True)
    loop.optimizer.step()
    loop.pilot_lr.observe(1.0)
    loop.scheduler.step()
    assert not daemon.waits
    assert daemon.hello is not None
    assert not daemon.hello.search
    assert daemon.hello.max_lr == LR
    (notice,) = [r.notice.text for r in daemon.reports if r.HasField("notice")]
    assert notice.startswith("no search: an update was made before")


def test_a_search_runs_in_the_scheduler(monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script(
        runs(program(1, lr=0.05, length=3)), runs(program(2, lr=0.2, length=3)), over(3, lr=0.07)
    )
    daemon = FakeDaemon(script)
    monkeypatch.setattr(Options, "_connect", lambda self: daemon)
    loop = PilotedLoop(search=True)
    start, ran = loop.weights, []
    for k, _ in enumerate(loop.pilot_lr.pilot.batches([0, 1] * 4)):
        ran += loop.train()
        assert all(map(torch.equal, loop.weights, start)) is (k == 2)
    assert ran == pytest.approx([0.05] * 3 + [0.2] * 3 + [0.07] * 2)
    assert [len(result.losses) for result in daemon.results] == [3, 3]
    assert daemon.results[0].losses[0] == daemon.results[1].losses[0]
    loop.optimizer.step()
    loop.scheduler.step()
    assert loop.pilot_lr.pilot.step_count == 9


def test_a_step_without_a_loss_ends_a_program(monkeypatch: pytest.MonkeyPatch) -> None:
    daemon = FakeDaemon(Script(runs(program(1, lr=0.05, length=9))))
    monkeypatch.setattr(Options, "_connect", lambda self: daemon)
    loop = PilotedLoop(search=True)
    loop.train(2)
    loop.optimizer.step()
    loop.scheduler.step()
    assert [result.stop_reason for result in daemon.results] == ["interrupted"]
    assert loop.train(2) == [LR, LR]


@pytest.mark.parametrize("loss", [torch.ones(2), None, "low", [1.0, 2.0]])
def test_what_is_no_loss_is_refused_where_it_is_given(daemon: FakeDaemon, loss: Any) -> None:
    with pytest.raises(TypeError, match="one element"):
        PilotedLoop().pilot_lr.observe(loss)


def test_steps_are_the_optimizers_however_often_the_scheduler_is_stepped(
    daemon: FakeDaemon,
) -> None:
    loop = PilotedLoop()
    for _ in range(4):  # as Accelerate does with three processes
        loop.train()
        loop.scheduler.step()
        loop.scheduler.step()
    assert loop.pilot_lr.last_epoch == 12
    assert loop.pilot_lr.pilot.step_count == 4
    for _ in range(5):  # as a scheduler that is stepped once per epoch
        loop.pilot_lr.observe(1.0)
        loop.optimizer.step()
    loop.scheduler.step()
    assert [item[2] for item in daemon.items] == [0, 1, 2, 3, 8]
    assert loop.pilot_lr.pilot.step_count == 9


def test_a_step_without_a_loss_counts_and_moves_the_plan_on(daemon: FakeDaemon) -> None:
    loop = PilotedLoop(max_lr=1.0)
    daemon.decide(decay(0, 10, LR))
    ran = loop.train(2)
    for _ in range(12):
        ran.append(loop.lr)
        loop.optimizer.step()
        loop.scheduler.step()
    assert ran[1:] == pytest.approx([max(LR * (1 - k / 10), LR * 1e-4) for k in range(1, 14)])
    loop.train()
    assert [item[2] for item in daemon.items] == [0, 1, 14]


def test_a_step_that_the_scaler_skipped_is_no_trap(daemon: FakeDaemon) -> None:
    loop = PilotedLoop()
    loop.train(2)
    loop.pilot_lr.observe(3.0)  # HF and Accelerate skip the scheduler's step as well
    loop.train(1, loss=1.0)
    assert [(item[2], item[5]) for item in daemon.items][2:] == [(2, 2.0)]
    loop.pilot_lr.observe(5.0)  # Lightning and most loops do not
    loop.scheduler.step()
    assert [(item[2], item[5]) for item in daemon.items][3:] == [(3, 5.0)]


# -- what is applied


def test_a_cut_is_in_force_from_the_next_step_on_and_told_by_get_last_lr(
    daemon: FakeDaemon,
) -> None:
    loop = PilotedLoop()
    loop.train(2)
    daemon.decide(cut(0.5))
    loop.train()
    assert loop.scheduler.get_last_lr() == [loop.lr] == [LR / 2]
    daemon.decide(release())
    assert loop.train(2) == [LR / 2, LR]
    assert [r.applied_step for r in daemon.receipts] == [3, 4]


def test_a_rollback_restores_the_state_that_the_run_started_with(daemon: FakeDaemon) -> None:
    loop = PilotedLoop()
    start = loop.weights
    loop.train(3)
    daemon.decide(rollback(1))
    loop.train()
    assert all(map(torch.equal, loop.weights, start))
    assert loop.lr == LR / 2
    assert (loop.pilot_lr.last_epoch, loop.pilot_lr.pilot.step_count) == (4, 4)


def test_watching_leaves_the_weights_bit_identical(daemon: FakeDaemon) -> None:
    watched, alone = PilotedLoop(), PilotedLoop(mode="off")
    assert watched.train(30) == alone.train(30)
    assert all(map(torch.equal, watched.weights, alone.weights))
    assert len(daemon.losses) == 30


@pytest.mark.parametrize("off", ["mode", "environment"])
def test_off_is_inert(daemon: FakeDaemon, off: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if off == "environment":
        monkeypatch.setenv("LRPILOT", "off")
    loop = PilotedLoop(**{"mode": "off"} if off == "mode" else {})
    loop.train(3)
    assert daemon.hello is None
    assert loop.scheduler.state_dict()["pilot"]["step"] == 3


def test_a_tensor_lr_stays_the_same_tensor(daemon: FakeDaemon) -> None:
    parameter = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([parameter], lr=torch.tensor(LR))
    tensor = optimizer.param_groups[0]["lr"]
    scheduler = PilotLR(optimizer)
    daemon.decide(cut(0.5))
    scheduler.observe(1.0)
    optimizer.step()
    scheduler.step()
    assert optimizer.param_groups[0]["lr"] is tensor
    assert tensor.item() == pytest.approx(LR / 2)
    assert scheduler.get_last_lr()[0] is not tensor


def test_a_group_that_is_added_under_a_plan_keeps_its_own_lr(daemon: FakeDaemon) -> None:
    loop = PilotedLoop()
    daemon.decide(cut(0.5))
    loop.train(2)
    extra = torch.nn.Parameter(torch.ones(2))
    loop.optimizer.add_param_group({"params": [extra], "lr": 0.07})
    loop.train(2)
    with pytest.warns(UserWarning, match="epoch parameter"):
        loop.scheduler.step(1)
    assert [group["lr"] for group in loop.optimizer.param_groups] == [LR / 2, 0.07]


# What happens between two turns of a loop: a loss is given, the optimizer steps or is skipped, and
# so often the scheduler is stepped.
TURNS = st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(0, 2)), max_size=20)


@settings(max_examples=40)
@given(TURNS)
def test_the_lr_is_the_plan_at_the_steps_made_over_the_native_curve(
    turns: list[tuple[bool, bool, int]],
) -> None:
    daemon = FakeDaemon()
    slope = model_pb2.Segment(shape="SHAPE_LINEAR", start=0, end=20, start_value=1.0, end_value=0.2)
    daemon.decide(cut(1.0, plan=model_pb2.Plan(kind="PLAN_KIND_SCALE", segments=[slope])))
    curve = native_curve(NATIVE["exponential"], 50)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Options, "_connect", lambda self: daemon)
        loop = PilotedLoop(chained, model=None)
        steps = made = stepped = 0
        given_one = began = known = False
        for observed, moved, times in [(False, True, 1), *turns]:  # torch wants an update first
            if observed:
                loop.pilot_lr.observe(1.0)
                given_one = began = True
            if moved:
                loop.optimizer.step()
                made += 1
            for _ in range(times):
                loop.scheduler.step()
                stepped += 1
                if began:
                    steps += max(made, int(given_one))
                    known, made, given_one = known or given_one, 0, False
                factor = max(1.0 - 0.8 * steps / 20, 0.2) if known else 1.0
                assert loop.lr == pytest.approx(curve[stepped] * factor, rel=1e-12)
                assert loop.scheduler.get_last_lr() == [loop.lr]
        if known:
            assert loop.pilot_lr.pilot.step_count == steps
        loop.pilot_lr.close()


# -- beside other schedulers


def chained(optimizer: torch.optim.Optimizer, make: Callable[..., PilotLR]) -> Any:
    """A schedule, and the PilotLR that scales it."""
    native = NATIVE["exponential"](optimizer)
    return ChainedScheduler([native, make(scheduler=native)])


@pytest.mark.parametrize("first", ["native", "pilot"])
@pytest.mark.parametrize("name", NATIVE)
def test_a_chained_schedule_is_scaled_and_given_back_to_the_last_bit(
    daemon: FakeDaemon, name: str, first: str
) -> None:
    def compose(optimizer: torch.optim.Optimizer, make: Callable[..., PilotLR]) -> Any:
        native = NATIVE[name](optimizer)
        chain = [native, make(scheduler=native)]
        return ChainedScheduler(chain if first == "native" else chain[::-1])

    loop, curve = PilotedLoop(compose), native_curve(NATIVE[name], 12)
    assert loop.train(3) == curve[:3]
    daemon.decide(cut(0.5))
    loop.train()
    assert loop.train(4) == [lr / 2 for lr in curve[4:8]]
    daemon.decide(release())
    loop.train()
    assert loop.train(3) == curve[9:]


@pytest.mark.parametrize("name", NATIVE)
def test_a_schedule_that_was_not_named_keeps_its_curve_while_nothing_is_decided(
    daemon: FakeDaemon, name: str
) -> None:
    def compose(optimizer: torch.optim.Optimizer, make: Callable[..., PilotLR]) -> Any:
        return ChainedScheduler([NATIVE[name](optimizer), make()])

    loop = PilotedLoop(compose)
    assert loop.train(8) == native_curve(NATIVE[name], 8)


def test_a_schedule_that_was_not_named_is_asked_for_once_it_writes_under_a_plan(
    daemon: FakeDaemon,
) -> None:
    def compose(optimizer: torch.optim.Optimizer, make: Callable[..., PilotLR]) -> Any:
        return ChainedScheduler([ExponentialLR(optimizer, 0.9), make()])

    loop = PilotedLoop(compose)
    daemon.decide(cut(0.5))
    assert loop.train(5) == pytest.approx([LR, *(LR * 0.9**k / 2 for k in range(1, 5))])
    assert [r.notice.kind for r in daemon.reports if r.HasField("notice")] == ["foreign_lr"]


def test_in_a_sequence_it_begins_from_the_base_lr_and_only_in_its_turn(
    daemon: FakeDaemon,
) -> None:
    def compose(optimizer: torch.optim.Optimizer, make: Callable[..., PilotLR]) -> Any:
        warmup = ConstantLR(optimizer, 0.25, 4)
        return SequentialLR(optimizer, [warmup, make(), ExponentialLR(optimizer, 0.5)], [3, 8])

    loop = PilotedLoop(compose)
    assert loop.train(3) == [LR / 4] * 3
    daemon.decide(cut(0.5))
    assert loop.train(5) == [LR, *[LR / 2] * 4]
    assert loop.train(3) == [LR, LR / 2, LR / 4]
    assert not [r.notice.kind for r in daemon.reports if r.HasField("notice")]
    assert loop.pilot_lr.pilot.step_count == 7  # of which it was told in its last turn


def test_a_plateau_scheduler_keeps_its_own_lr_under_a_plan(daemon: FakeDaemon) -> None:
    kept = []

    def compose(optimizer: torch.optim.Optimizer, make: Callable[..., PilotLR]) -> Any:
        kept.append(ReduceLROnPlateau(optimizer, factor=0.5, patience=0))
        return make(scheduler=kept[0])

    loop, (plateau,) = PilotedLoop(compose), kept
    daemon.decide(cut(0.5))
    loop.train(2)
    plateau.step(1.0)
    plateau.step(1.0)
    assert loop.train(2) == [LR / 4] * 2
    daemon.decide(release())
    loop.train()
    assert loop.lr == LR / 2
