"""`lrpilot.attach`: LRPilot in a raw PyTorch loop."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch

from lrpilot.accelerate import AcceleratedPilot
from lrpilot.pilot import Pilot
from lrpilot.torch.checks import optimizers_of, schedulers_of
from lrpilot.torch.hooks import untraced
from lrpilot.torch.metrics import follows_a_metric, hold
from lrpilot.torch.options import Options
from lrpilot.torch.prepared import is_prepared, plain_scheduler
from lrpilot.torch.standin import StandIn, driven_by
from lrpilot.torch.state import Stateful
from lrpilot.torch.streams import capturing

# What torch's schedulers leave on the step of an optimizer; the second until torch 2.3.
MARKS = ("_wrapped_by_lr_sched", "_with_counter")


def attach(
    optimizer: torch.optim.Optimizer | Sequence[torch.optim.Optimizer],
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
    signals: Mapping[str, str] | None = None,
    min_lr: float | None = None,
    max_lr: float | None = None,
    address: str = "auto",
    token: str | None = None,
    connect_timeout: float = 10.0,
    snapshots: str = "auto",
    max_snapshot_gib: float | None = None,
    loss_of: str = "rank0",
    logger: Any = None,
) -> Pilot:
    """Put a training loop under LRPilot's guard.

    Use it as a context manager, and call `pilot.step(loss)` once per optimizer step, after
    `optimizer.step()`. `LRPILOT=off` in the environment makes it inert. With several ranks
    all of them attach, after `init_process_group`; rank 0 alone talks to the daemon, its loss is
    the run's, and what it hears is done at the same step everywhere. Nothing that goes wrong with
    the daemon is ever raised into the loop.

    Args:
        optimizer: what trains; its LRs are the native ones unless `scheduler` is given. Several,
            as of a GAN, are controlled as one: call `pilot.step` once per iteration; one factor
            holds for all their LRs, which keep their ratios, and a rollback restores all of them.
            Their param groups are told apart as `0/group 0`, or `0/NAME` where one has a `name`.
            A param group that is added later keeps its own LR. An LR that is a tensor on a device
            is never read back in a step, so that another writer of it goes unnoticed.
            What `accelerator.prepare` returned is as good, and makes an `AcceleratedPilot`.
        model: restored together with the optimizers' state; None: no rollbacks, cuts only. Put
            several into one `torch.nn.ModuleList`.
        total_steps: optimizer steps that the run will make, if known.
        steps_per_epoch: optimizer steps per epoch, if there are epochs.
        project: groups runs.
        run: names the run; `<script>-<date>-<4 letters>` unless given.
        scheduler: your own scheduler of `optimizer`, or several; go on calling
            `scheduler.step()`.
        stateful: further objects that a rollback must put back, such as an EMA of the weights.
        mode: `auto`, `advise` (a person approves each decision: `lrpilot approve`), `observe`
            (says what it would do) or `off`. The daemon's file may lower it; the log tells.
        search: True finds the LR before it trains, from any base LR; give the batches through
            `pilot.batches`, so that candidates are compared on the same ones. `auto` or False:
            guard only. With several optimizers one factor is searched by the loss that you report:
            where they pull against each other, as in a GAN, no loss says which LR is better.
        signals: what follows from each signal, such as `{"plateau": "cut"}`; the daemon's
            configuration unless given. `off` does not report it and `say` does nothing about it;
            `lrpilot_proto.reactions` lists what else there is.
        min_lr: lowest LR of the first param group; 1e-4 of its base LR unless given, 1e-6 with a
            search.
        max_lr: highest LR of the first param group; its base LR unless given, 1e6 times that with
            a search.
        address: `auto` (`$LRPILOT_ADDRESS`, or one daemon per user, started when needed),
            `unix:PATH`, or `HOST:PORT`, which is always TLS and needs a token.
        token: for a daemon at `HOST:PORT`; `$LRPILOT_TOKEN`, or the file `$LRPILOT_TOKEN_FILE`,
            unless given. `$LRPILOT_CA` names the certificates to trust; `$LRPILOT_CERT` and
            `$LRPILOT_KEY` are for a daemon that asks for one.
        connect_timeout: seconds to wait before step 0, in all, for a daemon that is starting and
            for a search to begin.
        snapshots: where the copies of model and optimizer state lie that rollbacks go back to:
            `device`, beside them; `host`, in pinned memory, copied while training goes on (call
            `pilot.settle()` before anything but the optimizer writes to the weights); `auto`, on
            the device where four copies fit into 5 % of its memory, else on the host; `off`, which
            leaves cuts without rollbacks. Their size is logged before they are taken.
        max_snapshot_gib: GiB that all copies may take, two and in a search up to four; half of
            what is free there unless given. Where two do not fit there are none, which is told.
        loss_of: of several ranks: `rank0`, whose own loss is taken for the run's, or `mean`, the
            exact mean of all: one collective in 16 steps, and one in 4 during a search.
        logger: also log what is done here, on rank 0: `lrpilot/lr` every 50 steps, and each
            decision with the signal that led to it. A TensorBoard `SummaryWriter`, a run of W&B (or
            `wandb`), `mlflow`, a logger of Lightning, or a function `log(metrics, step)`; it is
            called in the training thread, and ignored once it raised.

    Raises:
        TypeError: an argument is of the wrong kind.
        ValueError: an argument's value cannot be, with what is allowed.
    """
    options = Options(
        total_steps=total_steps,
        steps_per_epoch=steps_per_epoch,
        project=project,
        run=run,
        mode=mode,
        search=search,
        signals=signals,
        min_lr=min_lr,
        max_lr=max_lr,
        address=address,
        token=token,
        connect_timeout=connect_timeout,
        snapshots=snapshots,
        max_snapshot_gib=max_snapshot_gib,
        loss_of=loss_of,
        logger=logger,
    )
    schedulers = schedulers_of(scheduler)
    make: Callable[..., Pilot] = Pilot
    first = optimizer[0] if isinstance(optimizer, (list, tuple)) and optimizer else optimizer
    if is_prepared(first):
        make = partial(AcceleratedPilot, prepared=first, model=model)
    pilot = options.build(optimizer, model, schedulers=schedulers, stateful=stateful, make=make)
    optimizers = optimizers_of(optimizer)
    given = [driven_by(one) for one in schedulers]
    for one in optimizers:
        driven = any(hasattr(one.step, mark) for mark in MARKS)
        if driven and not any(one is other for other in given):
            warnings.warn(
                f"a scheduler drives this {type(one).__name__}: pass it as "
                "lrpilot.attach(..., scheduler=...), so that its curve survives a cut",
                stacklevel=2,
            )
    releases = [_start_at_first_step(optimizers, pilot)]
    for one in map(plain_scheduler, schedulers):
        if isinstance(one.optimizer, StandIn) and follows_a_metric(one):  # else it is not ours
            releases.append(hold(one, lambda: pilot.searching))

    def release_all() -> None:
        for release in releases:
            release()

    pilot.on_close(release_all)
    return pilot


def _start_at_first_step(
    optimizers: Sequence[torch.optim.Optimizer], pilot: Pilot
) -> Callable[[], None]:
    """Take the start snapshot just before the first update: whatever the user loads into the
    model or the optimizers after attach is in it. Returns how to remove the hooks."""

    def start(_: torch.optim.Optimizer) -> None:
        if not capturing():  # what is captured now is not done now
            pilot.start()

    hook = untraced(start)
    handles = [one.register_step_pre_hook(hook) for one in optimizers]

    def remove() -> None:
        for handle in handles:
            handle.remove()

    return remove
