"""`PilotLR` under control: who writes the LR, alone and composed, across checkpoints and copies."""

import copy
import io
import math
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.optim.lr_scheduler import (
    ChainedScheduler,
    ConstantLR,
    CosineAnnealingLR,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    ReduceLROnPlateau,
    SequentialLR,
    StepLR,
)

from lrpilot.testing import FakeDaemon
from lrpilot.torch import PilotLR
from lrpilot.torch.options import Options
from support.decisions import cut, decay, release, rollback
from support.searches import Script, over, program, runs

LR = 0.1


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> FakeDaemon:
    """The daemon of every attempt in the test."""
    fake = FakeDaemon()
    monkeypatch.setattr(Options, "_connect", lambda self: fake)
    monkeypatch.setattr("lrpilot.snapshots.TIME_SHARE", 1e9)  # these steps take microseconds
    return fake


class Loop:
    """Gives its losses to a `PilotLR`, and steps it or what it is composed in."""

    def __init__(
        self,
        compose: Callable[[torch.optim.Optimizer, Callable[..., PilotLR]], Any] | None = None,
        **keywords: Any,
    ) -> None:
        torch.manual_seed(0)
        self.model = torch.nn.Linear(4, 4)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=LR, momentum=0.9)
        keywords = {"model": self.model, "total_steps": 250, "run": "r"} | keywords

        def make(**more: Any) -> PilotLR:
            self.pilot_lr = PilotLR(self.optimizer, **keywords | more)
            return self.pilot_lr

        self.scheduler: Any = compose(self.optimizer, make) if compose else make()

    def train(self, steps: int = 1, loss: float | None = None) -> list[float]:
        """The LRs that the steps ran at."""
        ran = []
        for _ in range(steps):
            value = self.model(torch.ones(3, 4)).square().mean()
            self.optimizer.zero_grad()
            value.backward()
            self.pilot_lr.observe(value if loss is None else loss)
            ran.append(self.lr)
            self.optimizer.step()
            self.scheduler.step()
        return ran

    @property
    def lr(self) -> float:
        return float(self.optimizer.param_groups[0]["lr"])

    @property
    def weights(self) -> list[torch.Tensor]:
        return [p.detach().clone() for p in self.model.parameters()]


# -- what is reported


def test_a_step_is_one_sample_with_the_mean_of_its_losses(daemon: FakeDaemon) -> None:
    loop = Loop()
    for losses in ((1.0,), (2.0, torch.tensor([4.0])), (torch.tensor(5.0), 6.0, 7.0)):
        for loss in losses:
            loop.pilot_lr.observe(loss)
        loop.optimizer.step()
        loop.scheduler.step()
    assert daemon.losses == [1.0, 3.0, 6.0]
    assert [item[2] for item in daemon.items] == [0, 1, 2]
    assert [item[6] for item in daemon.items] == [(LR,)] * 3


def test_a_loss_may_come_after_the_optimizers_step(daemon: FakeDaemon) -> None:
    loop = Loop()
    for k in range(3):
        loop.optimizer.step()
        loop.pilot_lr.observe(float(k))
        loop.scheduler.step()
    assert [(item[2], item[5]) for item in daemon.items] == [(0, 0.0), (1, 1.0), (2, 2.0)]
    (taken,) = [r.snapshot for r in daemon.reports if r.HasField("snapshot")]
    assert not taken.proven, "it is not what the run started with"


def test_a_search_needs_the_first_loss_before_the_first_update(daemon: FakeDaemon) -> None:
    loop = Loop(search=True)
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
    loop = Loop(search=True)
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
    loop = Loop(search=True)
    loop.train(2)
    loop.optimizer.step()
    loop.scheduler.step()
    assert [result.stop_reason for result in daemon.results] == ["interrupted"]
    assert loop.train(2) == [LR, LR]


@pytest.mark.parametrize("loss", [torch.ones(2), None, "low", [1.0, 2.0]])
def test_what_is_no_loss_is_refused_where_it_is_given(daemon: FakeDaemon, loss: Any) -> None:
    with pytest.raises(TypeError, match="one element"):
        Loop().pilot_lr.observe(loss)


def test_steps_are_the_optimizers_however_often_the_scheduler_is_stepped(
    daemon: FakeDaemon,
) -> None:
    loop = Loop()
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
    loop = Loop(max_lr=1.0)
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
    loop = Loop()
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
    loop = Loop()
    loop.train(2)
    daemon.decide(cut(0.5))
    loop.train()
    assert loop.scheduler.get_last_lr() == [loop.lr] == [LR / 2]
    daemon.decide(release())
    assert loop.train(2) == [LR / 2, LR]
    assert [r.applied_step for r in daemon.receipts] == [3, 4]


def test_a_rollback_restores_the_state_that_the_run_started_with(daemon: FakeDaemon) -> None:
    loop = Loop()
    start = loop.weights
    loop.train(3)
    daemon.decide(rollback(1))
    loop.train()
    assert all(map(torch.equal, loop.weights, start))
    assert loop.lr == LR / 2
    assert (loop.pilot_lr.last_epoch, loop.pilot_lr.pilot.step_count) == (4, 4)


def test_watching_leaves_the_weights_bit_identical(daemon: FakeDaemon) -> None:
    watched, alone = Loop(), Loop(mode="off")
    assert watched.train(30) == alone.train(30)
    assert all(map(torch.equal, watched.weights, alone.weights))
    assert len(daemon.losses) == 30


@pytest.mark.parametrize("off", ["mode", "environment"])
def test_off_is_inert(daemon: FakeDaemon, off: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if off == "environment":
        monkeypatch.setenv("LRPILOT", "off")
    loop = Loop(**{"mode": "off"} if off == "mode" else {})
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
    loop = Loop()
    daemon.decide(cut(0.5))
    loop.train(2)
    extra = torch.nn.Parameter(torch.ones(2))
    loop.optimizer.add_param_group({"params": [extra], "lr": 0.07})
    loop.train(2)
    with pytest.warns(UserWarning, match="epoch parameter"):
        loop.scheduler.step(1)
    assert [group["lr"] for group in loop.optimizer.param_groups] == [LR / 2, 0.07]


# -- beside other schedulers

NATIVE: dict[str, Callable[[torch.optim.Optimizer], Any]] = {
    "exponential": lambda o: ExponentialLR(o, 0.97),
    "cosine": lambda o: CosineAnnealingLR(o, 15),
    "step": lambda o: StepLR(o, 3, 0.5),
    "lambda": lambda o: LambdaLR(o, lambda k: 1 / (k + 1)),
    "sequential": lambda o: SequentialLR(
        o, [LinearLR(o, 0.1, total_iters=3), ExponentialLR(o, 0.9)], [3]
    ),
}


def native_curve(make: Callable[[torch.optim.Optimizer], Any], steps: int) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=LR)
    scheduler, curve = make(optimizer), []
    for _ in range(steps):
        curve.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return curve


@pytest.mark.parametrize("first", ["native", "pilot"])
@pytest.mark.parametrize("name", NATIVE)
def test_a_chained_schedule_is_scaled_and_given_back_to_the_last_bit(
    daemon: FakeDaemon, name: str, first: str
) -> None:
    def compose(optimizer: torch.optim.Optimizer, make: Callable[..., PilotLR]) -> Any:
        native = NATIVE[name](optimizer)
        chain = [native, make(scheduler=native)]
        return ChainedScheduler(chain if first == "native" else chain[::-1])

    loop, curve = Loop(compose), native_curve(NATIVE[name], 12)
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

    loop = Loop(compose)
    assert loop.train(8) == native_curve(NATIVE[name], 8)


def test_a_schedule_that_was_not_named_is_asked_for_once_it_writes_under_a_plan(
    daemon: FakeDaemon,
) -> None:
    def compose(optimizer: torch.optim.Optimizer, make: Callable[..., PilotLR]) -> Any:
        return ChainedScheduler([ExponentialLR(optimizer, 0.9), make()])

    loop = Loop(compose)
    daemon.decide(cut(0.5))
    assert loop.train(5) == pytest.approx([LR, *(LR * 0.9**k / 2 for k in range(1, 5))])
    assert [r.notice.kind for r in daemon.reports if r.HasField("notice")] == ["foreign_lr"]


def test_in_a_sequence_it_begins_from_the_base_lr_and_only_in_its_turn(
    daemon: FakeDaemon,
) -> None:
    def compose(optimizer: torch.optim.Optimizer, make: Callable[..., PilotLR]) -> Any:
        warmup = ConstantLR(optimizer, 0.25, 4)
        return SequentialLR(optimizer, [warmup, make(), ExponentialLR(optimizer, 0.5)], [3, 8])

    loop = Loop(compose)
    assert loop.train(3) == [LR / 4] * 3
    daemon.decide(cut(0.5))
    assert loop.train(5) == [LR, *[LR / 2] * 4]
    assert loop.train(3) == [LR, LR / 2, LR / 4]
    assert not [r.notice.kind for r in daemon.reports if r.HasField("notice")]
    assert loop.pilot_lr.pilot.step_count == 7  # of which it was told in its last turn


def test_a_plateau_scheduler_keeps_its_own_lr_under_a_plan(daemon: FakeDaemon) -> None:
    loop = Loop(lambda o, make: make(scheduler=ReduceLROnPlateau(o, factor=0.5, patience=0)))
    (plateau,) = loop.pilot_lr._late._schedulers
    daemon.decide(cut(0.5))
    loop.train(2)
    plateau.step(1.0)
    plateau.step(1.0)
    assert loop.train(2) == [LR / 4] * 2
    daemon.decide(release())
    loop.train()
    assert loop.lr == LR / 2


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
    loop = Loop(compose)
    daemon.decide(cut(0.5))
    loop.train(4)
    saved = stored({"scheduler": loop.scheduler.state_dict(), "opt": loop.optimizer.state_dict()})
    reference = loop.train(3)

    resumed = Loop(compose)
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
    loop = Loop()
    loop.train(2)
    state = loop.scheduler.state_dict()
    loop.train(3)
    loop.scheduler.load_state_dict(state)
    loop.train()
    goodbyes = [r.goodbye.step for r in daemon.reports if r.HasField("goodbye")]
    assert goodbyes == [5]
    assert daemon.items[-1][2] == 2


def test_a_state_of_another_optimizer_is_refused(daemon: FakeDaemon) -> None:
    loop = Loop()
    loop.train()
    state = loop.scheduler.state_dict()
    state["pilot"]["native_lrs"] *= 2
    with pytest.raises(ValueError, match="2 param groups, the optimizer 1"):
        loop.scheduler.load_state_dict(state)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))])
def test_a_copy_follows_its_plan_and_talks_to_nobody(
    daemon: FakeDaemon, copied: Callable[[PilotLR], PilotLR]
) -> None:
    loop = Loop(max_lr=1.0)
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


# -- the end


def test_closing_ends_the_run_and_the_pilot_can_still_be_asked(daemon: FakeDaemon) -> None:
    loop = Loop()
    daemon.decide(cut(0.5))
    loop.train(2)
    loop.pilot_lr.close()
    loop.pilot_lr.close()
    assert [r.goodbye.reason for r in daemon.reports if r.HasField("goodbye")] == ["finished"]
    assert loop.train(2) == [LR / 2] * 2
    assert len(daemon.losses) == 2
    assert loop.pilot_lr.pilot.decisions[0].action == "cut"


def test_the_run_ends_with_the_scheduler(daemon: FakeDaemon) -> None:
    loop = Loop()
    loop.train(2)
    assert not daemon.closed
    del loop.pilot_lr, loop.scheduler
    assert daemon.closed
    assert [r.goodbye.step for r in daemon.reports if r.HasField("goodbye")] == [2]


def test_validation_and_stops_are_the_pilots(daemon: FakeDaemon) -> None:
    loop = Loop()
    loop.train()
    loop.pilot_lr.pilot.validate(2.0)
    assert daemon.items[-1][5] == 2.0
    loop.train(1, loss=math.nan)
    assert math.isnan(daemon.losses[-1])
    assert not loop.pilot_lr.pilot.should_stop
