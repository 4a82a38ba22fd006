"""How much memory snapshots may take, and where: decided and told before any of it is taken."""

import logging
import os
from collections.abc import Callable, Iterable
from operator import attrgetter
from pathlib import Path

import torch
from torch import Tensor

from lrpilot.trainer import NoRoom

log = logging.getLogger("lrpilot")

GIB = 1 << 30
PLACES = ("auto", "device", "host", "off")
# `auto` keeps snapshots on the device where four copies fit into this share of its memory:
# what training will need there is not known when the first is taken.
DEVICE_SHARE = 0.05
# Without a limit of the user's, snapshots may take this share of what is free.
FREE_SHARE = 0.5
COPIES, SEARCH_COPIES = 2, 4


class SnapshotMemory:
    """The memory of all snapshots of one trainer.

    Args:
        place: `device`, beside the tensors; `host`, in pinned memory; `auto`, on the device where
            they are small beside it, else on the host. Tensors of the CPU stay there.
        limit_gib: GiB for all copies; half of what is free there unless given.
        free: bytes that are free on a device and that it has in all, as far as is known.
        on_host: whether a tensor is on the host already.
    """

    def __init__(
        self,
        place: str = "auto",
        limit_gib: float | None = None,
        free: Callable[[torch.device], tuple[float, float]] | None = None,
        on_host: Callable[[Tensor], bool] = attrgetter("is_cpu"),
    ) -> None:
        self._place = place
        self._given = limit_gib
        self._free = free or free_bytes
        self._on_host = on_host
        self._limit = float("inf")
        self._held: dict[int, int] = {}
        self._told = 0

    def may_move(self, tensor: Tensor) -> bool:
        """Whether a tensor's copy might lie elsewhere than beside it."""
        return self._place in ("auto", "host") and not self._on_host(tensor)

    def moves(self, tensor: Tensor) -> bool:
        """Whether a tensor's copy lies on the host and not beside it; asked after `reserve`."""
        return self._place == "host" and not self._on_host(tensor)

    def reserve(self, slot: int, now: int, later: int, devices: Iterable[torch.device]) -> None:
        """Ask for the memory of one copy.

        Args:
            slot: which one; what it held is free for it.
            now: bytes that it takes.
            later: bytes that it will take once the optimizer has all its state.
            devices: where the tensors are.

        Raises:
            NoRoom: it, or both copies that rollbacks need, would take more than is allowed.
        """
        away = next((device for device in devices if device.type != "cpu"), None)
        if not self._told:
            self._decide(max(now, later), away)
        size = max(now, later)
        others = sum(held for number, held in self._held.items() if number != slot)
        wanted = max(COPIES * size, others + now)
        if wanted > self._limit:
            raise NoRoom(self._too_much(size, wanted, away))
        if size > 1.01 * self._told:
            self._tell(size, away)
        self._held[slot] = now

    def free(self, slot: int) -> None:
        """The slot holds nothing any more."""
        self._held.pop(slot, None)

    def _decide(self, size: int, away: torch.device | None) -> None:
        if self._place == "auto":
            self._place = "device"
            if away is not None and away.type == "cuda":
                free, total = self._free(away)
                small = SEARCH_COPIES * size <= min(DEVICE_SHARE * total, FREE_SHARE * free)
                self._place = "device" if small else "host"
        if self._given is not None:
            self._limit = self._given * GIB
        else:
            self._limit = FREE_SHARE * self._free(self._where(away))[0]

    def _where(self, away: torch.device | None) -> torch.device:
        return torch.device("cpu") if away is None or self._place == "host" else away

    def _words(self, away: torch.device | None) -> str:
        where = self._where(away)
        if where.type != "cpu":
            return f"on {where}"
        return "in host memory" if away is None else "in pinned host memory"

    def _tell(self, size: int, away: torch.device | None) -> None:
        self._told = size
        limit = "no limit is known" if self._limit == float("inf") else f"limit {gib(self._limit)}"
        log.info(
            "LRPilot: snapshots: two copies of %s each %s (%s); a search may take two more",
            gib(size),
            self._words(away),
            limit,
        )

    def _too_much(self, size: int, wanted: float, away: torch.device | None) -> str:
        if self._given is None:
            limit = f"{gib(self._limit)}, half of what is free there"
        else:
            limit = f"max_snapshot_gib={self._given:g}"
        other = ""
        if away is not None:
            other = ", or snapshots='device'" if self._place == "host" else ", or snapshots='host'"
        need = wanted / GIB
        return (
            f"snapshots of {gib(size)} each {self._words(away)} would take {gib(wanted)} in all, "
            f"over the limit of {limit}; what helps: max_snapshot_gib={need:.2f} or more{other}"
        )


def gib(size: float) -> str:
    """Bytes for a person."""
    return f"{size / GIB:.2f} GiB" if size >= GIB / 10 else f"{size / (1 << 20):.3g} MiB"


def size_of(tensors: Iterable[Tensor]) -> int:
    """Bytes of some tensors."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def size_to_come(optimizers: Iterable[torch.optim.Optimizer]) -> int:
    """Bytes of state that the optimizers have not made yet: most keep two numbers per weight."""
    found = 0
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            bare = [p for p in group["params"] if p.requires_grad and not optimizer.state.get(p)]
            found += _copies(type(optimizer).__name__, group) * size_of(bare)
    return found


def _copies(name: str, group: dict[str, object]) -> int:
    if name in ("SGD", "Lion", "RMSprop"):
        return (name == "RMSprop") + bool(group.get("momentum")) + bool(group.get("centered"))
    return 2 + bool(group.get("amsgrad"))


def free_bytes(device: torch.device) -> tuple[float, float]:
    """Memory that is free on a device, and all it has; infinite where nobody says."""
    if device.type == "cuda":
        free, all_of_it = torch.cuda.mem_get_info(device)
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return float(free + cached), float(all_of_it)
    if device.type != "cpu":
        return float("inf"), float("inf")
    try:
        total = float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (ValueError, OSError, AttributeError):  # not there on Windows
        return float("inf"), float("inf")
    return min(_available(total), _left_to_the_group()), total


def _available(total: float) -> float:
    """What the kernel would give without swapping; half of all where it does not say."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return 1024.0 * int(line.split()[1])
    except OSError:
        pass
    return total / 2


def _left_to_the_group(root: Path = Path("/sys/fs/cgroup"), own: str | None = None) -> float:
    """What a container or a batch system leaves to this process."""
    try:
        place = own or Path("/proc/self/cgroup").read_text().strip().rpartition("::")[2]
        folders = [root / place.strip("/"), *(root / place.strip("/")).parents]
    except OSError:
        return float("inf")
    left = float("inf")
    for folder in folders:
        try:
            limit = (folder / "memory.max").read_text().strip()
            used = int((folder / "memory.current").read_text())
            stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        except (OSError, ValueError):
            continue
        if limit != "max":  # files that were read can be let go of
            left = min(left, int(limit) - used + int(stat.get("inactive_file", 0)))
    return max(0.0, left)
