"""The processes that train together, and their notes to each other in the group's store."""

import contextlib
import itertools
import os
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist

from lrpilot.lockstep import AWAY, HERE
from lrpilot.losses import Row
from lrpilot.torch.losses import TorchLosses

# Notes of one rank that are kept in the store: all that could still be read, and far more.
KEPT = 1000
# How often a note that is not there is looked for: soon at first, then less and less often.
SOONEST_S, SELDOM_S = 0.0002, 0.02

# Pilots so far; each rank makes them in the same order.
_pilots = itertools.count()


def rank_and_world() -> tuple[int, int]:
    """(rank, world size); (0, 1) where training is not distributed."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    try:
        # A launcher sets them before the process group exists.
        return int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    except ValueError:
        return 0, 1


def ranks_of_group() -> "StoreRanks | None":
    """The ranks of the default process group; None where there is no group, or no store of it."""
    if not (dist.is_available() and dist.is_initialized()):
        return None
    try:
        store = dist.distributed_c10d._get_default_store()
    except (AttributeError, RuntimeError, ValueError):
        return None
    if store is None:  # as with MPI
        return None
    own = dist.distributed_c10d.PrefixStore(f"lrpilot/{next(_pilots)}", store)
    return StoreRanks(own, dist.get_rank(), dist.get_world_size())


def why_apart(ranks: "StoreRanks | None", model: Any) -> str:
    """Why several ranks cannot act together; empty where they can."""
    if ranks is None:
        return "there is no process group with a store yet (attach after init_process_group)"
    modules = model.modules() if isinstance(model, torch.nn.Module) else ()
    if any(type(module).__name__ == "FullyShardedDataParallel" for module in modules):
        return "no snapshot covers FullyShardedDataParallel (use fully_shard, FSDP2)"
    return ""


def decline(ranks: "StoreRanks") -> None:
    """Tell the other ranks that this one takes no part, so that none waits for it."""
    with contextlib.suppress(Exception):
        ranks.put(f"{HERE}/{ranks.rank}", AWAY)


class StoreRanks:
    """Implements `Ranks` on a store of torch.distributed: no collective, no device.

    Args:
        store: of which nobody else uses these keys.
        rank: of this process.
        world: how many there are.
    """

    def __init__(self, store: Any, rank: int, world: int) -> None:
        self._store = store
        self._mine: deque[str] = deque()
        self.rank = rank
        self.world = world
        self.timeout_s = store.timeout.total_seconds()

    def put(self, key: str, value: str) -> str:
        """Leave a note, unless one lies there already; returns the one that stands."""
        stands: bytes = self._store.compare_set(key, "", value)
        self._mine.append(key)
        if len(self._mine) > KEPT:
            self._store.delete_key(self._mine.popleft())
        return stands.decode()

    def get(self, keys: Sequence[str], timeout_s: float) -> list[str] | None:
        """The notes at these places, once all are there; None at the timeout.

        It looks again and again: a blocking call of the store could not be interrupted, and would
        keep the process group's own threads from it.
        """
        began = time.monotonic()
        while not self._store.check(list(keys)):
            waited = time.monotonic() - began
            if waited >= timeout_s:
                return None
            time.sleep(min(max(waited / 8, SOONEST_S), SELDOM_S))
        return [self._store.get(key).decode() for key in keys]


class Unread(TorchLosses):
    """Losses of a rank that is not the first: rank 0's is the run's."""

    def read(self, loss: Any, row: Row) -> float | None:
        """None, and it never comes."""
        return None
