"""The slots of a trainer's snapshots, with the memory and the streams that they share."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from lrpilot.torch.buffers import Buffers, pin
from lrpilot.torch.copying import Copier
from lrpilot.torch.live import LiveTensors
from lrpilot.torch.memory import SnapshotMemory
from lrpilot.torch.state import Stateful, TrainingState
from lrpilot.torch.streams import SideStream, capturing
from lrpilot.trainer import SLOTS, NoRoom

# Without room for these two there are no rollbacks; the others only help a search.
NEEDED = (0, 1)


class Slots:
    """`snapshot`, `restore` and `discard` of the trainer port.

    Args:
        model: its parameters and buffers are copied.
        optimizers: their state is copied.
        stateful: what else belongs to the training state.
        memory: where copies lie, and how much they may take.
        side: makes the side stream of a device.
        pin: locks host memory for a device.

    Attributes:
        usable: False once there was no room for the two copies that a rollback needs.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        optimizers: Sequence[torch.optim.Optimizer],
        stateful: Sequence[Stateful] = (),
        memory: SnapshotMemory | None = None,
        side: Callable[[torch.device], SideStream] = SideStream,
        pin: Callable[[Tensor], Callable[[], None]] = pin,
    ) -> None:
        memory, live = memory or SnapshotMemory(), LiveTensors(model, optimizers)
        moving = any(memory.may_move(parameter) for parameter in live.parameters().values())
        self._copier = Copier(optimizers if moving else (), side)
        self._slots = [
            TrainingState(slot, live, stateful, memory, self._copier, Buffers(pin))
            for slot in range(SLOTS)
        ]
        self.usable = True

    def save(self, slot: int) -> float | None:
        """Copy the training state; the seconds that such a copy takes the device, once known.

        Raises:
            NoRoom: it would take more memory than it may.
            RuntimeError: a CUDA graph is being captured.
        """
        if capturing():
            raise RuntimeError("no snapshot can be taken while a CUDA graph is captured")
        seconds = self._copier.seconds
        try:
            self._slots[slot].save()
        except NoRoom:
            self.usable = self.usable and slot not in NEEDED
            raise
        return seconds

    def restore(self, slot: int, *, rng: bool) -> None:
        """Put a slot's state back in place."""
        if capturing():
            raise RuntimeError("nothing can be restored while a CUDA graph is captured")
        self._slots[slot].restore(rng=rng)

    def settle(self) -> None:
        """Let the training stream wait for the copies that are under way."""
        if not capturing():
            self._copier.settle()

    def discard(self, slot: int) -> None:
        """Free a slot's memory."""
        self._slots[slot].clear()

    def close(self) -> None:
        """Free all of it, and leave the optimizers alone."""
        for slot in self._slots:
            slot.clear()
        self._copier.close()
