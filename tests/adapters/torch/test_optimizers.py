"""Every optimizer of torch, and others of its interface: LRs written in place, states restored."""

import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

import lrpilot
from lrpilot.testing import FakeDaemon
from lrpilot.torch.checks import UNSUPPORTED
from lrpilot.torch.options import Options
from lrpilot.torch.trainer import TorchTrainer
from lrpilot_proto.v1 import model_pb2

LR = 0.05


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> FakeDaemon:
    fake = FakeDaemon()
    monkeypatch.setattr(Options, "_connect", lambda self: fake)
    return fake


class Lion(torch.optim.Optimizer):
    """An optimizer of another package, by the book."""

    def __init__(self, params: Any, lr: float | Tensor = LR) -> None:
        super().__init__(params, {"lr": lr, "betas": (0.9, 0.99)})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Move by the sign of an average."""
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state["average"] = torch.zeros_like(p)
                update = state["average"].lerp(p.grad, 0.1).sign_()
                p.sub_(update * group["lr"])
                state["average"].lerp_(p.grad, 0.01)


class Counting(torch.optim.Optimizer):
    """One that keeps more than tensors of zeros: a copy of the weights, counts, an estimate."""

    def __init__(self, params: Any, lr: float | Tensor = LR) -> None:
        super().__init__(params, {"lr": lr, "distance": 1.0})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Move, less and less, and now and then back to slow weights."""
        for group in self.param_groups:
            group["calls"] = group.get("calls", 0) + 1
            group["distance"] *= 1.1
            group.setdefault("total", torch.zeros(())).add_(group["distance"])
            for p in group["params"]:
                state = self.state[p]
                if not state:
                    state["slow"], state["steps"] = p.clone(), 0
                state["steps"] += 1
                rate = group["lr"] * group["distance"] / group["calls"] + 1e-3 * group["total"]
                p.sub_(p.grad * rate)
                if state["steps"] % 2 == 0:
                    p.copy_(state["slow"].lerp_(p, 0.5))


OF_TORCH: dict[str, type[torch.optim.Optimizer]] = {
    name: kind
    for name, kind in inspect.getmembers(torch.optim, inspect.isclass)
    if issubclass(kind, torch.optim.Optimizer) and kind is not torch.optim.Optimizer
}
KINDS = {name: kind for name, kind in OF_TORCH.items() if kind not in UNSUPPORTED}
KINDS |= {"Lion": Lion, "Counting": Counting}
LRS: dict[str, Callable[[], float | Tensor]] = {
    "float": lambda: LR,
    "tensor": lambda: torch.tensor(LR),
    "tensor of one element": lambda: torch.full((1,), LR, dtype=torch.float64),
}
WAYS: dict[str, dict[str, Any]] = {
    "default": {},
    "foreach": {"foreach": True},
    "no foreach": {"foreach": False},
    "fused": {"fused": True},
    "capturable": {"foreach": True, "capturable": True},
}


class Job:
    """Two matrices, each in a param group of its own, and whatever trains them."""

    def __init__(self, kind: str, way: str = "default", lr: str = "float") -> None:
        torch.manual_seed(0)
        sparse = kind == "SparseAdam"
        self.model = torch.nn.ModuleList(torch.nn.Embedding(5, 3, sparse=sparse) for _ in range(2))
        groups = [{"params": list(part.parameters())} for part in self.model]
        self.optimizer = KINDS[kind](groups, lr=LRS[lr](), **WAYS[way])  # type: ignore[call-arg]
        self.k = 0

    def update(self) -> float:
        rows = torch.tensor([self.k % 5, (self.k + 2) % 5])
        loss = torch.stack([part(rows).square().sum() for part in self.model]).sum()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.k += 1
        return loss.item()

    @property
    def lrs(self) -> list[float | Tensor]:
        return [group["lr"] for group in self.optimizer.param_groups]

    @property
    def weights(self) -> list[Tensor]:
        return [parameter.detach().clone() for parameter in self.model.parameters()]


def _cases() -> Iterator[tuple[str, str, str]]:
    """All that this torch allows on a CPU, LRPilot or not."""
    for kind in KINDS:
        for way, keywords in WAYS.items():
            for lr in LRS:
                if not keywords.keys() <= inspect.signature(KINDS[kind]).parameters.keys():
                    continue
                try:
                    Job(kind, way, lr).update()
                except (ValueError, RuntimeError, AssertionError, TypeError):
                    continue
                yield kind, way, lr


CASES = list(_cases())


def cut(factor: float) -> model_pb2.Decision:
    segment = model_pb2.Segment(
        shape="SHAPE_CONSTANT", start=0, end=1, start_value=factor, end_value=factor
    )
    plan = model_pb2.Plan(kind="PLAN_KIND_SCALE", segments=[segment])
    return model_pb2.Decision(id=1, action="ACTION_CUT", plan=plan)


def same(a: Iterable[Tensor], b: Iterable[Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_the_table_has_every_optimizer_and_every_way_that_people_use() -> None:
    assert {*KINDS, *(kind.__name__ for kind in UNSUPPORTED)} >= OF_TORCH.keys()
    assert {kind for kind, way, lr in CASES if (way, lr) == ("default", "float")} == KINDS.keys()
    assert {("AdamW", "fused", "tensor"), ("SGD", "foreach", "float")} <= set(CASES)


@pytest.mark.parametrize("case", CASES, ids=" ".join)
def test_a_cut_is_in_force_as_if_written_by_hand(
    case: tuple[str, str, str], daemon: FakeDaemon
) -> None:
    plain, job = Job(*case), Job(*case)
    pilot = lrpilot.attach(job.optimizer, model=job.model)
    objects = job.lrs
    for k in range(6):
        if k == 2:
            daemon.decide(cut(0.5))
        pilot.step(job.update())
        plain.update()
        if k == 2:
            for group in plain.optimizer.param_groups:
                lr = group["lr"]
                # Apart, where the groups had one tensor: each is halved once.
                group["lr"] = lr * 0.5
    assert same(job.weights, plain.weights)
    assert [float(lr) for lr in job.lrs] == pilot.lrs == [float(lr) for lr in plain.lrs]
    assert list(map(type, job.lrs)) == list(map(type, objects))
    if isinstance(objects[0], Tensor):
        assert all(one is other for one, other in zip(job.lrs, objects, strict=True))


@pytest.mark.parametrize("start", [0, 3])
@pytest.mark.parametrize("case", CASES, ids=" ".join)
def test_a_restored_state_trains_on_to_the_last_bit(case: tuple[str, str, str], start: int) -> None:
    job = Job(*case)
    for _ in range(start):
        job.update()
    trainer = TorchTrainer(job.optimizer, job.model)
    trainer.snapshot(0)
    losses = [job.update() for _ in range(5)]
    weights = job.weights
    trainer.restore(0, rng=True)
    job.k = start
    assert [job.update() for _ in range(5)] == losses
    assert same(job.weights, weights)


@pytest.mark.parametrize("start", [0, 3])
def test_an_estimate_in_a_param_group_is_restored(start: int) -> None:
    prodigyopt = pytest.importorskip("prodigyopt")
    job = Job("SGD")
    job.optimizer = prodigyopt.Prodigy(job.model.parameters(), lr=1.0, d0=1e-3)
    trainer = TorchTrainer(job.optimizer, job.model)
    for _ in range(start):
        job.update()
    trainer.snapshot(0)
    losses = [job.update() for _ in range(8)]
    (group,) = job.optimizer.param_groups
    estimate = group["d"]
    group["lr"] = 0.5
    trainer.restore(0, rng=True)
    assert group["d"] < estimate
    assert group["lr"] == 0.5  # a setting, which a restore leaves alone
    group["lr"], job.k = 1.0, start
    assert [job.update() for _ in range(8)] == losses


# -- LRs that are tensors


def test_groups_that_share_one_tensor_are_parted(daemon: FakeDaemon) -> None:
    job = Job("AdamW", lr="tensor")
    first, second = job.lrs
    assert first is second
    pilot = lrpilot.attach(job.optimizer, model=job.model)
    assert job.lrs[0] is first  # whatever was compiled or captured goes on with it
    assert job.lrs[1] is not first
    pilot._trainer.set_lrs([0.01, 0.02])
    assert pilot.lrs == pytest.approx([0.01, 0.02])


@pytest.mark.parametrize("kind", ["Adam", "AdamW", "NAdam", "RMSprop", "Adadelta"])
def test_a_capturable_optimizer_is_controlled(daemon: FakeDaemon, kind: str) -> None:
    """Torch makes a step of one on a device only; its LR is written all the same."""
    job = Job(kind, "capturable", "tensor")
    pilot = lrpilot.attach(job.optimizer, model=job.model)
    objects = job.lrs
    daemon.decide(cut(0.5))
    pilot.step(1.0)
    assert all(one is before for one, before in zip(job.lrs, objects, strict=True))
    assert pilot.lrs == pytest.approx([LR / 2] * 2)


def test_a_group_added_later_shares_none_either(daemon: FakeDaemon) -> None:
    job = Job("AdamW", lr="tensor")
    pilot = lrpilot.attach(job.optimizer, model=job.model)
    job.optimizer.add_param_group({"params": [torch.nn.Parameter(torch.ones(2))]})
    daemon.decide(cut(0.5))
    pilot.step(job.update())
    assert [float(lr) for lr in job.lrs] == pytest.approx([LR / 2, LR / 2, LR])


@pytest.mark.parametrize("mode", ["observe", "off"])
def test_who_writes_no_lr_parts_none(daemon: FakeDaemon, mode: str) -> None:
    job = Job("AdamW", lr="tensor")
    pilot = lrpilot.attach(job.optimizer, model=job.model, mode=mode)
    first, second = job.lrs
    assert first is second
    assert isinstance(first, Tensor)
    first.fill_(0.01)
    pilot.step(job.update())
    assert pilot.lrs == pytest.approx([0.01, 0.01])


@pytest.mark.parametrize("saved", ["tensor", "float"])
@pytest.mark.parametrize("overridden", [False, True])
def test_loading_a_state_keeps_the_lrs_tensor(
    daemon: FakeDaemon, saved: str, overridden: bool
) -> None:
    job, other = Job("AdamW", lr="tensor"), Job("AdamW", lr=saved)
    pilot = lrpilot.attach(job.optimizer, model=job.model)
    objects = job.lrs
    if overridden:
        daemon.decide(cut(0.5))
    pilot.step(job.update())
    other.update()
    for group in other.optimizer.param_groups:
        group["lr"] = 0.01 if saved == "float" else torch.tensor(0.01)
    job.optimizer.load_state_dict(other.optimizer.state_dict())
    assert all(one is before for one, before in zip(job.lrs, objects, strict=True))
    # Under a plan the native LR is the pilot's to know, and the plan's is written anew.
    native, factor = (LR, 0.5) if overridden else (0.01, 1.0)
    assert pilot.lrs == pytest.approx([factor * native] * 2)
    pilot.step(job.update())
    daemon.decide(cut(0.1))
    pilot.step(job.update())
    assert all(one is before for one, before in zip(job.lrs, objects, strict=True))
    assert pilot.lrs == pytest.approx([0.1 * native] * 2)


def test_loading_a_tensor_lr_leaves_a_float_a_float(daemon: FakeDaemon) -> None:
    job, other = Job("AdamW"), Job("AdamW", lr="tensor")
    pilot = lrpilot.attach(job.optimizer, model=job.model)
    for group in other.optimizer.param_groups:
        group["lr"].fill_(0.01)
    job.optimizer.load_state_dict(other.optimizer.state_dict())
    assert all(type(lr) is float for lr in job.lrs)
    assert pilot.lrs == pytest.approx([0.01, 0.01])


def test_a_tensor_of_many_elements_is_refused(daemon: FakeDaemon) -> None:
    job = Job("Lion")
    job.optimizer.param_groups[1]["lr"] = torch.ones(3)
    with pytest.raises(ValueError, match=r"Lion: param group 1 has an LR of shape \(3,\)"):
        lrpilot.attach(job.optimizer, model=job.model)


# -- optimizers that are refused


class Rprops(torch.optim.Rprop):
    """A child of one that is refused."""


class ScheduleFree(torch.optim.SGD):
    """The interface of the package schedulefree."""

    def train(self) -> None:
        """Go to the weights that are trained."""

    def eval(self) -> None:
        """Go to the averaged weights."""


@pytest.mark.parametrize("inside", ["alone", "in a sequence"])
@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (torch.optim.LBFGS, "LBFGS is not supported: .*use Adam or SGD"),
        (torch.optim.ASGD, "ASGD is not supported: .*use SGD with weight averaging"),
        (torch.optim.Rprop, "Rprop is not supported: .*use Adam or SGD"),
        (Rprops, "Rprops, a Rprop, is not supported: .*use Adam or SGD"),
        (ScheduleFree, "ScheduleFree is schedule-free: .*use its plain form"),
    ],
)
def test_an_optimizer_that_cannot_be_controlled_is_refused_with_what_to_use(
    daemon: FakeDaemon, kind: Any, message: str, inside: str
) -> None:
    job = Job("SGD")
    optimizer = kind(job.model.parameters(), lr=LR)
    with pytest.raises(ValueError, match=message):
        lrpilot.attach(
            optimizer if inside == "alone" else [job.optimizer, optimizer], model=job.model
        )


def test_schedule_free_optimizers_as_their_package_has_them(daemon: FakeDaemon) -> None:
    package = pytest.importorskip("schedulefree")
    job = Job("SGD")
    for kind in (package.AdamWScheduleFree, package.SGDScheduleFree, package.RAdamScheduleFree):
        with pytest.raises(ValueError, match=f"{kind.__name__} is schedule-free"):
            lrpilot.attach(kind(job.model.parameters(), lr=LR), model=job.model)
    wrapper = package.ScheduleFreeWrapper(job.optimizer, momentum=0.9)
    with pytest.raises(ValueError, match="ScheduleFreeWrapper is schedule-free"):
        lrpilot.attach(wrapper, model=job.model)
