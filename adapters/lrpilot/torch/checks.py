"""What can be controlled: checked once, at attach, with what to use instead."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lrpilot.torch.prepared import plain_optimizer

# Optimizers for which an LR that is written does not mean what it says, and what to use instead.
UNSUPPORTED: dict[type, str] = {
    torch.optim.LBFGS: "it runs its closure many times per step; use Adam or SGD",
    torch.optim.ASGD: "it reacts to a new LR one step late; use SGD with weight averaging",
    torch.optim.Rprop: "it ignores the LR after its first step; use Adam or SGD",
}


def check(optimizer: Any, model: Any, stateful: Sequence[Any]) -> list[torch.optim.Optimizer]:
    """The optimizers, one by one, that can be controlled.

    Raises:
        TypeError: an argument is of the wrong kind.
        ValueError: an optimizer is empty or cannot be controlled, with what to use instead.
    """
    optimizers = optimizers_of(optimizer)
    for one in optimizers:
        _check_optimizer(one)
    if not optimizers:
        raise ValueError("no optimizer was given: one or more are needed")
    if len({id(one) for one in optimizers}) < len(optimizers):
        raise ValueError("an optimizer was given twice: give each of them once")
    if model is not None and not isinstance(model, torch.nn.Module):
        raise TypeError(f"model is a {type(model).__name__}: a torch.nn.Module is needed, or None")
    for one in stateful:
        if not (hasattr(one, "state_dict") and hasattr(one, "load_state_dict")):
            raise TypeError(
                f"stateful holds a {type(one).__name__}: objects with state_dict and "
                "load_state_dict are needed"
            )
    return optimizers


def optimizers_of(optimizer: Any) -> list[Any]:
    """What was given, as a list, without what Accelerate put around it; maybe no optimizer."""
    given = optimizer if isinstance(optimizer, (list, tuple)) else [optimizer]
    return [plain_optimizer(one) for one in given]


def schedulers_of(scheduler: Any) -> list[Any]:
    """What was given, as a list; None is none."""
    schedulers = scheduler if isinstance(scheduler, (list, tuple)) else [scheduler]
    return [one for one in schedulers if one is not None]


def _check_optimizer(optimizer: Any) -> None:
    name = type(optimizer).__name__
    if _is_schedule_free(optimizer):
        raise ValueError(
            f"{name} is schedule-free: it makes its own schedule, which LRPilot would break; "
            "use its plain form, such as torch.optim.AdamW"
        )
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise TypeError(f"optimizer is a {name}: a torch.optim.Optimizer is needed")
    for kind, why in UNSUPPORTED.items():
        if isinstance(optimizer, kind):
            what = name if type(optimizer) is kind else f"{name}, a {kind.__name__},"
            raise ValueError(f"{what} is not supported: {why}")
    if not any(group["params"] for group in optimizer.param_groups):
        raise ValueError(f"{name} has no parameters: build it from the model's parameters first")
    for i, group in enumerate(optimizer.param_groups):
        lr = group.get("lr")
        if isinstance(lr, Tensor) and lr.numel() != 1:
            raise ValueError(
                f"{name}: param group {i} has an LR of shape {tuple(lr.shape)}: one element is "
                "needed"
            )
        if lr is None or not 0 <= float(lr) < float("inf"):
            raise ValueError(f"{name}: param group {i} has lr {lr!r}: a finite LR >= 0 is needed")


def _is_schedule_free(optimizer: Any) -> bool:
    inner = getattr(optimizer, "optimizer", None)
    if isinstance(inner, torch.optim.Optimizer):  # Accelerate's wrapper has the modes for all
        return _is_schedule_free(inner)
    packages = {kind.__module__.partition(".")[0] for kind in type(optimizer).__mro__}
    model = isinstance(optimizer, torch.nn.Module)  # given by mistake, and told as such
    modes = hasattr(optimizer, "train") and hasattr(optimizer, "eval") and not model
    return modes or "schedulefree" in packages
