"""Keeps the user's scheduler on its own curve while the optimizer runs at another LR.

The scheduler is pointed at a stand-in whose param groups hold the native LRs; what it writes
there is passed on to the optimizer, scaled by the plan in force. Measured over torch's schedulers
this keeps the native curve to the last bit; writing the LR behind a recursive scheduler's back
does not. Momentum, betas and whatever else a scheduler moves stay its own, whatever the plan.
"""

from collections.abc import Callable, Iterable, Iterator, MutableMapping
from typing import Any

import torch
from torch import Tensor

from lrpilot.torch.native import NativeLRs, NativeTensor
from lrpilot.torch.prepared import plain_optimizer, plain_scheduler


class _NativeGroup(MutableMapping[str, Any]):
    """A param group as the scheduler sees it: all but `lr` is the optimizer's own."""

    def __init__(
        self, native: NativeLRs, optimizer: torch.optim.Optimizer, index: int, number: int
    ) -> None:
        self._native = native
        self._optimizer = optimizer
        self._index = index
        self._number = number

    @property
    def _live(self) -> dict[str, Any]:
        group: dict[str, Any] = self._optimizer.param_groups[self._index]
        return group

    def __getitem__(self, key: str) -> Any:
        if torch.compiler.is_compiling():
            return _read_outside(self, key)
        return self.read(key)

    def __setitem__(self, key: str, value: Any) -> None:
        if torch.compiler.is_compiling():
            _write_outside(self, key, value)
        else:
            self.write(key, value)

    def read(self, key: str) -> Any:
        """What a scheduler finds."""
        native = self._native
        return native.at(self._number) if key == "lr" else native.on_host(self._live[key])

    def write(self, key: str, value: Any) -> None:
        """What a scheduler writes."""
        if key == "lr":
            self._native.moved(self._number, value)
        else:
            self._live[key] = value

    def __delitem__(self, key: str) -> None:
        del self._live[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._live)

    def __len__(self) -> int:
        return len(self._live)


# In a step that is compiled together with its scheduler, outside of the graph.


@torch.compiler.disable  # type: ignore[untyped-decorator]
def _read_outside(group: _NativeGroup, key: str) -> Any:
    value = group.read(key)
    return value.as_subclass(Tensor) if isinstance(value, NativeTensor) else value


@torch.compiler.disable  # type: ignore[untyped-decorator]
def _write_outside(group: _NativeGroup, key: str, value: Any) -> None:
    group.write(key, value)


@torch.compiler.disable  # type: ignore[untyped-decorator]
def _groups_outside(native: NativeLRs, optimizer: torch.optim.Optimizer) -> list[Any]:
    native.settle()
    return _groups(native, optimizer)


def _groups(native: NativeLRs, optimizer: torch.optim.Optimizer) -> list[Any]:
    """An optimizer's groups, the controlled ones with native LRs."""
    return [
        group
        if (number := native.number(optimizer, index)) is None
        else _NativeGroup(native, optimizer, index, number)
        for index, group in enumerate(optimizer.param_groups)
    ]


def real_optimizer(optimizer: Any) -> Any:
    """What a stand-in is copied or pickled as."""
    return optimizer


class StandIn:
    """What a scheduler takes for its optimizer."""

    def __init__(self, native: NativeLRs, optimizer: torch.optim.Optimizer) -> None:
        self.__dict__.update(_native=native, real=optimizer)

    @property
    def param_groups(self) -> list[Any]:
        """The groups, with native LRs."""
        find = _groups_outside if torch.compiler.is_compiling() else _groups
        groups: list[Any] = find(self._native, plain_optimizer(self.real))
        return groups

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["real"], name)

    def __reduce__(self) -> Any:
        # A copy of a scheduler drives a copy of the optimizer, as without a pilot.
        return real_optimizer, (self.real,)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.real, name, value)


def point_at(scheduler: Any, native: NativeLRs) -> Callable[[], None]:
    """Point a scheduler, and those it is composed of, at a stand-in; returns how to undo it.

    Raises:
        ValueError: the scheduler drives none of the optimizers.
    """
    driven, optimizers = driven_by(scheduler), native.optimizers
    if not any(driven is optimizer for optimizer in optimizers):
        which = "the optimizer that was" if len(optimizers) == 1 else "any optimizer that was"
        raise ValueError(
            f"scheduler {type(scheduler).__name__} does not drive {which} given to attach: pass "
            "the scheduler of that optimizer"
        )
    stand_in = StandIn(native, _given(scheduler))
    for group in stand_in.param_groups:  # such as `initial_lr`: copied now, not in a step
        for value in group.values():
            native.on_host(value)
    before: list[tuple[Any, str, Any, Any]] = []
    for one in _with_parts(plain_scheduler(scheduler), driven, {}):
        moved = {"optimizer": stand_in} | _far_values(one, native)
        for name, value in moved.items():
            old = _given(one) if name == "optimizer" else getattr(one, name)
            before.append((one, name, old, value))
            setattr(one, name, value)

    def undo() -> None:
        for one, name, old, new in before:
            if getattr(one, name) is new:  # else a later pilot has it
                setattr(one, name, old)

    return undo


def driven_by(scheduler: Any) -> Any:
    """The optimizer that a scheduler drives; None where it has none."""
    return plain_optimizer(_given(scheduler))


def _given(scheduler: Any) -> Any:
    """What a scheduler was made for: an optimizer, or what Accelerate put around it."""
    optimizer = getattr(plain_scheduler(scheduler), "optimizer", None)
    # Of a pilot that was never closed, as in a notebook.
    return optimizer.real if isinstance(optimizer, StandIn) else optimizer


def _with_parts(scheduler: Any, optimizer: Any, found: dict[int, Any]) -> Iterable[Any]:
    """The scheduler and, whatever their attributes are called, those that it is composed of."""
    if id(scheduler) not in found and driven_by(scheduler) is optimizer:
        found[id(scheduler)] = scheduler
        for value in vars(scheduler).values():
            for part in value if isinstance(value, (list, tuple)) else (value,):
                # Accelerate's optimizers have one as well.
                if hasattr(part, "optimizer") and not isinstance(part, torch.optim.Optimizer):
                    _with_parts(part, optimizer, found)
    return found.values()


def _far_values(scheduler: Any, native: NativeLRs) -> dict[str, list[Any]]:
    """Lists of a scheduler that hold tensors on a device, such as `base_lrs`, on the host."""
    lists = {name: value for name, value in vars(scheduler).items() if isinstance(value, list)}
    near = {name: [native.on_host(one) for one in value] for name, value in lists.items()}
    return {
        name: near[name] for name, value in lists.items() if any(map(_differs, near[name], value))
    }


def _differs(one: Any, other: Any) -> bool:
    return one is not other
