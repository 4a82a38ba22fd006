"""The memory that a snapshot's tensors are copied into, kept from one copy to the next."""

import weakref
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from lrpilot.torch.memory import gib
from lrpilot.torch.streams import Event
from lrpilot.trainer import NoRoom

# Where a tensor lies: ("model", name), ("param", index) or ("state", index, name).
Key = tuple[Any, ...]
# Views of any type begin at a multiple of this, and copies of a device are fast.
ALIGNED = 256
PORTABLE = 1  # cudaHostRegisterPortable: locked for every device


def pin(memory: Tensor) -> Callable[[], None]:
    """Lock host memory, so that a device copies to and from it by itself; returns the way back.

    torch's own pinned allocator rounds up to powers of two: nearly two copies for one.

    Raises:
        NoRoom: the system does not give it.
    """
    runtime, at = torch.cuda.cudart(), memory.data_ptr()  # type: ignore[no-untyped-call]
    if error := int(runtime.cudaHostRegister(at, memory.numel(), PORTABLE)):
        raise NoRoom(
            f"{gib(memory.numel())} of host memory could not be locked for copies of the device "
            f"(CUDA error {error}); what helps: snapshots='device'"
        )
    return lambda: runtime.cudaHostUnregister(at)


class Buffers:
    """Room for one copy of a set of tensors.

    Tensors that stay where they are have a buffer each beside them. Those that move to the host
    have all of theirs in one block, since locking memory is done by the page and is slow.

    Attributes:
        tensors: the buffers, by where their tensors lie.
        moved: which of them lie on the host while their tensors do not.
        devices: where the tensors of those are.

    Args:
        pin: locks a block; returns how to unlock it.
    """

    def __init__(self, pin: Callable[[Tensor], Callable[[], None]] = pin) -> None:
        self._pin = pin
        self._unpin: Callable[[], Any] = lambda: None
        self._used: dict[torch.device, Event] = {}
        self.tensors: dict[Key, Tensor] = {}
        self.moved: list[Key] = []
        self.devices: list[torch.device] = []

    def fit(self, live: Mapping[Key, Tensor], moves: Callable[[Tensor], bool]) -> None:
        """Have a buffer for each of these tensors; what is of no use any more is freed first.

        Args:
            live: the tensors to be copied.
            moves: whether a tensor's copy lies on the host, and not beside it.

        Raises:
            NoRoom: the host's memory could not be locked.
        """
        moved = {key: tensor for key, tensor in live.items() if moves(tensor)}
        held = self.tensors
        near = {key: t for key, t in live.items() if key not in moved}
        kept = {
            key: held[key]
            for key, t in near.items()
            if key in held and held[key].device == t.device and fits(held[key], t)
        }
        if self.moved == list(moved) and all(fits(held[key], t) for key, t in moved.items()):
            kept |= {key: held[key] for key in moved}
            self.tensors = {}
            del held
        else:
            self.clear()  # unlocks the block before its last view goes
            del held
            kept |= self._block(moved)
            self.moved = list(moved)
            self.devices = list(dict.fromkeys(t.device for t in moved.values()))
        self.tensors = {k: kept[k] if k in kept else torch.empty_like(t) for k, t in live.items()}

    def used(self, device: torch.device, until: Event) -> None:
        """A device copies to or from here until then."""
        self._used[device] = until

    def used_until(self, device: torch.device) -> Event | None:
        """When a device is through with its last copy."""
        return self._used.get(device)

    def clear(self) -> None:
        """Let go of all of it, once the devices are through with it."""
        for event in self._used.values():
            event.synchronize()
        self._unpin()
        self._unpin = lambda: None
        self.tensors, self.moved, self.devices, self._used = {}, [], [], {}

    def _block(self, moved: Mapping[Key, Tensor]) -> dict[Key, Tensor]:
        if not moved:
            return {}
        begins, end = dict[Key, int](), 0
        for key, tensor in moved.items():
            begins[key] = end
            end += -(-tensor.numel() * tensor.element_size() // ALIGNED) * ALIGNED
        block = torch.empty(end, dtype=torch.uint8)
        # Pages must not stay locked after they went back to the system; at exit CUDA is gone first.
        finalizer = weakref.finalize(self, self._pin(block))
        finalizer.atexit = False
        self._unpin = finalizer
        return {key: _view(block, begin, moved[key]) for key, begin in begins.items()}


def fits(held: Tensor, live: Tensor | None) -> bool:
    """Whether one tensor is the place for a copy of another."""
    return live is not None and (held.shape, held.dtype) == (live.shape, live.dtype)


def _view(block: Tensor, begin: int, like: Tensor) -> Tensor:
    """A tensor of the same type, shape and order of elements in memory, at a place in a block."""
    part = block[begin : begin + like.numel() * like.element_size()].view(like.dtype)
    return part.as_strided(like.shape, torch.empty_like(like, device="meta").stride())
