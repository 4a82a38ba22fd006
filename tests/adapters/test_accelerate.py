"""A loop that Accelerate prepared: `attach` takes what `prepare` returned."""

import math
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from accelerate.state import AcceleratorState, GradientState
from torch import nn
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    OneCycleLR,
    SequentialLR,
)
from torch.utils.data import DataLoader, TensorDataset

import lrpilot
from lrpilot.pilot import Pilot
from lrpilot.testing import FakeDaemon, Rig, TrainerContract
from lrpilot.torch import PilotLR
from lrpilot.torch.options import Options
from lrpilot.torch.prepared import plain_optimizer
from lrpilot.torch.trainer import TorchTrainer
from lrpilot_proto.v1 import model_pb2
from support.searches import Script, program, runs

LR = 0.05
EXPONENTIAL = partial(ExponentialLR, gamma=0.9)
ROWS, BATCH = 60, 6  # ten batches an epoch


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    """One thread for torch, and nothing of what Accelerate keeps for the whole process."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


def net() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.2), nn.Linear(8, 1))


class Job:
    """A model, an optimizer, a scheduler and a loader, prepared; and the loop of a user."""

    def __init__(
        self,
        make: Callable[[Any], Any] = EXPONENTIAL,
        accumulate: int = 1,
        **settings: Any,
    ) -> None:
        self.accelerator = Accelerator(cpu=True, gradient_accumulation_steps=accumulate, **settings)
        source = torch.Generator().manual_seed(1)
        x = torch.randn(ROWS, 4, generator=source)
        rows = TensorDataset(x, x.sum(1, keepdim=True).sin())
        model = net()
        optimizer = torch.optim.SGD(model.parameters(), lr=LR, momentum=0.9)
        self.model, self.optimizer, self.loader, self.scheduler = self.accelerator.prepare(
            model, optimizer, DataLoader(rows, BATCH), make(optimizer)
        )
        torch.manual_seed(7)
        self.losses: list[float] = []
        self.lrs: list[float] = []
        self.inf_at = -1

    def attach(self, **keywords: Any) -> Pilot:
        return lrpilot.attach(
            self.optimizer, model=self.model, scheduler=self.scheduler, **keywords
        )

    def epochs(self, pilot: Pilot | None, count: int = 1, at: Callable[[int], None] = id) -> None:
        """As many epochs; `at` is told the number of each batch before it."""
        for _ in range(count):
            for x, y in self.loader if pilot is None else pilot.batches(self.loader):
                at(len(self.losses))
                with self.accelerator.accumulate(self.model):
                    loss = (self.model(x) - y).square().mean()
                    if len(self.losses) == self.inf_at:
                        loss = loss * math.inf
                    self.lrs.append(self.optimizer.param_groups[0]["lr"])
                    self.losses.append(loss.item())
                    self.accelerator.backward(loss)
                    self.optimizer.step()
                    self.scheduler.step()
                    self.optimizer.zero_grad()
                if pilot is not None:
                    pilot.step(loss)

    @property
    def weights(self) -> list[torch.Tensor]:
        return [one.detach().clone() for one in [*self.model.parameters(), *self.model.buffers()]]


def same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return all(map(torch.equal, one, other))


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> FakeDaemon:
    one = FakeDaemon()
    monkeypatch.setattr(Options, "_connect", lambda _: one)
    return one


def scale(factor: float, number: int = 1, **fields: Any) -> model_pb2.Decision:
    segment = model_pb2.Segment(
        shape="SHAPE_CONSTANT", start=0, end=1, start_value=factor, end_value=factor
    )
    plan = model_pb2.Plan(kind="PLAN_KIND_SCALE", segments=[segment])
    return model_pb2.Decision(**{"id": number, "action": "ACTION_CUT", "plan": plan} | fields)


RELEASE = model_pb2.Decision(id=2, action="ACTION_RELEASE", release=True)


def test_a_healthy_run_is_bit_identical_to_one_without_us(daemon: FakeDaemon) -> None:
    alone = Job(accumulate=3)
    alone.epochs(None, 3)
    watched = Job(accumulate=3)
    with watched.attach() as pilot:
        watched.epochs(pilot, 3)
    assert same(alone.weights, watched.weights)
    assert alone.lrs == watched.lrs
    assert pilot.summary().snapshots >= 1


@pytest.mark.parametrize("accumulate", [1, 3])
def test_every_optimizer_step_is_one_sample_with_its_batches_mean(
    daemon: FakeDaemon, accumulate: int
) -> None:
    job = Job(accumulate=accumulate)
    with job.attach() as pilot:
        job.epochs(pilot)
    windows = [job.losses[i : i + accumulate] for i in range(0, ROWS // BATCH, accumulate)]
    assert daemon.losses == pytest.approx([sum(w) / len(w) for w in windows])
    assert pilot.step_count == len(windows)


def test_a_step_may_be_told_where_gradients_were_synchronised_alone(daemon: FakeDaemon) -> None:
    job = Job(accumulate=2)
    with job.attach() as pilot:
        for x, y in job.loader:
            with job.accelerator.accumulate(job.model):
                loss = (job.model(x) - y).square().mean()
                job.accelerator.backward(loss)
                job.optimizer.step()
                job.scheduler.step()
                job.optimizer.zero_grad()
            if job.accelerator.sync_gradients:
                pilot.step(loss)
    assert pilot.step_count == 5


SCHEDULES: dict[str, Callable[[Any], Any]] = {
    "exponential": EXPONENTIAL,
    "cosine": partial(CosineAnnealingLR, T_max=20),
    "lambda": partial(LambdaLR, lr_lambda=lambda k: 1 / (1 + k)),
    "one cycle": partial(OneCycleLR, max_lr=LR, total_steps=20),
    "sequential": lambda o: SequentialLR(
        o, [LinearLR(o, 0.1, 1.0, 4), ExponentialLR(o, 0.95)], [4]
    ),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_after_a_release_and_a_resume_the_lr_is_the_native_one_to_the_last_bit(
    daemon: FakeDaemon, tmp_path: Path, name: str
) -> None:
    def decide(batch: int) -> None:
        if batch in (4, 14):
            daemon.decide(scale(0.3) if batch == 4 else RELEASE)

    native = Job(SCHEDULES[name])
    native.epochs(None, 2)
    job = Job(SCHEDULES[name])
    with job.attach(run="r") as pilot:
        job.accelerator.register_for_checkpointing(pilot)
        job.epochs(pilot, 1, decide)
        job.accelerator.save_state(str(tmp_path / "state"))
        job.epochs(pilot, 1, decide)
    assert job.lrs[:5] == native.lrs[:5]
    assert job.lrs[5:15] == [lr * 0.3 for lr in native.lrs[5:15]]
    assert job.lrs[15:] == native.lrs[15:]

    again = Job(SCHEDULES[name])
    again.losses = [0.0] * 10
    with again.attach(run="r") as pilot:
        again.accelerator.register_for_checkpointing(pilot)
        again.accelerator.load_state(str(tmp_path / "state"))
        again.epochs(pilot, 1, decide)
    assert again.lrs == job.lrs[10:]
    assert same(again.weights, job.weights)
    assert daemon.hello is not None
    assert (daemon.hello.start_step, daemon.hello.last_decision_id) == (10, 1)


def test_a_step_that_fp16_skipped_leaves_the_native_curve(
    daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    # fp16 needs a GPU; its gradient scaler does not.
    made = Accelerator.__init__

    def scaled(self: Any, *args: Any, **settings: Any) -> None:
        made(self, *args, **settings)
        self.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)

    monkeypatch.setattr(Accelerator, "__init__", scaled)

    def decide(batch: int) -> None:
        if batch in (4, 12):
            daemon.decide(scale(0.3) if batch == 4 else RELEASE)

    native, job = Job(), Job()
    native.inf_at = job.inf_at = 8
    native.epochs(None, 2)
    with job.attach() as pilot:
        job.epochs(pilot, 2, decide)
    assert native.lrs[8] == native.lrs[9]  # skipped
    assert job.lrs[5:13] == [lr * 0.3 for lr in native.lrs[5:13]]
    assert job.lrs[13:] == native.lrs[13:]
    assert len(daemon.losses) == 20


def test_a_rollback_restores_what_was_prepared(daemon: FakeDaemon) -> None:
    job = Job(accumulate=2)
    start, seen = job.weights, []

    def decide(batch: int) -> None:
        seen.append(job.weights)
        if batch == 6:
            daemon.decide(scale(0.5, action="ACTION_ROLLBACK", restore_snapshot=1))

    with job.attach() as pilot:
        job.epochs(pilot, 1, decide)
    parameters = len(list(job.model.parameters()))
    assert same(seen[8][:parameters], start[:parameters])
    assert not same(seen[6][:parameters], start[:parameters])
    assert daemon.receipts[0].branch_after == 1


@pytest.mark.parametrize("accumulate", [1, 3])
def test_a_checkpoint_in_a_search_holds_the_runs_own_weights(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, accumulate: int
) -> None:
    losses = []
    for looks in (False, True):
        entries = [runs(program(i, lr=0.05, length=4)) for i in (1, 2, 3)]
        daemon = FakeDaemon(Script(*entries))
        monkeypatch.setattr(Options, "_connect", lambda _, one=daemon: one)
        job = Job(partial(LambdaLR, lr_lambda=lambda _: 1.0), accumulate)
        start, saved = job.weights, []

        def save(batch: int, job: Job = job, saved: Any = saved) -> None:
            folder = str(tmp_path / f"{batch}")
            job.accelerator.save_state(folder)
            saved.append(torch.load(Path(folder) / "optimizer.bin")["state"])
            saved.append(job.weights)

        with job.attach(search=True, total_steps=1000) as pilot:
            job.accelerator.register_for_checkpointing(pilot)
            for x, y in pilot.batches(job.loader):
                with job.accelerator.accumulate(job.model):
                    loss = (job.model(x) - y).square().mean()
                    job.accelerator.backward(loss)
                    job.optimizer.step()
                    job.scheduler.step()
                    job.optimizer.zero_grad()
                pilot.step(loss)
                if looks:
                    save(len(saved))
        losses.append([[*result.losses] for result in daemon.results if result.losses])
        if looks:
            assert all(same(one, start) for one in saved[1::2])
            moments = [one["momentum_buffer"] for state in saved[::2] for one in state.values()]
            assert not any(moment is not None and moment.any() for moment in moments)
    assert losses[0] == losses[1]


def test_the_hook_on_the_model_goes_with_the_pilot(daemon: FakeDaemon) -> None:
    job = Job()
    with job.attach() as pilot:
        job.epochs(pilot)
        assert job.model._state_dict_pre_hooks
    assert not job.model._state_dict_pre_hooks


@pytest.mark.parametrize("around", ["plain", "prepared"])
def test_a_scheduler_of_ours_can_be_prepared(daemon: FakeDaemon, around: str) -> None:
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
    model, optimizer = net(), None
    optimizer = torch.optim.SGD(model.parameters(), lr=LR)
    if around == "prepared":
        model, optimizer = accelerator.prepare(model, optimizer)
    ours = PilotLR(optimizer, model=model, run="r")
    model, optimizer, scheduler = accelerator.prepare(model, optimizer, ours)
    lrs, losses = [], []
    for i in range(12):
        with accelerator.accumulate(model):
            loss = model(torch.ones(2, 4) * i).square().mean()
            losses.append(loss.item())
            ours.observe(loss)
            accelerator.backward(loss)
            lrs.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
        if i == 5:
            daemon.decide(scale(0.5))
    ours.close()
    assert daemon.losses == pytest.approx(
        [(a + b) / 2 for a, b in zip(losses[::2], losses[1::2], strict=True)]
    )
    assert lrs == [LR] * 8 + [LR / 2] * 4


class TestAccelerate(TrainerContract):
    def rig(self) -> Rig:
        accelerator = Accelerator(cpu=True)
        torch.manual_seed(3)
        body = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3))
        model, optimizer = accelerator.prepare(
            whole := nn.Sequential(body, nn.Linear(16, 1)),
            torch.optim.AdamW(
                [
                    {"params": list(body.parameters()), "lr": 0.02, "name": "body"},
                    {"params": list(whole[1].parameters()), "lr": 0.05, "name": "head"},
                ]
            ),
        )
        assert isinstance(optimizer, AcceleratedOptimizer)
        source = torch.Generator().manual_seed(5)
        batches = [torch.randn(12, 8, generator=source) for _ in range(80)]
        asked: list[bool] = []

        def step(i: int) -> float:
            x = batches[i]
            with accelerator.accumulate(model):
                loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
                accelerator.backward(loss)
                optimizer.step()
                optimizer.zero_grad()
            return float(loss.detach())

        trainer = TorchTrainer(
            plain_optimizer(optimizer), model, request_stop=lambda: asked.append(True)
        )
        return Rig(trainer, step, lambda: torch.rand(()).item(), lambda: bool(asked))
