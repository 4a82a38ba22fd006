"""Snapshots that move to other memory, as a GPU's do to the host, on a machine without one."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from lrpilot.torch.memory import SnapshotMemory
from lrpilot.torch.slots import Slots
from lrpilot.torch.streams import SideStream
from lrpilot.trainer import NoRoom


class Locks:
    """Stands in for locking memory; counts it."""

    def __init__(self) -> None:
        self.taken = self.held = 0
        self.refuse = False
        self.on_take: Callable[[], object] = lambda: None

    def __call__(self, memory: Tensor) -> Callable[[], None]:
        """Lock a block."""
        self.on_take()
        if self.refuse:
            raise NoRoom("it could not be locked; what helps: snapshots='device'")
        self.taken += 1
        self.held += 1
        return self._release

    def _release(self) -> None:
        self.held -= 1


def moved(
    locks: Locks,
    side: Callable[[torch.device], SideStream] = SideStream,
    memory: SnapshotMemory | None = None,
) -> Callable[..., Slots]:
    """Makes slots whose every tensor is taken for a device's."""
    memory = memory or SnapshotMemory("host", on_host=lambda tensor: False)
    return partial(Slots, memory=memory, side=side, pin=locks)
