"""Loss values from torch: at once where they lie in host memory, later from a device.

`.item()` would make the step wait for the device. A device loss is put into a ring on the device
instead, copied to pinned memory on a side stream, a few at a time, and an event is polled.
"""

import logging
from collections import deque
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor

from lrpilot.losses import BadLoss, Row
from lrpilot.torch.streams import Event, SideStream, capturing

log = logging.getLogger("lrpilot")

# Losses per copy: a device-to-host copy each step would cost more than it is worth.
BATCH = 8
# Losses on their way before more are dropped rather than waited for.
CAPACITY = 512

Rows = list[tuple[Row, float]]


class TorchLosses:
    """Implements `LossReader`.

    Losses that would pile up because the device is far behind are dropped; the gap in their
    numbers is the daemon's to count. A program's are all kept, since its result needs each: one
    that finds the ring full waits for the others.

    Args:
        on_host: whether a tensor can be read without waiting for a device.
        side: makes the side stream of a device.
    """

    averages = False

    def __init__(
        self,
        on_host: Callable[[Tensor], bool] = attrgetter("is_cpu"),  # unlike `device`, no object
        side: Callable[[torch.device], SideStream] = SideStream,
    ) -> None:
        self._on_host = on_host
        self._side = side
        self._ring: _Ring | None = None
        self._late: Rows = []
        self._told = False

    def read(self, loss: Any, row: Row) -> float | None:
        """The value, or None where `ready` will give it later."""
        if type(loss) is float:
            return loss
        if isinstance(loss, Tensor) and loss.numel() == 1:
            if self._on_host(loss):
                return float(loss.item())
            self._hold(loss.detach(), row)
            return None
        return self.number(loss)

    def number(self, value: Any) -> float:
        """The value at once."""
        if isinstance(value, Tensor):
            if value.numel() == 1:
                return float(value.item())
            raise BadLoss(
                f"a loss of one element is needed, not a tensor of shape {tuple(value.shape)}: "
                "reduce it, for example with .mean()"
            )
        try:
            return float(value)
        except (TypeError, ValueError):
            raise BadLoss(
                f"a loss must be a number or a tensor of one element, not {value!r}"
            ) from None

    def ready(self, *, flush: bool = False) -> Sequence[tuple[Row, float]]:
        """Rows whose values have arrived; never waits. `flush` sends for what was read so far."""
        if self._ring is None or capturing():  # no CUDA call is allowed then, a question neither
            return ()
        if flush:
            self._ring.send()
        return self._with_late(self._ring.landed())

    def drain(self) -> Sequence[tuple[Row, float]]:
        """All rows that are left; waits for the device."""
        if self._ring is None or capturing():
            return ()
        self._ring.send()
        return self._with_late(self._ring.landed(wait=True))

    def meet(self) -> None:
        """Nothing is averaged."""

    def part(self) -> None:
        """It always was."""

    def _hold(self, loss: Tensor, row: Row) -> None:
        if capturing():  # a replay would write to this place in the ring, whoever has it by then
            if not self._told:
                self._told = True
                log.warning(
                    "LRPilot: pilot.step is called while a CUDA graph is captured, and does not "
                    "see its replays: call it after graph.replay(), with the static loss tensor"
                )
            return
        if self._ring is None:
            self._ring = _Ring(loss.device, self._side(loss.device))
        if self._ring.full:
            if not row[3]:
                return
            self._late += self._ring.landed(wait=True)
        self._ring.put(loss, row)

    def _with_late(self, rows: Rows) -> Rows:
        late, self._late = self._late, []
        return late + rows


class _Ring:
    """Losses on their way from a device, in memory that is allocated once."""

    def __init__(self, device: torch.device, side: SideStream) -> None:
        cuda = device.type == "cuda"
        # Exact for losses of every type; some other devices have no 64 bits.
        exact = torch.float64 if cuda or device.type == "cpu" else torch.float32
        self._device = torch.empty(CAPACITY, dtype=exact, device=device)
        self._cells = self._device.unbind()  # to index it would cost as much as the copy
        self._host = torch.empty(CAPACITY, dtype=exact, pin_memory=cuda)
        self._side = side
        self._begin = 0  # the cell of the first loss that was not sent for
        self._held: list[Row] = []
        self._flying: deque[tuple[int, list[Row], Event]] = deque()
        self._free = CAPACITY

    @property
    def full(self) -> bool:
        """Whether every cell holds a loss that has not arrived."""
        return self._free == 0

    def put(self, loss: Tensor, row: Row) -> None:
        """Copy a loss into a free cell, in the training stream."""
        self._cells[self._begin + len(self._held)].copy_(loss.reshape(()), non_blocking=True)
        self._held.append(row)
        self._free -= 1
        if len(self._held) >= BATCH or self._begin + len(self._held) == CAPACITY:
            self.send()

    def send(self) -> None:
        """Copy what was put here since to the host; it has arrived when the event says so."""
        if not self._held:
            return
        rows, self._held = self._held, []
        cells = slice(self._begin, self._begin + len(rows))
        with self._side.behind_training():
            self._host[cells].copy_(self._device[cells], non_blocking=True)
            event = self._side.mark()
        self._flying.append((self._begin, rows, event))
        self._begin = cells.stop % CAPACITY

    def landed(self, *, wait: bool = False) -> Rows:
        """What has arrived, in order; with `wait` all that was sent for."""
        out: Rows = []
        while self._flying and (wait or self._flying[0][2].query()):
            begin, rows, event = self._flying.popleft()
            if wait:
                event.synchronize()
            values = self._host[begin : begin + len(rows)].tolist()
            out += zip(rows, values, strict=True)
            self._free += len(rows)
        return out
