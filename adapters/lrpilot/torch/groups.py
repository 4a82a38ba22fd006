"""The param groups of one optimizer or several, and their LRs as the optimizers have them.

An LR may be a tensor: it is filled in place, so that a compiled step or a captured graph goes on
with it. One that lies on a device is never read back in a step, which would wait for the device:
what was written there is kept on the host as well.
"""

from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor

# Whether a tensor can be read without waiting for a device.
at_hand = attrgetter("is_cpu")


class Group:
    """One param group, by its optimizer and its index there.

    `optimizer.load_state_dict` replaces the group itself, and one that is added later shifts none
    of another optimizer.

    Args:
        optimizer: whose group it is.
        index: its place in `optimizer.param_groups`.
        name: for a person.

    Attributes:
        base_lr: the LR that its native curve is relative to.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, index: int, name: str) -> None:
        self.optimizer = optimizer
        self.index = index
        self.name = name
        self._tensor: Tensor | None = None  # the LR, if it is one
        self._host: Tensor | None = None  # the same, where it lies on a device
        self.look()
        self.base_lr = float(self.live.get("initial_lr", self.live["lr"]))

    @property
    def live(self) -> dict[str, Any]:
        """The group as the optimizer has it now."""
        group: dict[str, Any] = self.optimizer.param_groups[self.index]
        return group

    @property
    def lr(self) -> float:
        """The LR that the optimizer has now; of a tensor on a device, what was written last.

        A tensor that somebody else put in the old one's place is read once.
        """
        lr = self.optimizer.param_groups[self.index]["lr"]  # asked at every step
        return lr if type(lr) is float else float(self._at_hand(lr))

    @lr.setter
    def lr(self, value: float) -> None:
        """Write it, without changing its type and only if it is another."""
        group = self.live
        lr = group["lr"]
        if not isinstance(lr, Tensor):
            group["lr"] = value
            return
        host = self._at_hand(lr)
        if host != value:
            lr.fill_(value)
            if host is not lr:
                host.fill_(value)

    def holds(self, lr: float) -> bool:
        """Whether it is this LR that the optimizer has, in the precision of its own."""
        return bool(self._at_hand(self.live["lr"]) == lr)

    def look(self) -> None:
        """Read an LR that lies on a device: somebody wrote it, and it is no step's time."""
        lr = self.live["lr"]
        if isinstance(lr, Tensor):
            self._know(lr)

    def copy(self) -> float | Tensor:
        """The LR in its own type and precision, on the host."""
        lr = self.live["lr"]
        return self._at_hand(lr).detach().clone() if isinstance(lr, Tensor) else float(lr)

    def loaded(self) -> None:
        """The optimizer's state was loaded, which puts another LR in the place of a tensor, or a
        tensor in the place of a float: take the value, and keep what was there."""
        group, tensor = self.live, self._tensor
        lr = group["lr"]
        if tensor is None:
            group["lr"] = float(lr)
        elif lr is not tensor:
            tensor.fill_(float(lr))
            group["lr"] = tensor
            self._know(tensor)

    def part(self, taken: set[int]) -> None:
        """See that the LR is no tensor of another group: what is written is meant for one."""
        lr = self.live["lr"]
        if not isinstance(lr, Tensor):
            return
        if id(lr) in taken:
            lr = self.live["lr"] = lr.detach().clone()
            self._know(lr)
        taken.add(id(lr))

    def _at_hand(self, lr: Any) -> Any:
        """The LR where it can be read at once."""
        if not isinstance(lr, Tensor) or at_hand(lr):
            return lr
        if lr is not self._tensor:
            self._know(lr)
        return self._host

    def _know(self, lr: Tensor) -> None:
        self._tensor = lr
        self._host = None if at_hand(lr) else lr.detach().cpu()


def groups_of(optimizers: Sequence[torch.optim.Optimizer]) -> list[Group]:
    """The param groups of all optimizers, in order.

    A group has its own `name`, or else `group 0` and so on; of several optimizers, with the
    optimizer's number before it: `1/group 0`. Names that come twice get the group's number.
    """
    places = [
        (number, optimizer, index, str(group.get("name", f"group {index}")))
        for number, optimizer in enumerate(optimizers)
        for index, group in enumerate(optimizer.param_groups)
    ]
    own = [(number, name) for number, _, _, name in places]
    found = []
    for number, optimizer, index, name in places:
        text = f"{name} {index}" if own.count((number, name)) > 1 else name
        text = f"{number}/{text}" if len(optimizers) > 1 else text
        found.append(Group(optimizer, index, text))
    return found


def part(groups: Iterable[Group]) -> None:
    """Give each group an LR of its own where several share one tensor.

    An optimizer's default, which groups that are added later would begin with, is parted as well.
    """
    taken = set[int]()
    for group in groups:
        group.part(taken)
    for optimizer in {id(group.optimizer): group.optimizer for group in groups}.values():
        default = optimizer.defaults.get("lr")
        if isinstance(default, Tensor) and id(default) in taken:
            optimizer.defaults["lr"] = default.detach().clone()
