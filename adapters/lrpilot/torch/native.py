"""Keeps the user's scheduler on its own curve while the optimizer runs at another LR.

The scheduler is pointed at a stand-in whose param groups hold the native LRs; what it writes
there is passed on to the optimizer, scaled by the plan in force. Measured over torch's schedulers
this keeps the native curve to the last bit; writing the LR behind a recursive scheduler's back
does not. Momentum, betas and whatever else a scheduler moves stay its own, whatever the plan.
"""

from collections.abc import Callable, Iterable, Iterator, MutableMapping, Sequence
from typing import Any

import torch
from torch import Tensor

from lrpilot.torch.groups import Group, at_hand
from lrpilot.torch.prepared import plain_optimizer, plain_scheduler

Write = Callable[[int, float], float]


class NativeLRs:
    """The native LR per param group, and the way from there to the optimizers.

    A group that is added after attach keeps its own LR and is left alone. Native LRs have the type
    and precision that the group's LR has, for a scheduler that multiplies what it finds.

    Args:
        groups: those that are controlled.
    """

    def __init__(self, groups: Sequence[Group]) -> None:
        self.control(groups)
        self._copies: dict[int, tuple[Tensor, Tensor]] = {}
        self.write: Write = lambda group, native: native

    def control(self, groups: Sequence[Group]) -> None:
        """Have these groups, at the LRs that they have now."""
        self._groups = list(groups)
        self._numbers = {(id(g.optimizer), g.index): i for i, g in enumerate(groups)}
        lrs = enumerate(group.copy() for group in groups)
        self._lrs = [
            NativeTensor.of(lr, self, i) if isinstance(lr, Tensor) else lr for i, lr in lrs
        ]

    @property
    def optimizers(self) -> list[torch.optim.Optimizer]:
        """Whose groups they are."""
        return list({id(group.optimizer): group.optimizer for group in self._groups}.values())

    @property
    def values(self) -> list[float]:
        """The native LRs."""
        return [lr if type(lr) is float else float(lr) for lr in self._lrs]

    @values.setter
    def values(self, lrs: Sequence[float]) -> None:
        for number, lr in enumerate(lrs):
            self._keep(number, lr)

    def at(self, number: int) -> "float | NativeTensor":
        """The native LR of a group, as its scheduler sees it."""
        return self._lrs[number]

    def moved(self, number: int, native: Any) -> None:
        """The scheduler wrote a native LR: remember it and apply what follows from it."""
        self._keep(number, native)
        self.apply(number)

    def apply(self, number: int) -> None:
        """Write what follows from a native LR."""
        lr = self._lrs[number]
        native = lr if type(lr) is float else float(lr)
        self._groups[number].lr = self.write(number, native)

    def begun(self) -> None:
        """A scheduler was made behind our back: an LR that we did not write is one of its own."""
        for number, (group, native) in enumerate(zip(self._groups, self.values, strict=True)):
            group.look()
            if not group.holds(self.write(number, native)):
                self.moved(number, group.lr)

    def loaded(self, optimizer: torch.optim.Optimizer) -> None:
        """An optimizer's state was loaded: its LRs are native, unless a plan scales them.

        Those of a plan are written anew: whether the state was saved under it nobody can tell.
        """
        groups = [(i, g) for i, g in enumerate(self._groups) if g.optimizer is optimizer]
        planned = any(self.write(i, native) != native for i, native in enumerate(self.values))
        for number, group in groups:
            group.loaded()
            if planned:
                self.apply(number)
            else:
                self._keep(number, group.lr)

    def settle(self) -> None:
        """Apply all native LRs: a compiled scheduler writes them unseen, before it reads them."""
        for number in range(len(self._lrs)):
            self.apply(number)

    def groups_of(self, optimizer: torch.optim.Optimizer) -> list[Any]:
        """An optimizer's groups, the controlled ones with native LRs."""
        numbers = self._numbers
        return [
            group
            if (number := numbers.get((id(optimizer), i))) is None
            else _NativeGroup(self, self._groups[number], number)
            for i, group in enumerate(optimizer.param_groups)
        ]

    def on_host(self, value: Any) -> Any:
        """A value, or its copy on the host where it is a tensor on a device; copied only once.

        What a scheduler makes its LRs of is such a one where the LR lies on a device.
        """
        if not isinstance(value, Tensor) or at_hand(value):
            return value
        if id(value) not in self._copies:
            self._copies[id(value)] = (value, value.detach().cpu())  # kept: ids are used again
        return self._copies[id(value)][1]

    def _keep(self, number: int, native: Any) -> None:
        lr = self._lrs[number]
        if isinstance(lr, NativeTensor):
            lr.keep(native)
        else:
            self._lrs[number] = float(native)


class NativeTensor(Tensor):
    """A native LR where the LR is a tensor: what a scheduler writes into it in place is noticed."""

    _native: NativeLRs
    _number: int

    @classmethod
    def of(cls, lr: Tensor, native: NativeLRs, number: int) -> "NativeTensor":
        """One with the value and type of `lr`."""
        made = lr.as_subclass(cls)
        made._native, made._number = native, number
        return made

    def keep(self, native: Any) -> None:
        """Take a value, without applying it."""
        with torch._C.DisableTorchFunctionSubclass():
            self.fill_(float(native))

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Do it on a plain tensor, and apply what was written."""
        with torch._C.DisableTorchFunctionSubclass():
            ours = [(one, one._version) for one in args if isinstance(one, NativeTensor)]
            result = func(*args, **(kwargs or {}))
            written = [one for one, version in ours if one._version != version]
        for one in written:
            one._native.apply(one._number)
        return result


class _NativeGroup(MutableMapping[str, Any]):
    """A param group as the scheduler sees it: all but `lr` is the optimizer's own."""

    def __init__(self, native: NativeLRs, group: Group, number: int) -> None:
        self._native = native
        self._group = group
        self._number = number

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
        return native.at(self._number) if key == "lr" else native.on_host(self._group.live[key])

    def write(self, key: str, value: Any) -> None:
        """What a scheduler writes."""
        if key == "lr":
            self._native.moved(self._number, value)
        else:
            self._group.live[key] = value

    def __delitem__(self, key: str) -> None:
        del self._group.live[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._group.live)

    def __len__(self) -> int:
        return len(self._group.live)


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
    return native.groups_of(optimizer)


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
        find = _groups_outside if torch.compiler.is_compiling() else NativeLRs.groups_of
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
