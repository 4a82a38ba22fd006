"""The native LRs: what the user's own scheduler would use now, and what follows from them."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from lrpilot.torch.groups import Group, at_hand

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

    def number(self, optimizer: torch.optim.Optimizer, index: int) -> int | None:
        """A group's number among those that are controlled; None where it is not."""
        return self._numbers.get((id(optimizer), index))

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
