"""What a user may say about a run, checked once, and the pilot that follows from it."""

import logging
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from lrpilot.client.agent import Agent
from lrpilot.client.alone import Alone
from lrpilot.client.base import Transport
from lrpilot.diary import target_of
from lrpilot.pilot import Pilot
from lrpilot.plan import Bounds
from lrpilot.run import RunInfo, default_name, new_attempt
from lrpilot.torch.checks import optimizers_of
from lrpilot.torch.losses import TorchLosses
from lrpilot.torch.mean import MeanLosses
from lrpilot.torch.memory import PLACES, SnapshotMemory
from lrpilot.torch.ranks import (
    StoreRanks,
    Unread,
    decline,
    rank_and_world,
    ranks_of_group,
    why_apart,
)
from lrpilot.torch.single import end_earlier, own
from lrpilot.torch.slots import Slots
from lrpilot.torch.state import Stateful
from lrpilot.torch.trainer import TorchTrainer
from lrpilot_proto import access

log = logging.getLogger("lrpilot")

# The guard only ever cuts, so its upper bound is the LR that the user chose.
LOWEST_FACTOR = 1e-4
# A search starts from any LR: the right one may be as far away as this, either way.
SEARCH_FACTOR = 1e6


@dataclass(frozen=True, kw_only=True)
class Options:
    """The keywords of `lrpilot.attach`, where they are explained.

    Raises:
        TypeError: the logger is none.
        ValueError: a value cannot be, with what is allowed.
    """

    total_steps: int | None = None
    steps_per_epoch: int | None = None
    project: str = "default"
    run: str | None = None
    mode: str = "auto"
    search: bool | str = "auto"
    signals: Mapping[str, str] | None = None
    min_lr: float | None = None
    max_lr: float | None = None
    address: str = "auto"
    token: str | None = field(default=None, repr=False)
    connect_timeout: float = 10.0
    snapshots: str = "auto"
    max_snapshot_gib: float | None = None
    loss_of: str = "rank0"
    logger: Any = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.search not in ("auto", True, False):
            raise ValueError(f"search={self.search!r}: True, False or 'auto', which guards only")
        if self.loss_of not in ("rank0", "mean"):
            raise ValueError(f"loss_of={self.loss_of!r}: 'rank0', or 'mean' of all ranks")
        if not isinstance(self.signals or {}, Mapping):
            raise ValueError(
                f"signals={self.signals!r}: a dict such as {{'plateau': 'cut'}}, or None"
            )
        if self.token is not None:
            access.checked(self.token, "token")
        if not (isinstance(self.connect_timeout, (int, float)) and self.connect_timeout >= 0):
            raise ValueError(f"connect_timeout={self.connect_timeout!r}: seconds >= 0")
        if self.snapshots not in PLACES:
            raise ValueError(f"snapshots={self.snapshots!r}: one of {', '.join(PLACES)}")
        if self.logger is not None:
            target_of(self.logger)
        limit = self.max_snapshot_gib
        if limit is not None and not (isinstance(limit, (int, float)) and limit > 0):
            raise ValueError(
                f"max_snapshot_gib={limit!r}: GiB > 0, or None for half of what is free"
            )
        for name, lr in (("min_lr", self.min_lr), ("max_lr", self.max_lr)):
            if lr is not None and not (lr >= 0 and math.isfinite(lr)):
                raise ValueError(f"{name}={lr!r}: a finite LR >= 0, or None")
        self._info(world=1, job="")

    def build(
        self,
        optimizer: torch.optim.Optimizer | Sequence[torch.optim.Optimizer],
        model: torch.nn.Module | None,
        *,
        schedulers: Sequence[Any] = (),
        stateful: Sequence[Stateful] = (),
        request_stop: Callable[[], None] = lambda: None,
        controls: bool = True,
        base_lrs: Sequence[float] | None = None,
        make: Callable[..., Pilot] = Pilot,
    ) -> Pilot:
        """The pilot of one attempt, with its line to the daemon; of several ranks, the first's.

        Inert where the mode or `LRPILOT` says off; only observing without `controls`, and where
        several ranks cannot act together: then all but the first are inert.

        Raises:
            TypeError: an optimizer, the model or a stateful object is of the wrong kind.
            ValueError: an optimizer cannot be controlled, or bounds, address or token cannot be.
        """
        rank, world, ranks = self._place()
        controls = controls and self.mode in ("advise", "auto") and not self._off
        if controls and world > 1 and (why := why_apart(ranks, model)):
            controls = False
            if rank == 0:
                log.warning("LRPilot: %d ranks: %s; they are only observed", world, why)
        if ranks is not None and not controls:
            decline(ranks)
            ranks = None
        inert = self._off or (rank > 0 and ranks is None)
        info = self._info(
            world, fingerprint(optimizer, model), observe=not controls, scheduled=bool(schedulers)
        )
        if controls:
            end_earlier(optimizers_of(optimizer))
        trainer = TorchTrainer(
            optimizer,
            model,
            # A pilot that writes no LR has no business between a scheduler and its optimizer.
            schedulers=schedulers if controls else (),
            stateful=stateful,
            request_stop=request_stop,
            writes=controls,
            snapshots=self._slots(),
            base_lrs=base_lrs,
        )
        self._bounds(trainer.base_lrs[0])  # a wrong one is told before anybody is waited for
        began = time.monotonic()
        transport = None if inert else self._connect() if rank == 0 else Alone()
        waited = time.monotonic() - began
        losses = TorchLosses() if rank == 0 else Unread()
        if ranks is not None and self.loss_of == "mean":
            losses = MeanLosses()
        pilot = make(
            trainer,
            transport,
            info,
            losses,
            self._bounds,
            self.connect_timeout,
            waited=waited,
            ranks=ranks,
            target=None if self.logger is None or rank > 0 else target_of(self.logger),
        )
        if controls:
            own(optimizers_of(optimizer), pilot)
        return pilot

    def check(
        self,
        optimizer: torch.optim.Optimizer,
        model: torch.nn.Module | None,
        *,
        schedulers: Sequence[Any] = (),
        stateful: Sequence[Stateful] = (),
    ) -> None:
        """See that `build` will work, without looking for a daemon.

        Raises:
            TypeError, ValueError: as `build`.
        """
        trainer = TorchTrainer(optimizer, model, schedulers=schedulers, stateful=stateful)
        trainer.detach()
        self._bounds(trainer.base_lrs[0])
        if not self._off:
            self._line()

    def _place(self) -> tuple[int, int, StoreRanks | None]:
        """Rank, world size, and the other ranks where they can be reached."""
        rank, world = rank_and_world()
        return rank, world, ranks_of_group() if world > 1 else None

    @property
    def _off(self) -> bool:
        return self.mode == "off" or os.environ.get("LRPILOT", "").lower() == "off"

    def _info(
        self, world: int, job: str, *, observe: bool = False, scheduled: bool = False
    ) -> RunInfo:
        return RunInfo(
            project=self.project,
            name=default_name() if self.run is None else self.run,
            attempt=new_attempt(),
            mode="observe" if observe and self.mode in ("advise", "auto") else self.mode,
            total_steps=self.total_steps,
            steps_per_epoch=self.steps_per_epoch,
            world_size=world,
            job=job,
            scheduled=scheduled,
            search=self.search is True,
            signals=dict(self.signals or {}),
        )

    def _slots(self) -> Callable[..., Slots] | None:
        if self.snapshots == "off":
            return None
        return partial(Slots, memory=SnapshotMemory(self.snapshots, self.max_snapshot_gib))

    def _bounds(self, base_lr: float, searched: bool = False) -> Bounds:
        down, up = (1 / SEARCH_FACTOR, SEARCH_FACTOR) if searched else (LOWEST_FACTOR, 1.0)
        low = base_lr * down if self.min_lr is None else self.min_lr
        high = max(base_lr * up, low) if self.max_lr is None else self.max_lr
        if low > high:
            raise ValueError(f"min_lr={low!r}, max_lr={high!r}: min_lr <= max_lr is needed")
        return Bounds(float(low), float(high))

    def _line(self) -> Transport:
        return Agent(self.address, token=self.token)

    def _connect(self) -> Transport:
        """Wait here, before step 0, for a daemon that is starting: it costs no step."""
        agent = self._line()
        agent.start()
        if not agent.wait_ready(self.connect_timeout):
            log.info("LRPilot: no daemon yet; training goes on, and it is looked for meanwhile")
        return agent


def fingerprint(
    optimizer: torch.optim.Optimizer | Sequence[torch.optim.Optimizer],
    model: torch.nn.Module | None,
) -> str:
    """What kind of job this is: names and counts, never data or weights."""
    optimizers = optimizers_of(optimizer)
    if not all(isinstance(one, torch.optim.Optimizer) for one in optimizers):
        return ""  # refused with a reason when the trainer is made
    groups = [group for one in optimizers for group in one.param_groups]
    count = sum(p.numel() for group in groups for p in group["params"])
    names = "+".join(type(one).__name__ for one in optimizers)
    return f"{type(model).__name__}/{names}/{count}"
