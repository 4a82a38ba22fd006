"""`PilotLR`: LRPilot as a torch learning rate scheduler, for code that asks for one."""

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler

from lrpilot.pilot import Pilot
from lrpilot.torch.checks import schedulers_of
from lrpilot.torch.late import LateAttach
from lrpilot.torch.options import Options
from lrpilot.torch.state import Stateful


class PilotLR(LRScheduler):
    """A scheduler whose LR is what LRPilot makes of the native one.

    Give it losses with `observe`, and call `step()` after each `optimizer.step()`, as with any
    scheduler: all that LRPilot does, a rollback included, it does there. Without losses it changes
    nothing and talks to nobody; with them it is what `lrpilot.attach` is for a loop of your own.

    >>> scheduler = PilotLR(optimizer, model=model, total_steps=N)  # doctest: +SKIP
    ... for batch in loader:
    ...     loss = model(batch)
    ...     loss.backward()
    ...     scheduler.observe(loss)
    ...     optimizer.step()
    ...     optimizer.zero_grad()
    ...     scheduler.step()

    The native LR is the optimizer's own. A schedule of yours goes beside it in a
    `ChainedScheduler`, and is named here too, so that it keeps to its own curve to the last bit
    while another LR is in force:

    >>> ChainedScheduler([cosine, PilotLR(optimizer, scheduler=cosine)])  # doctest: +SKIP

    In a `SequentialLR` it begins from the base LR when its turn comes, as torch's own do, and
    does nothing outside its turn. A copy (pickle, deepcopy) follows the plan that it was copied
    with, and has no daemon. A run ends with `close()`, with the scheduler, or with the process.
    With several ranks each of them gives its losses.

    Args:
        optimizer: what trains.
        model: restored together with the optimizer's state; None: no rollbacks, cuts only.
        total_steps: optimizer steps that the run will make, if known.
        scheduler: your own scheduler of `optimizer`, or several; somebody goes on calling their
            `step()`.
        stateful: further objects that a rollback must put back.
        last_epoch: of the last step made; above -1 the param groups must have `initial_lr`.
        keywords: the others of `lrpilot.attach`, such as `project`, `run`, `search` or `mode`.

    Raises:
        KeyError: `last_epoch` is given, and a param group has no `initial_lr`.
        TypeError: an argument is of the wrong kind, or unknown.
        ValueError: an argument's value cannot be, with what is allowed.
    """

    # What belongs to this process has slots: __dict__ is a torch scheduler's, plain data.
    __slots__ = ("_late",)
    _late: LateAttach

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        *,
        model: torch.nn.Module | None = None,
        total_steps: int | None = None,
        scheduler: Any = None,
        stateful: Sequence[Stateful] = (),
        last_epoch: int = -1,
        **keywords: Any,
    ) -> None:
        options = Options(total_steps=total_steps, **keywords)
        schedulers = schedulers_of(scheduler)
        self._late = LateAttach(self, optimizer, options, model, schedulers, stateful)
        super().__init__(optimizer, last_epoch)

    def observe(self, loss: Any) -> None:
        """Take in a loss; a step's is the mean of those since the last `step()`.

        Best before `optimizer.step()`: then the state that the run starts with is kept, without
        which there is no search. Several of them, as in gradient accumulation, each at its full
        size: not divided by their number.
        The first one looks for the daemon, for `connect_timeout` at most.

        Args:
            loss: a float or a tensor of one element; a device tensor is not waited for.

        Raises:
            BadLoss: the loss is neither; a TypeError.
        """
        self._late.observe(loss)

    @property
    def pilot(self) -> Pilot:
        """For everything else: `validate`, `batches`, `should_stop`, `decisions` and so on."""
        return self._late.board()

    def close(self) -> None:
        """End the run: deliver what is left, which may take two seconds. Safe to call again."""
        self._late.close()

    # -- what torch asks a scheduler for

    def get_lr(self) -> list[float | Tensor]:
        """The LRs of the next step; within `step()`, which first tells of the one just made."""
        if self._get_lr_called_within_step:
            self._late.tell()
            return [group["lr"] for group in self.optimizer.param_groups]  # as they are written
        warnings.warn(
            "To get the last learning rate computed by the scheduler, please use `get_last_lr()`.",
            UserWarning,
            stacklevel=2,
        )
        return [_copy(group["lr"]) for group in self.optimizer.param_groups]

    def _get_closed_form_lr(self) -> list[float | Tensor]:
        """The same where torch sets the time: `step(epoch)`, or the turn in a `SequentialLR`."""
        self._late.tell()
        later = self.optimizer.param_groups[len(self.base_lrs) :]
        native = [*self.base_lrs, *(group["lr"] for group in later)]
        if (pilot := self._late.pilot) is None:
            return [
                _in_place(*one) for one in zip(self.optimizer.param_groups, native, strict=True)
            ]
        # Groups that were added since the run began are not the pilot's.
        pilot.set_native([float(lr) for lr, _ in zip(native, pilot.lrs, strict=False)])
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """Plain data: the scheduler's own, and under `pilot` the run's, None before any loss."""
        run = self._late.state()  # first: it makes weights and LRs the run's own
        return super().state_dict() | {"pilot": run}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a state; a run that has begun here ends.

        Raises:
            ValueError: it is of a newer LRPilot, or does not fit this optimizer.
        """
        self._late.load(state_dict.get("pilot"))
        super().load_state_dict({k: v for k, v in state_dict.items() if k != "pilot"})

    # -- copies

    def __getstate__(self) -> dict[str, Any]:
        late = self._late
        run = late.state()  # first: it makes weights and LRs the run's own
        return {
            "scheduler": self.__dict__.copy(),
            "options": late.options_of_copy(),
            "schedulers": late.schedulers,
            "run": run,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state["scheduler"])
        self._late = LateAttach(
            self, self.optimizer, state["options"], schedulers=state["schedulers"]
        )
        self._late.load(state["run"])


def _in_place(group: dict[str, Any], lr: float | Tensor) -> float | Tensor:
    """What a group's LR is to become; a tensor holds it already, as old versions of torch would
    put another one in its place."""
    return group["lr"].fill_(float(lr)) if isinstance(group["lr"], Tensor) else lr


def _copy(lr: float | Tensor) -> float | Tensor:
    return lr.clone() if isinstance(lr, Tensor) else lr
