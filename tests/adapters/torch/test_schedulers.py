"""Every scheduler of torch stays the anchor in a raw loop: scheduler by what happens to it.

What is asked for in each case is the same: wherever LRPilot has let go, the LRs equal, to the last
bit, those of the same scheduler on the same optimizer without LRPilot.
"""

import copy
import io
import pickle
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.optim import lr_scheduler

import lrpilot
from lrpilot.pilot import Pilot
from lrpilot.plan import Bounds, Plan
from lrpilot.rates import Rates
from lrpilot.testing import FakeDaemon
from lrpilot.torch.options import Options
from lrpilot.torch.trainer import TorchTrainer
from lrpilot_proto.v1 import model_pb2
from support import schedules
from support.schedules import CYCLES_MOMENTUM, MAX_LR, SCHEDULERS

LRS = (MAX_LR, MAX_LR / 7)
STEPS, BEGINS, ENDS = 16, 3, 10  # of a loop, and the steps at which LRPilot takes over and lets go
FACTOR, LR = 0.37, 0.03

# A momentum that nobody cycles, a float LR and a tensor one.
Kind = Callable[[list[dict[str, Any]]], torch.optim.Optimizer]
KINDS: dict[str, Kind] = {
    "float LR": lambda groups: torch.optim.SGD(groups, momentum=0.9),
    "tensor LR": lambda groups: torch.optim.SGD(
        [group | {"lr": torch.tensor(group["lr"])} for group in groups], momentum=0.9
    ),
}

pytestmark = [
    # SequentialLR warns of its own doing, and some cases step a scheduler before its optimizer.
    pytest.mark.filterwarnings("ignore:.*lr_scheduler.step:UserWarning"),
    pytest.mark.filterwarnings("ignore:The epoch parameter:UserWarning"),
]


class Loop:
    """A training loop with a scheduler, and perhaps a pilot whose daemon is the test."""

    def __init__(self, name: str, kind: str = "float LR", *, attach: bool = True) -> None:
        torch.manual_seed(0)
        self.model = torch.nn.ModuleList(torch.nn.Linear(2, 2) for _ in LRS)
        groups = [
            {"params": list(part.parameters()), "lr": lr, "name": part_name}
            for part, lr, part_name in zip(self.model, LRS, ("body", "head"), strict=True)
        ]
        self.optimizer = KINDS[kind](groups)
        self.scheduler = SCHEDULERS[name](self.optimizer)
        self.daemon = FakeDaemon()
        self.k = 0
        self.pilot: Pilot | None = None
        if attach:
            self.attach()

    def attach(self) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Options, "_connect", lambda _: self.daemon)
            self.pilot = lrpilot.attach(
                self.optimizer,
                model=self.model,
                scheduler=self.scheduler,
                min_lr=1e-9,
                max_lr=10.0,
            )

    def step(self, *, skip: bool = False, schedule: bool = True) -> list[Any]:
        """One step, or one that a GradScaler skips; the LRs afterwards."""
        self.optimizer.zero_grad()
        out = sum((p(torch.ones(1, 2)).square().mean() for p in self.model), torch.zeros(()))
        loss = out * float("inf") if skip else out
        scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
        scaler.scale(loss).backward()
        scaler.step(self.optimizer)
        scaler.update()
        if schedule:
            schedules.step(self.scheduler, self.k)
        self.k += 1
        if self.pilot is not None:
            self.pilot.step(loss)
        return self.lrs

    @property
    def lrs(self) -> list[float]:
        return [float(group["lr"]) for group in self.optimizer.param_groups]

    @property
    def momentum(self) -> list[float]:
        return [group["momentum"] for group in self.optimizer.param_groups]

    def saved(self) -> dict[str, Any]:
        """A checkpoint, as through a file."""
        assert self.pilot is not None
        state = {
            "pilot": self.pilot.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
        }
        file = io.BytesIO()
        torch.save(state, file)
        file.seek(0)
        loaded: dict[str, Any] = torch.load(file)
        return loaded


def decision(kind: str, number: int = 1, value: float | None = None) -> model_pb2.Decision:
    if value is None:
        value = FACTOR if kind == "SCALE" else LR
    segment = model_pb2.Segment(
        shape="SHAPE_CONSTANT", start=0, end=1, start_value=value, end_value=value
    )
    plan = model_pb2.Plan(kind=f"PLAN_KIND_{kind}", segments=[segment])
    return model_pb2.Decision(id=number, action="ACTION_PLAN", plan=plan)


def release(loop: Loop, number: int = 2) -> None:
    loop.daemon.decide(model_pb2.Decision(id=number, action="ACTION_RELEASE", release=True))


def test_the_table_has_every_scheduler_of_torch() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table = {type(Loop(name, attach=False).scheduler).__name__ for name in SCHEDULERS}
    assert schedules.of_torch() <= table, "a new scheduler of torch: give it a row"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("plan", ["SCALE", "REPLACE"])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_an_override_leaves_no_trace_on_the_native_curve(name: str, plan: str, kind: str) -> None:
    native, loop = Loop(name, kind, attach=False), Loop(name, kind)
    base = [float(g.get("initial_lr", g["lr"])) for g in native.optimizer.param_groups]
    for k in range(STEPS):
        if k == BEGINS:
            loop.daemon.decide(decision(plan))
        if k == ENDS:
            release(loop)
        ours, theirs = loop.step(), native.step()
        assert loop.momentum == native.momentum  # the scheduler's, whatever the plan
        if not BEGINS <= k < ENDS:
            assert ours == theirs, f"step {k}"
        elif plan == "SCALE":
            assert ours == pytest.approx([FACTOR * lr for lr in theirs])
        else:
            assert ours == pytest.approx([LR * lr / base[0] for lr in base])
    assert [r.status for r in loop.daemon.receipts] == [model_pb2.DECISION_STATUS_APPLIED] * 2
    assert loop.scheduler.optimizer is not loop.optimizer
    assert loop.pilot is not None
    loop.pilot.close()
    assert loop.scheduler.optimizer is loop.optimizer
    assert loop.step() == native.step()


@settings(max_examples=40)
@given(
    moves=st.lists(
        st.tuples(st.floats(0.3, 1.7), st.none() | st.floats(1e-3, 3.0)), min_size=1, max_size=12
    ),
    kind=st.sampled_from(list(KINDS)),
)
def test_whatever_was_decided_a_release_is_exact(
    moves: list[tuple[float, float | None]], kind: str
) -> None:
    def multiplied(optimizer: torch.optim.Optimizer) -> Any:
        return lr_scheduler.MultiplicativeLR(optimizer, lambda k: moves[k - 1][0])

    groups = [{"params": [torch.nn.Parameter(torch.ones(1))], "lr": lr} for lr in LRS]
    ours, plain = KINDS[kind](groups), KINDS[kind]([dict(group) for group in groups])
    scheduler, native = multiplied(ours), multiplied(plain)
    rates = Rates(
        TorchTrainer(ours, None, schedulers=[scheduler]),
        Bounds(0.0, 1e3),
        lambda text: pytest.fail(text),
    )
    for _, factor in moves:
        plan = None if factor is None else decision("SCALE", value=factor).plan
        rates.follow(plan and Plan(plan, rates.bounds, rates.base_lrs))
        scheduler.step()
        native.step()
        rates.read()
    rates.follow(None)
    assert rates.read() == tuple(float(group["lr"]) for group in plain.param_groups)


@pytest.mark.parametrize("schedule", ["schedule goes on", "schedule waits"])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_step_that_a_grad_scaler_skips_leaves_no_trace(name: str, schedule: str) -> None:
    native, loop = Loop(name, attach=False), Loop(name)
    for k in range(STEPS):
        if k == BEGINS:
            loop.daemon.decide(decision("SCALE"))
        if k == ENDS:
            release(loop)
        skip = k in (1, BEGINS + 2, ENDS - 1, ENDS + 2)
        goes_on = not skip or schedule == "schedule goes on"
        ours = loop.step(skip=skip, schedule=goes_on)
        theirs = native.step(skip=skip, schedule=goes_on)
        if not BEGINS <= k < ENDS:
            assert ours == theirs, f"step {k}"
        else:
            assert ours == pytest.approx([FACTOR * lr for lr in theirs])


def _optimizer(loop: Loop, state: dict[str, Any]) -> None:
    loop.optimizer.load_state_dict(state["optimizer"])
    loop.scheduler.load_state_dict(state["scheduler"])


def _attach(loop: Loop, state: dict[str, Any]) -> None:
    loop.attach()


def _pilot(loop: Loop, state: dict[str, Any]) -> None:
    assert loop.pilot is not None
    loop.pilot.load_state_dict(state["pilot"])


# In which order people load what they saved.
ORDERS = {
    "optimizer, attach, pilot": (_optimizer, _attach, _pilot),
    "attach, optimizer, pilot": (_attach, _optimizer, _pilot),
    "attach, pilot, optimizer": (_attach, _pilot, _optimizer),
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_checkpoint_in_an_override_goes_on_and_lets_go(name: str, kind: str, order: str) -> None:
    native, loop = Loop(name, kind, attach=False), Loop(name, kind)
    for k in range(7):
        if k == BEGINS:
            loop.daemon.decide(decision("SCALE"))
        native.step()
        loop.step()
    state = loop.saved()
    resumed = Loop(name, kind, attach=False)
    resumed.k = loop.k
    for load in ORDERS[order]:
        load(resumed, state)
    assert resumed.lrs == loop.lrs
    for k in range(7, STEPS):
        if k == ENDS:
            release(resumed)
        ours, theirs, unbroken = resumed.step(), native.step(), loop.step()
        if k >= ENDS:
            assert ours == theirs, f"step {k}"
        else:
            assert ours == unbroken


@pytest.mark.parametrize("order", ORDERS)
def test_a_checkpoint_before_any_override_goes_on(order: str) -> None:
    native, loop = Loop("ExponentialLR", attach=False), Loop("ExponentialLR")
    for _ in range(5):
        native.step()
        loop.step()
    state = loop.saved()
    resumed = Loop("ExponentialLR", attach=False)
    for load in ORDERS[order]:
        load(resumed, state)
    for _ in range(3):
        assert resumed.step() == native.step()


@pytest.mark.parametrize("name", CYCLES_MOMENTUM)
def test_betas_stay_the_schedulers_too(name: str) -> None:
    loops = [Loop(name, attach=False) for _ in range(2)]
    for loop in loops:
        loop.optimizer = torch.optim.AdamW(loop.model.parameters(), lr=MAX_LR)
        loop.scheduler = SCHEDULERS[name](loop.optimizer)
    loops[0].attach()
    loops[0].daemon.decide(decision("REPLACE"))
    seen = set()
    for _ in range(8):
        for loop in loops:
            loop.step()
        betas = [loop.optimizer.param_groups[0]["betas"] for loop in loops]
        assert betas[0] == betas[1]
        seen.add(betas[0])
    assert len(seen) > 4
    assert loops[0].lrs == [LR]


@pytest.mark.parametrize("name", ["StepLR", "ExponentialLR", "ReduceLROnPlateau"])
def test_a_group_added_in_mid_run_keeps_its_own_native_lr(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    native, loop = Loop(name, attach=False), Loop(name)
    for k in range(STEPS):
        if k == BEGINS:
            loop.daemon.decide(decision("SCALE"))
        if k == BEGINS + 2:
            for one in (native, loop):
                extra = {"params": [torch.nn.Parameter(torch.ones(1))], "lr": 0.05}
                one.optimizer.add_param_group(extra)
        if k == ENDS:
            release(loop)
        ours, theirs = loop.step(), native.step()
        assert ours[2:] == theirs[2:]
        if not BEGINS <= k < ENDS:
            assert ours == theirs
        else:
            assert ours[:2] == pytest.approx([FACTOR * lr for lr in theirs[:2]])
    (told,) = [text for text in caplog.messages if "param group" in text]
    assert "1 param group(s) were added since the run began: no decision moves their LR" in told


def test_a_group_at_0_stays_at_0_under_either_plan() -> None:
    loop = Loop("ExponentialLR", attach=False)
    loop.optimizer = torch.optim.SGD(
        [
            {"params": list(loop.model[0].parameters()), "lr": 0.1},
            {"params": list(loop.model[1].parameters()), "lr": 0.0},
        ]
    )
    loop.scheduler = SCHEDULERS["ExponentialLR"](loop.optimizer)
    loop.attach()
    for number, plan in enumerate(("SCALE", "REPLACE"), 1):
        loop.daemon.decide(decision(plan, number))
        assert loop.step()[0] > 0
        assert loop.step()[1] == 0


def test_two_schedulers_may_take_turns() -> None:
    """As SWALR follows another one, half-way through a run."""
    loops = [Loop("ExponentialLR", attach=False) for _ in range(2)]
    turns = [[loop.scheduler, SCHEDULERS["SWALR"](loop.optimizer)] for loop in loops]
    ours, native = loops
    ours.scheduler = turns[0]
    ours.attach()
    for k in range(STEPS):
        if k == BEGINS:
            ours.daemon.decide(decision("SCALE"))
        if k == ENDS:
            release(ours)
        for loop, both in zip(loops, turns, strict=True):
            loop.scheduler = both[k > 6]
            loop.step()
        if not BEGINS <= k < ENDS:
            assert ours.lrs == native.lrs, f"step {k}"
        else:
            assert ours.lrs == pytest.approx([FACTOR * lr for lr in native.lrs])


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # of torch's, to compile
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["LinearLR", "a user's own"])
def test_a_scheduler_that_is_compiled_with_its_optimizer(name: str, kind: str) -> None:
    native, loop = Loop(name, kind, attach=False), Loop(name, kind)
    torch._dynamo.reset()

    @torch.compile(backend="eager")
    def update() -> None:
        loop.optimizer.step()
        loop.scheduler.step()

    for k in range(10):
        if k == 2:
            loop.daemon.decide(decision("SCALE"))
        if k == 6:
            release(loop)
        native.step()
        update()
        assert loop.pilot is not None
        loop.pilot.step(1.0)
        if not 2 <= k < 6:
            assert loop.lrs == native.lrs, f"step {k}"
        else:
            assert loop.lrs == pytest.approx([FACTOR * lr for lr in native.lrs])
    torch._dynamo.reset()


def test_no_lr_is_searched_by_its_ratio_to_0() -> None:
    model = torch.nn.ModuleList(torch.nn.Linear(2, 2) for _ in LRS)
    optimizer = torch.optim.SGD(
        [
            {"params": list(part.parameters()), "lr": lr}
            for part, lr in zip(model, (0.0, 0.1), strict=True)
        ]
    )
    daemon = FakeDaemon(searches=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Options, "_connect", lambda _: daemon)
        pilot = lrpilot.attach(optimizer, model=model, search=True)
    pilot.step(1.0)
    assert daemon.hello is not None
    assert not daemon.hello.search
    (notice,) = [r.notice.text for r in daemon.reports if r.WhichOneof("body") == "notice"]
    assert "no search: the first param group's LR is 0" in notice


def test_a_scheduler_under_a_pilot_can_be_copied_and_read() -> None:
    loop, native = Loop("nested", "tensor LR"), Loop("nested", "tensor LR", attach=False)
    loop.daemon.decide(decision("SCALE"))
    for _ in range(3):
        loop.step()
        native.step()
    assert loop.scheduler.get_last_lr() == native.scheduler.get_last_lr()
    assert all(type(lr) is torch.Tensor for lr in loop.scheduler.get_last_lr())
    copied = copy.deepcopy(loop.scheduler)
    pickled = pickle.loads(pickle.dumps(loop.scheduler))
    assert type(copied.optimizer) is type(pickled.optimizer) is torch.optim.SGD
    assert loop.optimizer is not copied.optimizer
