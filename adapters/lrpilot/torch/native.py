"""Keeps the user's scheduler on its own curve while the optimizer runs at another LR.

The scheduler is pointed at a stand-in whose param groups hold the native LRs; what it writes
there is passed on to the optimizer, scaled by the plan in force. Measured over torch's schedulers
this keeps the native curve to the last bit; writing the LR behind a recursive scheduler's back
does not.
"""

from collections.abc import Callable, Iterator, MutableMapping
from typing import Any

import torch

Write = Callable[[int, float], float]


class NativeLRs:
    """The native LR per param group, and the way from there to the optimizer.

    Groups are looked up by index each time: `optimizer.load_state_dict` replaces them. One that
    is added after attach keeps its own LR and is left alone.
    """

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer
        self.values = [float(group["lr"]) for group in optimizer.param_groups]
        self.write: Write = lambda group, native: native

    def moved(self, group: int, native: float) -> None:
        """The scheduler wrote a native LR: remember it and apply what follows from it."""
        native = float(native)
        if group < len(self.values):
            self.values[group] = native
            native = self.write(group, native)
        set_lr(self.optimizer.param_groups[group], native)

    def loaded(self) -> None:
        """The optimizer's state was loaded: its LRs are native, unless a plan scales them."""
        if all(self.write(i, native) == native for i, native in enumerate(self.values)):
            groups = self.optimizer.param_groups[: len(self.values)]
            self.values = [float(group["lr"]) for group in groups]

    def at(self, group: int) -> float:
        """The native LR of a group; one that was added later has only its own."""
        if group < len(self.values):
            return self.values[group]
        return float(self.optimizer.param_groups[group]["lr"])


def set_lr(group: dict[str, Any], lr: float) -> None:
    """Write a group's LR without changing its type: a tensor is filled in place."""
    if isinstance(group["lr"], torch.Tensor):
        group["lr"].fill_(lr)
    else:
        group["lr"] = lr


class _NativeGroup(MutableMapping[str, Any]):
    """A param group as the scheduler sees it: all but `lr` is the optimizer's own."""

    def __init__(self, native: NativeLRs, index: int) -> None:
        self._native = native
        self._index = index

    @property
    def _group(self) -> dict[str, Any]:
        return self._native.optimizer.param_groups[self._index]

    def __getitem__(self, key: str) -> Any:
        return self._native.at(self._index) if key == "lr" else self._group[key]

    def __setitem__(self, key: str, value: Any) -> None:
        if key == "lr":
            self._native.moved(self._index, value)
        else:
            self._group[key] = value

    def __delitem__(self, key: str) -> None:
        del self._group[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._group)

    def __len__(self) -> int:
        return len(self._group)


def real_optimizer(optimizer: Any) -> Any:
    """What a stand-in is copied or pickled as."""
    return optimizer


class StandIn:
    """What a scheduler takes for its optimizer."""

    def __init__(self, native: NativeLRs) -> None:
        self.__dict__["_native"] = native

    @property
    def param_groups(self) -> list[_NativeGroup]:
        """The groups, with native LRs."""
        return [_NativeGroup(self._native, i) for i in range(len(self.real.param_groups))]

    @property
    def real(self) -> torch.optim.Optimizer:
        """The optimizer that is stood in for."""
        optimizer: torch.optim.Optimizer = self._native.optimizer
        return optimizer

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def __reduce__(self) -> Any:
        # A copy of a scheduler drives a copy of the optimizer, as without a pilot.
        return real_optimizer, (self.real,)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.real, name, value)


def point_at(scheduler: Any, native: NativeLRs) -> Callable[[], None]:
    """Point a scheduler, and those it is composed of, at a stand-in; returns how to undo it.

    Raises:
        ValueError: the scheduler drives another optimizer.
    """
    driven = getattr(scheduler, "optimizer", None)
    if isinstance(driven, StandIn):  # of a pilot that was never closed, as in a notebook
        driven = driven.real
    if driven is not native.optimizer:
        raise ValueError(
            f"scheduler {type(scheduler).__name__} does not drive the optimizer that was given to "
            "attach: pass the scheduler of that optimizer"
        )
    stand_in = StandIn(native)
    pointed = list(_with_parts(scheduler))
    for one in pointed:
        one.optimizer = stand_in

    def undo() -> None:
        for one in pointed:
            if one.optimizer is stand_in:  # else a later pilot has it
                one.optimizer = native.optimizer

    return undo


def _with_parts(scheduler: Any) -> Iterator[Any]:
    yield scheduler
    for part in getattr(scheduler, "_schedulers", ()):
        yield from _with_parts(part)
