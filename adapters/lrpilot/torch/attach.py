"""`lrpilot.attach`: LRPilot in a raw PyTorch loop."""

import logging
import math
import os
import warnings
from collections.abc import Sequence
from typing import Any

import torch

from lrpilot.client.agent import Agent
from lrpilot.client.base import Transport
from lrpilot.pilot import Pilot
from lrpilot.plan import Bounds
from lrpilot.run import RunInfo, default_name, new_attempt
from lrpilot.torch.losses import TorchLosses
from lrpilot.torch.ranks import rank_and_world
from lrpilot.torch.state import Stateful
from lrpilot.torch.trainer import TorchTrainer

log = logging.getLogger("lrpilot")

# The guard only ever cuts, so its upper bound is the LR that the user chose.
LOWEST_FACTOR = 1e-4


def attach(
    optimizer: torch.optim.Optimizer,
    *,
    model: torch.nn.Module | None,
    total_steps: int | None = None,
    steps_per_epoch: int | None = None,
    project: str = "default",
    run: str | None = None,
    scheduler: Any = None,
    stateful: Sequence[Stateful] = (),
    mode: str = "auto",
    search: bool | str = "auto",
    min_lr: float | None = None,
    max_lr: float | None = None,
    address: str = "auto",
    token: str | None = None,
    connect_timeout: float = 10.0,
) -> Pilot:
    """Put a training loop under LRPilot's guard.

    Use it as a context manager, and call `pilot.step(loss)` once per optimizer step, after
    `optimizer.step()`. `LRPILOT=off` in the environment makes it inert. With several ranks it
    only observes. Nothing that goes wrong with the daemon is ever raised into the loop.

    Args:
        optimizer: what trains; its LRs are the native ones unless `scheduler` is given.
        model: restored together with the optimizer's state; None: no rollbacks, cuts only.
        total_steps: optimizer steps that the run will make, if known.
        steps_per_epoch: optimizer steps per epoch, if there are epochs.
        project: groups runs.
        run: names the run; `<script>-<date>-<4 letters>` unless given.
        scheduler: your own scheduler of `optimizer`; go on calling `scheduler.step()`.
        stateful: further objects that a rollback must put back, such as an EMA of the weights.
        mode: `auto`, `observe` (says what it would do) or `off`.
        search: `auto` or False: guard only. True is for a later version.
        min_lr: lowest LR of the first param group; 1e-4 of its base LR unless given.
        max_lr: highest LR of the first param group; its base LR unless given.
        address: `auto` (one daemon per user, started when needed), `unix:PATH` or `HOST:PORT`.
        token: for a later version; None.
        connect_timeout: seconds to wait here, before step 0, for a daemon that is starting.

    Raises:
        TypeError: an argument is of the wrong kind.
        ValueError: an argument's value cannot be, with what is allowed.
    """
    if search is True or search not in ("auto", False):
        raise ValueError(
            f"search={search!r}: this version guards and cannot search an LR yet; use "
            "search='auto' or search=False"
        )
    if token is not None:
        raise ValueError("token: this version speaks only to a daemon on this host; leave it None")
    if not (isinstance(connect_timeout, (int, float)) and connect_timeout >= 0):
        raise ValueError(f"connect_timeout={connect_timeout!r}: seconds >= 0")
    rank, world = rank_and_world()
    off = mode == "off" or os.environ.get("LRPILOT", "").lower() == "off" or rank > 0
    info = RunInfo(
        project=project,
        name=run or default_name(),
        attempt=new_attempt(),
        mode="observe" if world > 1 and mode == "auto" else mode,
        total_steps=total_steps,
        steps_per_epoch=steps_per_epoch,
        world_size=world,
        job=fingerprint(optimizer, model),
    )
    # An inert pilot leaves the scheduler alone, too.
    trainer = TorchTrainer(
        optimizer, model, scheduler=None if off else scheduler, stateful=stateful
    )
    bounds = bounds_of(trainer.base_lrs[0], min_lr, max_lr)
    if off:
        return Pilot(trainer, None, info, TorchLosses(), bounds)
    if world > 1:
        warn_of_ranks(world)
    if scheduler is None and hasattr(optimizer.step, "_wrapped_by_lr_sched"):
        warnings.warn(
            "a scheduler drives this optimizer: pass it as lrpilot.attach(..., scheduler=...), so "
            "that its curve survives a cut",
            stacklevel=2,
        )
    transport = connect(address, connect_timeout)
    pilot = Pilot(trainer, transport, info, TorchLosses(), bounds)
    _start_at_first_step(optimizer, pilot)
    return pilot


def connect(address: str, timeout_s: float) -> Transport:
    """The line to the daemon; waits for one that is starting, before any step is made.

    Raises:
        ValueError: the address is malformed or leaves this host.
    """
    agent = Agent(address)
    agent.start()
    if not agent.wait_ready(timeout_s):
        log.info("LRPilot: no daemon yet; training goes on, and it is looked for meanwhile")
    return agent


def bounds_of(base_lr: float, min_lr: float | None, max_lr: float | None) -> Bounds:
    """The bounds of the first group's LR.

    Raises:
        ValueError: they are no LRs, or the wrong way round.
    """
    low = base_lr * LOWEST_FACTOR if min_lr is None else min_lr
    high = max(base_lr, low) if max_lr is None else max_lr
    if not (0 <= low <= high and math.isfinite(high)):
        raise ValueError(f"min_lr={low!r}, max_lr={high!r}: 0 <= min_lr <= max_lr is needed")
    return Bounds(float(low), float(high))


def warn_of_ranks(world: int) -> None:
    """Say once that several ranks are only observed."""
    log.warning(
        "LRPilot: %d ranks: this version only observes distributed training, and writes nothing",
        world,
    )


def fingerprint(optimizer: torch.optim.Optimizer, model: torch.nn.Module | None) -> str:
    """What kind of job this is: names and counts, never data or weights."""
    count = sum(p.numel() for group in optimizer.param_groups for p in group["params"])
    return f"{type(model).__name__}/{type(optimizer).__name__}/{count}"


def _start_at_first_step(optimizer: torch.optim.Optimizer, pilot: Pilot) -> None:
    """Take the start snapshot just before the first update: whatever the user loads into the
    model or the optimizer after attach is in it."""

    def before_first_step(*_: Any) -> None:
        handle.remove()
        pilot.start()

    handle = optimizer.register_step_pre_hook(before_first_step)
