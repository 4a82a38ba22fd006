"""`PilotLR` keeps torch's contract of a scheduler; nobody listens, and no loss is given."""

import copy
import gc
import io
import pickle
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch.optim import SGD, Adam, Optimizer
from torch.optim.lr_scheduler import (
    ChainedScheduler,
    ConstantLR,
    CosineAnnealingLR,
    ExponentialLR,
    LinearLR,
    LRScheduler,
    MultiStepLR,
    ReduceLROnPlateau,
    SequentialLR,
    StepLR,
)

from lrpilot.torch import PilotLR

LRS = (0.05, 0.5)


@pytest.fixture(autouse=True)
def _no_daemon_is_started(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("LRPILOT_ADDRESS", raising=False)
    threads = threading.active_count()
    yield
    assert threading.active_count() == threads


def parameter() -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.ones(2))


@pytest.fixture
def optimizer() -> Optimizer:
    """Two groups: one with a float LR, one with a tensor's."""
    first, second = ({"params": [parameter()]} for _ in LRS)
    return SGD([first, second | {"lr": torch.tensor(LRS[1])}], lr=LRS[0])


def lrs(optimizer: Optimizer) -> list[float]:
    return [float(group["lr"]) for group in optimizer.param_groups]


def train(optimizer: Optimizer, scheduler: Any, steps: int = 1) -> list[list[float]]:
    """The LRs that each step ran at."""
    seen = []
    for _ in range(steps):
        seen.append(lrs(optimizer))
        optimizer.step()
        scheduler.step()
    return seen


def test_it_is_a_scheduler(optimizer: Optimizer) -> None:
    scheduler = PilotLR(optimizer)
    assert isinstance(scheduler, LRScheduler)
    assert (scheduler.last_epoch, scheduler._step_count) == (0, 1)
    assert scheduler.base_lrs == list(LRS)
    assert scheduler.get_last_lr() == list(LRS)
    assert not hasattr(scheduler, "total_steps")  # Accelerate steps no further than that


def test_without_a_loss_the_native_lr_stays(optimizer: Optimizer) -> None:
    scheduler = PilotLR(optimizer, total_steps=5)
    assert train(optimizer, scheduler, 9) == [list(LRS)] * 9
    assert (scheduler.last_epoch, scheduler._step_count) == (9, 10)


@pytest.mark.parametrize("total_steps", [None, 7])
def test_repeated_steps_are_the_closed_form(optimizer: Optimizer, total_steps: int | None) -> None:
    stepped = PilotLR(optimizer, total_steps=total_steps)
    train(optimizer, stepped, 4)
    other = SGD([parameter()], lr=LRS[0])
    other.param_groups[0]["initial_lr"] = LRS[0]
    fresh = PilotLR(other, total_steps=total_steps, last_epoch=3)
    assert fresh.last_epoch == stepped.last_epoch == 4
    assert fresh.get_last_lr() == stepped.get_last_lr()[:1]
    for epoch in (4, 2, 9):
        with pytest.warns(UserWarning, match="epoch parameter"):
            stepped.step(epoch)
        assert stepped.last_epoch == epoch
        assert lrs(optimizer) == list(LRS)


# -- the wrong order of calls


def test_the_right_order_of_calls_warns_of_nothing(optimizer: Optimizer) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(optimizer, PilotLR(optimizer), 5)


@pytest.mark.parametrize("last_epoch", [-1, 10])
def test_a_scheduler_stepped_first_warns(optimizer: Optimizer, last_epoch: int) -> None:
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    scheduler = PilotLR(optimizer, last_epoch=last_epoch)
    with pytest.warns(UserWarning, match=r"`lr_scheduler.step\(\)` before `optimizer.step\(\)`"):
        scheduler.step()


def test_an_optimizer_whose_step_was_overridden_warns(optimizer: Optimizer) -> None:
    scheduler = PilotLR(optimizer)
    own = optimizer.step
    optimizer.step = lambda: own()  # type: ignore[method-assign, assignment]
    optimizer.step()
    with pytest.warns(UserWarning, match=r"`optimizer.step\(\)` has been overridden"):
        scheduler.step()


def test_get_lr_outside_of_a_step_warns(optimizer: Optimizer) -> None:
    with pytest.warns(UserWarning, match="get_last_lr"):
        assert PilotLR(optimizer).get_lr() == list(LRS)


# -- resume


def test_a_resumed_one_needs_initial_lr(optimizer: Optimizer) -> None:
    with pytest.raises(KeyError, match=r"param 'initial_lr' is not specified in param_groups\[0\]"):
        PilotLR(optimizer, last_epoch=1)


def test_initial_lr_is_the_base_on_resume() -> None:
    model = torch.nn.Linear(3, 3)
    optimizer = Adam(model.parameters(), lr=0.01)
    train(optimizer, ChainedScheduler([ExponentialLR(optimizer, 0.5), PilotLR(optimizer)]), 2)
    resumed = Adam(model.parameters(), lr=0.3)
    resumed.load_state_dict(optimizer.state_dict())
    scheduler = PilotLR(resumed, last_epoch=1)
    assert scheduler.base_lrs == [0.01]
    assert scheduler.get_last_lr() == lrs(resumed) == lrs(optimizer)


@pytest.mark.parametrize("weights_only", [True, False])
def test_a_state_is_plain_data_and_goes_on(optimizer: Optimizer, weights_only: bool) -> None:
    scheduler = PilotLR(optimizer, total_steps=20)
    train(optimizer, scheduler, 10)
    state = scheduler.state_dict()
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=weights_only)
    assert loaded == state
    other = PilotLR(optimizer, total_steps=3)
    other.load_state_dict(loaded)
    assert other.state_dict() == state
    assert "pilot" in loaded, "loading changes no caller's dict"
    assert {k: v for k, v in vars(other).items() if k != "optimizer"} == {
        k: v for k, v in vars(scheduler).items() if k != "optimizer"
    }


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))])
def test_a_copy_drives_a_copy_of_the_optimizer(
    optimizer: Optimizer, copied: Callable[[PilotLR], PilotLR]
) -> None:
    scheduler = PilotLR(
        optimizer, run="mine", address="localhost:50051", token="secret-of-this-process"
    )
    train(optimizer, scheduler, 2)
    assert b"secret-of-this-process" not in pickle.dumps(scheduler)
    twin = copied(scheduler)
    assert twin.state_dict() == scheduler.state_dict()
    assert twin.optimizer is not optimizer
    for group in twin.optimizer.param_groups:
        group["lr"] *= 0.5
    train(twin.optimizer, twin, 3)
    assert lrs(optimizer) == list(LRS)
    assert twin.get_last_lr() == [lr / 2 for lr in LRS]
    assert (twin.last_epoch, scheduler.last_epoch) == (5, 2)


# -- tensors and groups


def test_tensor_lrs_are_written_in_place_and_never_aliased(optimizer: Optimizer) -> None:
    tensor = optimizer.param_groups[1]["lr"]
    scheduler = PilotLR(optimizer)
    for epoch in range(3):
        optimizer.step()
        with pytest.warns(UserWarning, match="epoch parameter"):
            scheduler.step(epoch)
        assert optimizer.param_groups[1]["lr"] is tensor
        tensor.mul_(0.1)
        (last,) = scheduler.get_last_lr()[1:]
        assert last == LRS[1]
        assert scheduler.base_lrs == list(LRS)
        assert optimizer.param_groups[1]["initial_lr"] == LRS[1]


def test_a_group_that_is_added_later_keeps_its_own_lr(optimizer: Optimizer) -> None:
    scheduler = PilotLR(optimizer)
    train(optimizer, scheduler, 2)
    optimizer.add_param_group({"params": [parameter()], "lr": 0.07})
    train(optimizer, scheduler, 2)
    with pytest.warns(UserWarning, match="epoch parameter"):
        scheduler.step(3)
    assert lrs(optimizer) == [*LRS, 0.07]


# -- composition


def base(optimizer: Optimizer) -> ConstantLR:
    """What PilotLR is when nothing is decided."""
    return ConstantLR(optimizer, 1.0)


@pytest.mark.parametrize(
    "compose",
    [
        lambda o, one: SequentialLR(o, [ConstantLR(o, 0.1, 3), one(o)], [3]),
        lambda o, one: SequentialLR(o, [one(o), ExponentialLR(o, 0.8)], [3]),
        lambda o, one: SequentialLR(
            o, [LinearLR(o, 0.1, total_iters=2), one(o), StepLR(o, 2)], [2, 6]
        ),
        lambda o, one: SequentialLR(
            o, [ChainedScheduler([one(o), LinearLR(o, 0.2)]), ExponentialLR(o, 0.9)], [4]
        ),
        lambda o, one: ChainedScheduler([ExponentialLR(o, 0.9), one(o)]),
        lambda o, one: ChainedScheduler([one(o), LinearLR(o, 0.4), MultiStepLR(o, [2, 5])]),
        lambda o, one: ChainedScheduler([CosineAnnealingLR(o, 8), one(o), StepLR(o, 3)]),
    ],
)
def test_it_composes_as_a_constant_does(compose: Callable[[Optimizer, Any], Any]) -> None:
    seen = {}
    for one in (base, PilotLR):
        optimizer = SGD([parameter()], lr=LRS[0])
        with warnings.catch_warnings(record=True) as told:  # torch's own in one of them
            warnings.simplefilter("always")
            scheduler = compose(optimizer, one)
            ran = train(optimizer, scheduler, 12)
        seen[one] = [*ran, scheduler.get_last_lr(), len(told)]
    assert seen[PilotLR] == seen[base]
    assert len({lr for (lr,) in seen[base][:12]}) > 1


def test_a_composed_state_goes_on(optimizer: Optimizer) -> None:
    def compose() -> ChainedScheduler:
        return ChainedScheduler([ExponentialLR(optimizer, 0.9), PilotLR(optimizer)])

    scheduler = compose()
    train(optimizer, scheduler, 3)
    other = compose()
    other.load_state_dict(scheduler.state_dict())
    assert other.state_dict() == scheduler.state_dict()


def test_a_plateau_scheduler_beside_it(optimizer: Optimizer) -> None:
    plateau, scheduler = ReduceLROnPlateau(optimizer, patience=1), PilotLR(optimizer)
    for _ in range(4):
        optimizer.step()
        plateau.step(1.0)
        scheduler.step()
    assert lrs(optimizer) == pytest.approx([lr / 10 for lr in LRS])
    assert scheduler.get_last_lr() == [group["lr"] for group in optimizer.param_groups]


# -- what is left behind


def test_nothing_keeps_the_scheduler_or_the_optimizer_alive() -> None:
    optimizer = SGD([parameter()], lr=0.1)
    gc.disable()
    try:
        scheduler = PilotLR(optimizer, total_steps=5)
        train(optimizer, scheduler, 2)
        gone = weakref.ref(scheduler)
        del scheduler
        assert gone() is None
        assert not optimizer._optimizer_step_post_hooks
        assert not optimizer._optimizer_load_state_dict_post_hooks
        lost = weakref.ref(optimizer)
        del optimizer
        assert lost() is None
    finally:
        gc.enable()


# -- what is refused


@pytest.mark.parametrize(
    ("keywords", "error", "message"),
    [
        ({"total_steps": 0}, ValueError, "total_steps=0"),
        ({"mode": "ask"}, ValueError, "mode='ask'"),
        ({"min_lr": 0.5, "max_lr": 0.2}, ValueError, "min_lr <= max_lr"),
        ({"address": "nowhere"}, ValueError, "address"),
        ({"model": {}}, TypeError, "model is a dict"),
        ({"stateful": [3]}, TypeError, "stateful holds a int"),
        ({"horizon": 3}, TypeError, "horizon"),
        ({"verbose": True}, TypeError, "verbose"),
    ],
)
def test_what_cannot_be_is_told_where_it_is_made(
    optimizer: Optimizer, keywords: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        PilotLR(optimizer, **keywords)


def test_an_optimizer_that_cannot_be_controlled_is_refused() -> None:
    with pytest.raises(ValueError, match="LBFGS is not supported"):
        PilotLR(torch.optim.LBFGS([parameter()]))
    with pytest.raises(TypeError, match="Optimizer"):
        PilotLR("sgd")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="optimizer is a Linear"):
        PilotLR(torch.nn.Linear(1, 1))  # type: ignore[arg-type]


def test_a_scheduler_of_another_optimizer_is_refused(optimizer: Optimizer) -> None:
    with pytest.raises(ValueError, match="does not drive the optimizer"):
        PilotLR(optimizer, scheduler=StepLR(SGD([parameter()], lr=0.1), 3))
