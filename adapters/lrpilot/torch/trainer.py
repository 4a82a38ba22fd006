"""The trainer port for a torch optimizer and model."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from lrpilot.torch.native import NativeLRs, Write, point_at, set_lr
from lrpilot.torch.state import Stateful, TrainingState
from lrpilot.trainer import SLOTS

# Optimizers for which an LR that is written does not mean what it says, and what to use instead.
UNSUPPORTED = {
    "LBFGS": "it runs its closure many times per step; use Adam or SGD",
    "ASGD": "it reacts to a new LR one step late; use SGD with weight averaging",
    "Rprop": "it ignores the LR after its first step; use Adam or SGD",
}


class TorchTrainer:
    """Implements `TrainerPort`; a float LR per param group, one process.

    Args:
        optimizer: any optimizer of torch.optim, or one that follows its interface.
        model: what the optimizer trains; None: no snapshots.
        schedulers: the user's own schedulers of this optimizer. Their code goes on calling
            `scheduler.step()`.
        stateful: further objects that a restore must put back.
        request_stop: how to ask the loop to end; nothing unless given.

    Raises:
        TypeError: an argument is of the wrong kind.
        ValueError: the optimizer is empty or cannot be controlled, with what to use instead.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        model: torch.nn.Module | None,
        *,
        schedulers: Sequence[Any] = (),
        stateful: Sequence[Stateful] = (),
        request_stop: Callable[[], None] = lambda: None,
    ) -> None:
        _check(optimizer, model, stateful)
        self._optimizer = optimizer
        self._native = NativeLRs(optimizer)
        self._request_stop = request_stop
        self._loads = optimizer.register_load_state_dict_post_hook(lambda _: self._native.loaded())
        self._undo = [point_at(scheduler, self._native) for scheduler in schedulers]
        self.used_lrs: list[float] | None = None
        if schedulers:  # they may step before the pilot does: note what the step itself ran at
            self._undo.append(optimizer.register_step_post_hook(self._stepped).remove)
        self._slots: list[TrainingState] = []
        if model is not None:
            self._slots = [TrainingState(model, optimizer, stateful) for _ in range(SLOTS)]
        groups = optimizer.param_groups
        self._count = len(groups)
        self.group_names = [str(g.get("name", f"group {i}")) for i, g in enumerate(groups)]
        self.base_lrs = [float(g.get("initial_lr", g["lr"])) for g in groups]
        self.optimizer_name = type(optimizer).__name__
        self.can_snapshot = model is not None

    def get_lrs(self) -> list[float]:
        """The LRs that the optimizer has now."""
        return [
            lr if type(lr) is float else float(lr)
            for lr in [group["lr"] for group in self._optimizer.param_groups[: self._count]]
        ]

    def _stepped(self, *_: Any) -> None:
        self.used_lrs = self.get_lrs()

    def set_lrs(self, lrs: Sequence[float]) -> None:
        """Write the LRs; groups that were added since attach keep theirs."""
        for group, lr in zip(self._optimizer.param_groups, lrs, strict=False):
            if group["lr"] != lr:
                set_lr(group, lr)

    def get_native_lrs(self) -> list[float]:
        """The native LRs."""
        return list(self._native.values)

    def set_native_lrs(self, lrs: Sequence[float]) -> None:
        """Correct the native LRs."""
        self._native.values = [float(lr) for lr in lrs]
        self._count = len(lrs)
        self.group_names = self.group_names[: self._count]

    def on_native_change(self, write: Write) -> None:
        """Have `write` say which LR to apply whenever the scheduler moves a native one."""
        self._native.write = write

    def snapshot(self, slot: int) -> None:
        """Copy the training state into a slot."""
        self._slots[slot].save()

    def restore(self, slot: int, *, rng: bool) -> None:
        """Put a slot's state back in place."""
        self._slots[slot].restore(rng=rng)

    def discard(self, slot: int) -> None:
        """Free a slot's memory."""
        self._slots[slot].clear()

    def request_stop(self) -> None:
        """Ask the loop to end."""
        self._request_stop()

    def detach(self) -> None:
        """Give the schedulers their optimizer back, with the LRs as they are."""
        for undo in self._undo:
            undo()
        self._undo, self._slots = [], []
        self._loads.remove()


def _check(optimizer: Any, model: Any, stateful: Sequence[Any]) -> None:
    name = type(optimizer).__name__
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise TypeError(f"optimizer is a {name}: a torch.optim.Optimizer is needed")
    if model is not None and not isinstance(model, torch.nn.Module):
        raise TypeError(f"model is a {type(model).__name__}: a torch.nn.Module is needed, or None")
    for one in stateful:
        if not (hasattr(one, "state_dict") and hasattr(one, "load_state_dict")):
            raise TypeError(
                f"stateful holds a {type(one).__name__}: objects with state_dict and "
                "load_state_dict are needed"
            )
    if not any(group["params"] for group in optimizer.param_groups):
        raise ValueError(f"{name} has no parameters: build it from the model's parameters first")
    if name in UNSUPPORTED:
        raise ValueError(f"{name} is not supported: {UNSUPPORTED[name]}")
    if "schedulefree" in type(optimizer).__module__ or hasattr(optimizer, "train_mode"):
        raise ValueError(
            f"{name} is schedule-free: it makes its own schedule, which LRPilot would break; "
            "use its plain form, such as torch.optim.AdamW"
        )
    for i, group in enumerate(optimizer.param_groups):
        lr = group.get("lr")
        if isinstance(lr, torch.Tensor) and lr.device.type != "cpu":
            raise ValueError(f"{name}: param group {i} has a tensor LR on {lr.device}; only on CPU")
        if lr is None or not 0 <= float(lr) < float("inf"):
            raise ValueError(f"{name}: param group {i} has lr {lr!r}: a finite LR >= 0 is needed")
