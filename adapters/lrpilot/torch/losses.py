"""Loss values from torch: at once where they lie in host memory, later from a device.

A device loss is copied to pinned memory on a side stream, a batch at a time, and an event is
polled: `.item()` would make the step wait for the device.
"""

from collections import deque
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any, Protocol

import torch
from torch import Tensor

from lrpilot.losses import BadLoss, Row

# Losses per copy: a device-to-host copy each step would cost more than it is worth.
BATCH = 8
# Copies in flight before losses are dropped rather than waited for.
MAX_IN_FLIGHT = 64


class Event(Protocol):
    """A point in a device's stream."""

    def query(self) -> bool:
        """Whether the device got there."""
        ...

    def synchronize(self) -> None:
        """Wait until it does."""
        ...


class TorchLosses:
    """Implements `LossReader`.

    Losses that would pile up because the device is far behind are dropped; the gap in their
    numbers is the daemon's to count. A program's are few, and all kept: its result needs each.

    Args:
        to_host: starts a copy to host memory and says when it is done.
        on_host: whether a tensor can be read without waiting for a device.
    """

    def __init__(
        self,
        to_host: Callable[[Tensor], tuple[Tensor, Event]] | None = None,
        on_host: Callable[[Tensor], bool] = attrgetter("is_cpu"),  # unlike `device`, no object
    ) -> None:
        self._to_host = to_host or copy_to_host
        self._on_host = on_host
        self._held: list[tuple[Row, Tensor]] = []
        self._flying: deque[tuple[list[Row], Tensor, Event]] = deque()

    def read(self, loss: Any, row: Row) -> float | None:
        """The value, or None where `ready` will give it later."""
        if type(loss) is float:
            return loss
        if isinstance(loss, Tensor) and loss.numel() == 1:
            if self._on_host(loss):
                return float(loss.item())
            self._hold(loss, row)
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
        """Rows whose values have arrived; never waits. `flush` launches what was read so far."""
        if flush:
            self._launch()
        out: list[tuple[Row, float]] = []
        while self._flying and self._flying[0][2].query():
            out += self._land()
        return out

    def drain(self) -> Sequence[tuple[Row, float]]:
        """All rows that are left; waits for the device."""
        self._launch()
        out: list[tuple[Row, float]] = []
        while self._flying:
            self._flying[0][2].synchronize()
            out += self._land()
        return out

    def _hold(self, loss: Tensor, row: Row) -> None:
        if len(self._flying) >= MAX_IN_FLIGHT and not row[3]:
            return
        self._held.append((row, loss.detach().reshape(()).clone()))
        if len(self._held) >= BATCH:
            self._launch()

    def _launch(self) -> None:
        if not self._held:
            return
        rows, losses = [row for row, _ in self._held], [loss for _, loss in self._held]
        self._held = []
        host, event = self._to_host(torch.stack(losses))
        self._flying.append((rows, host, event))

    def _land(self) -> list[tuple[Row, float]]:
        rows, host, _ = self._flying.popleft()
        return list(zip(rows, host.tolist(), strict=True))


class _Done:
    """A copy that was waited for."""

    def query(self) -> bool:
        return True

    def synchronize(self) -> None:
        pass


def copy_to_host(values: Tensor) -> tuple[Tensor, Event]:
    """Copy a device tensor to pinned host memory on a side stream; the event says when.

    Only CUDA has both; other devices are waited for, once per batch of losses.
    """
    if not values.is_cuda:
        return values.cpu(), _Done()
    host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
    side = torch.cuda.Stream(values.device)  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream(values.device))
    with torch.cuda.stream(side):
        host.copy_(values, non_blocking=True)
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record(side)
    values.record_stream(side)
    return host, event
