"""LRs that are tensors on a device: written there, and never read back in a step.

No device is needed: `Far` says that it lies on one, and notes whatever would wait for it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

import lrpilot
from lrpilot.pilot import Pilot
from lrpilot.testing import FakeDaemon
from lrpilot.torch.options import Options
from lrpilot_proto.v1 import model_pb2
from support import schedules
from support.schedules import MAX_LR, SCHEDULERS

LRS = (MAX_LR, MAX_LR / 8)
# What a device is not waited for: the answers are known on the host.
NEAR_ANSWERS = {"dim", "numel", "size", "__len__", "is_complex", "is_floating_point", "stride"}

pytestmark = pytest.mark.filterwarnings("ignore:.*lr_scheduler.step:UserWarning")


class Far(Tensor):
    """A tensor on a device, as far as anybody can tell."""

    is_cpu = False
    reads: list[str] = []  # noqa: RUF012
    watched = False

    def __deepcopy__(self, memo: Any) -> Tensor:
        return self.clone()

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", str(func))
        result = super().__torch_function__(func, types, args, kwargs or {})
        moved = name in ("cpu", "numpy", "tolist") or (
            name.endswith("_") and not name.endswith("__") and not isinstance(args[0], Far)
        )
        answer = not isinstance(result, Tensor) and name not in (*NEAR_ANSWERS, "__get__")
        if (moved or answer) and cls.watched and result is not None:
            cls.reads.append(name)
        return result.as_subclass(Tensor).clone() if name == "cpu" else result


@contextmanager
def nobody_reads() -> Iterator[None]:
    Far.reads, Far.watched = [], True
    try:
        yield
    finally:
        Far.watched = False
    assert Far.reads == []


def far(value: float) -> Tensor:
    return torch.tensor(value).as_subclass(Far)


class Descent(torch.optim.Optimizer):
    """It never reads its LR either."""

    def __init__(self, groups: Any) -> None:
        super().__init__(groups, {"lr": 1.0, "momentum": 0.0})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                p.sub_((p.grad * group["lr"]).as_subclass(Tensor))


class Loop:
    """A training loop whose LRs lie on a device, or right here."""

    def __init__(self, name: str | None = None, *, is_far: bool = True, **options: Any) -> None:
        torch.manual_seed(0)
        self.model = torch.nn.ModuleList(torch.nn.Linear(2, 2) for _ in LRS)
        make = far if is_far else torch.tensor
        self.optimizer = Descent(
            [
                {"params": list(part.parameters()), "lr": make(lr)}
                for part, lr in zip(self.model, LRS, strict=True)
            ]
        )
        self.scheduler = SCHEDULERS[name](self.optimizer) if name else None
        self.daemon = FakeDaemon()
        self.k = 0
        self.pilot: Pilot | None = None
        if is_far:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(Options, "_connect", lambda _: self.daemon)
                self.pilot = lrpilot.attach(
                    self.optimizer,
                    model=self.model,
                    scheduler=self.scheduler,
                    min_lr=1e-9,
                    max_lr=1.0,
                    **options,
                )

    def train(self) -> None:
        loss = torch.stack([p(torch.ones(1, 2)).square().mean() for p in self.model]).sum()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        if self.scheduler is not None:
            schedules.step(self.scheduler, self.k)
        if self.pilot is not None:
            self.pilot.step(loss)
        self.k += 1

    @property
    def lrs(self) -> list[float]:
        return [float(group["lr"]) for group in self.optimizer.param_groups]


def plan(value: float, number: int = 1) -> model_pb2.Decision:
    segment = model_pb2.Segment(
        shape="SHAPE_LINEAR", start=0, end=12, start_value=value, end_value=value / 2
    )
    scale = model_pb2.Plan(kind="PLAN_KIND_SCALE", segments=[segment])
    return model_pb2.Decision(id=number, action="ACTION_CUT", plan=scale)


def test_the_double_notices_who_reads_it() -> None:
    for read in (float, Tensor.item, Tensor.tolist, bool, lambda lr: lr == 0.1 and 1):
        with pytest.raises(AssertionError), nobody_reads():
            read(far(0.1))
    with pytest.raises(AssertionError), nobody_reads():
        torch.zeros(()).fill_(far(0.1))
    with nobody_reads():
        far(0.1).fill_(0.2)
        far(0.1).fill_(far(0.2))


@pytest.mark.parametrize("name", [None, *SCHEDULERS])
def test_no_step_reads_an_lr_back_and_the_curve_is_kept(name: str | None) -> None:
    loop, native = Loop(name), Loop(name, is_far=False)
    objects = [group["lr"] for group in loop.optimizer.param_groups]
    for k in range(14):
        if k == 3:
            loop.daemon.decide(plan(0.5))
        if k == 8:
            loop.daemon.decide(model_pb2.Decision(id=2, action="ACTION_RELEASE", release=True))
        with nobody_reads():
            loop.train()
        native.train()
        assert loop.pilot is not None
        assert loop.pilot.lrs == loop.lrs
        if not 3 <= k < 8:
            assert loop.lrs == native.lrs, f"step {k}"
    lrs = [group["lr"] for group in loop.optimizer.param_groups]
    assert all(one is before for one, before in zip(lrs, objects, strict=True))
    (cut, _) = loop.daemon.receipts
    assert list(cut.lrs_after) == list(loop.daemon.items[4][6])
    assert cut.lrs_after[0] < cut.lrs_before[0]
    loop.pilot.close()
    loop.train()
    native.train()
    assert loop.lrs == native.lrs


def test_a_foreign_writer_there_is_not_noticed_until_the_lr_is_written_again() -> None:
    loop = Loop()
    loop.train()
    loop.optimizer.param_groups[0]["lr"].fill_(0.07)
    with nobody_reads():
        loop.train()
    assert loop.pilot is not None
    assert loop.pilot.lrs[0] == pytest.approx(LRS[0])
    loop.daemon.decide(plan(0.5))
    loop.train()
    assert loop.lrs == loop.pilot.lrs


def test_a_tensor_in_the_old_ones_place_is_read_once() -> None:
    loop = Loop()
    loop.train()
    loop.optimizer.param_groups[0]["lr"] = far(0.07)
    loop.train()
    with nobody_reads():
        loop.train()
    assert loop.pilot is not None
    assert loop.pilot.lrs[0] == pytest.approx(0.07)
    loop.daemon.decide(plan(0.5))
    loop.train()
    assert loop.lrs[0] < 0.07


def test_a_loaded_state_is_read_when_it_is_loaded() -> None:
    loop, other = Loop("ExponentialLR"), Loop("ExponentialLR")
    for _ in range(3):
        other.train()
    loop.optimizer.load_state_dict(other.optimizer.state_dict())
    with nobody_reads():
        loop.train()
        other.train()
    assert loop.lrs == other.lrs
    assert loop.pilot is not None
    assert loop.pilot.lrs == other.lrs


def test_a_scheduler_made_in_mid_run_is_read_when_it_is_added() -> None:
    loop, native = Loop("ExponentialLR"), Loop("ExponentialLR", is_far=False)
    for k in range(9):
        if k == 2:
            loop.daemon.decide(plan(0.37))
        if k == 4:
            for one in (loop, native):
                one.scheduler = schedules.SWALR(one.optimizer, swa_lr=0.02, anneal_epochs=0)
            assert loop.pilot is not None
            loop.pilot.add_scheduler(loop.scheduler)
        if k == 6:
            loop.daemon.decide(model_pb2.Decision(id=2, action="ACTION_RELEASE", release=True))
        with nobody_reads():
            loop.train()
        native.train()
    assert loop.lrs == native.lrs
