"""The mean loss of several ranks: one collective for the steps of a window, not one per step."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from lrpilot.losses import Row
from lrpilot.torch.losses import TorchLosses


class MeanLosses(TorchLosses):
    """Losses that wait until all ranks `meet`, and are averaged there, in the same order.

    Values on a device are reduced there and not waited for. A loss that is not finite on one rank
    is not finite in the mean.
    """

    averages = True

    def __init__(self) -> None:
        super().__init__()
        self._first = dist.get_rank() == 0  # also once the process group is gone
        self._held: list[tuple[Row, Tensor]] = []
        self._means: list[tuple[Row, float]] = []
        self._parted = False

    def read(self, loss: Any, row: Row) -> float | None:
        """None: it comes with the others' once all ranks met."""
        if self._parted:
            return super().read(loss, row)
        if isinstance(loss, Tensor) and loss.numel() == 1:
            value = loss.detach().reshape(()).double().clone()
        else:
            value = torch.tensor(self.number(loss), dtype=torch.float64)
        self._held.append((row, value))
        return None

    def meet(self) -> None:
        """Average what was read; all ranks have read as many."""
        held, self._held = self._held, []
        if not held or self._parted:
            return
        sums = torch.stack([value.to(_device(value)) for _, value in held])
        dist.all_reduce(sums)
        if self._first:
            self._take([row for row, _ in held], sums / dist.get_world_size())

    def part(self) -> None:
        """From here on this rank's own loss is the run's; so it is for what is still held."""
        self._parted = True
        held, self._held = self._held, []
        if held and self._first:
            self._take([row for row, _ in held], torch.stack([value for _, value in held]))

    def ready(self, *, flush: bool = False) -> Sequence[tuple[Row, float]]:
        """Means that have arrived; never waits."""
        return [*self._taken(), *super().ready(flush=flush)]

    def drain(self) -> Sequence[tuple[Row, float]]:
        """Means that were made; waits for the device, and never for another rank."""
        return [*self._taken(), *super().drain()]

    def _take(self, rows: Sequence[Row], values: Tensor) -> None:
        for row, value in zip(rows, values, strict=True):
            if (known := super().read(value, row)) is not None:
                self._means.append((row, known))

    def _taken(self) -> list[tuple[Row, float]]:
        means, self._means = self._means, []
        return means


def _device(value: Tensor) -> torch.device:
    """Where the group's backend can reduce it: NCCL knows no host memory."""
    if value.is_cpu and dist.get_backend() == "nccl":
        return torch.device("cuda", torch.cuda.current_device())
    return value.device
