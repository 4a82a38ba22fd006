"""Copies of many tensors to where snapshots lie and back; the host waits for none of a device's."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import torch
from torch import Tensor

from lrpilot.torch.buffers import Buffers, Key
from lrpilot.torch.streams import Event, SideStream, StepGate

Pair = tuple[Tensor, Tensor]  # to, from


class Copier:
    """Copies snapshots of one trainer.

    What stays beside its tensor is copied in the training stream. What moves to the host is
    copied on a side stream while the next forward and backward pass run, as far as these leave
    it alone; the next optimizer step waits for it on the device, or what comes after `settle`.

    Args:
        optimizers: those that train what is copied.
        side: makes the side stream of a device.
    """

    def __init__(
        self,
        optimizers: Sequence[torch.optim.Optimizer],
        side: Callable[[torch.device], SideStream] = SideStream,
    ) -> None:
        self._gate = StepGate(optimizers)
        self._make_side = side
        self._sides: dict[torch.device, SideStream] = {}
        self._timed: list[tuple[Event, Event]] = []
        self._seconds: float | None = None

    @property
    def seconds(self) -> float | None:
        """The time that the last copy took its devices, once they are through with it."""
        if self._timed and all(end.query() for _, end in self._timed):
            self._seconds = sum(begin.elapsed_time(end) for begin, end in self._timed) / 1000
            self._timed = []
        return self._seconds

    def save(
        self, live: Mapping[Key, Tensor], to: Buffers, stepped: Callable[[], Collection[Key]]
    ) -> None:
        """Copy tensors into their buffers; `stepped` says which only an optimizer changes."""
        held, late = to.tensors, list[Key]()
        if to.moved:
            changed_late = stepped()
            late = [key for key in to.moved if key in changed_late]
        at_once = live.keys() - set(late)
        copy_all((held[key], live[key]) for key in live if key in at_once)
        self._timed = []
        for device in to.devices:
            side = self._side(device)
            with side.behind_training():
                begin = side.mark(timing=True)
                ours = [key for key in late if live[key].device == device]
                copy_all((held[key], live[key]) for key in ours)
                side.keep(live[key] for key in ours)
                end = side.mark(timing=True)
            self._gate.hold(side, end)
            self._timed.append((begin, end))
            to.used(device, end)

    def restore(self, live: Mapping[Key, Tensor], held: Buffers) -> None:
        """Copy buffers back over their tensors, in the training stream."""
        for device in held.devices:
            if (saved := held.used_until(device)) is not None:
                self._side(device).hold_training(saved)
        copy_all((live[key], tensor) for key, tensor in held.tensors.items())
        for device in held.devices:
            held.used(device, self._side(device).mark(training=True))

    def settle(self) -> None:
        """Let the training stream wait now, and not only with the next step."""
        self._gate.release()

    def close(self) -> None:
        """Leave the optimizers alone."""
        self._gate.close()

    def _side(self, device: torch.device) -> SideStream:
        if device not in self._sides:
            self._sides[device] = self._make_side(device)
        return self._sides[device]


@torch.no_grad()
def copy_all(pairs: Iterable[Pair]) -> None:
    """Copy tensors over others: one call, and one kernel where there are such, for all alike."""
    alike: dict[object, tuple[list[Tensor], list[Tensor]]] = {}
    for to, source in pairs:
        kind = (to.device, source.device, source.dtype)
        ours, theirs = alike.setdefault(kind, ([], []))
        ours.append(to.detach())
        theirs.append(source.detach())
    for ours, theirs in alike.values():
        torch._foreach_copy_(ours, theirs, non_blocking=True)
