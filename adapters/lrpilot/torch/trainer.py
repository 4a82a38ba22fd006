"""The trainer port for torch optimizers and a model."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch

from lrpilot.torch.checks import check
from lrpilot.torch.groups import groups_of, part
from lrpilot.torch.hooks import untraced
from lrpilot.torch.native import NativeLRs, Write
from lrpilot.torch.slots import Slots
from lrpilot.torch.standin import point_at
from lrpilot.torch.state import Stateful
from lrpilot.torch.streams import capturing

log = logging.getLogger("lrpilot")


class TorchTrainer:
    """Implements `TrainerPort`: the LR of each param group, in one process.

    Args:
        optimizer: any optimizer of torch.optim, or one that follows its interface; or several,
            which are controlled as one.
        model: what they train; None: no snapshots.
        schedulers: the user's own schedulers of these optimizers. Their code goes on calling
            `scheduler.step()`.
        stateful: further objects that a restore must put back.
        request_stop: how to ask the loop to end; nothing unless given.
        writes: whether LRs will be written; else the optimizers are left exactly as they are.
        snapshots: makes the slots of snapshots; None: no snapshots.
        base_lrs: what each group's native curve is relative to; its `initial_lr` or its LR unless
            given.

    Raises:
        TypeError: an argument is of the wrong kind.
        ValueError: an optimizer is empty or cannot be controlled, with what to use instead; or a
            scheduler drives none of them.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer | Sequence[torch.optim.Optimizer],
        model: torch.nn.Module | None,
        *,
        schedulers: Sequence[Any] = (),
        stateful: Sequence[Stateful] = (),
        request_stop: Callable[[], None] = lambda: None,
        writes: bool = True,
        snapshots: Callable[..., Slots] | None = Slots,
        base_lrs: Sequence[float] | None = None,
    ) -> None:
        self._optimizers = optimizers = check(optimizer, model, stateful)
        self._groups = groups_of(optimizers)
        for group, base_lr in zip(self._groups, base_lrs or (), strict=False):
            group.base_lr = base_lr
        if writes:
            part(self._groups)
        self._native = NativeLRs(self._groups)
        self._request_stop = request_stop
        self._undo: list[Callable[[], None]] = []
        self._told = 0  # groups that the user was told of, because they are left alone
        self.used_lrs: list[float] | None = None
        for one in optimizers if writes else ():
            hook = one.register_load_state_dict_post_hook(self._native.loaded)
            self._undo.append(hook.remove)
        for scheduler in schedulers:
            self._take(scheduler)
        self._slots: Slots | None = None
        if model is not None and snapshots is not None:
            self._slots = snapshots(model, optimizers, stateful)
        self.optimizer_name = "+".join(dict.fromkeys(type(one).__name__ for one in optimizers))

    def _take(self, scheduler: Any) -> None:
        self._undo.append(point_at(scheduler, self._native))
        if self.used_lrs is None:  # it may step before the pilot: note what a step itself ran at
            self.used_lrs = self.get_lrs()
            for one in self._optimizers:
                hook = one.register_step_post_hook(untraced(self._stepped))
                self._undo.append(hook.remove)

    def add_scheduler(self, scheduler: Any) -> None:
        """Take on a scheduler that was made since; an LR that it began with is native.

        Raises:
            ValueError: it drives none of the optimizers.
        """
        self._take(scheduler)
        self._native.begun()

    @property
    def group_names(self) -> list[str]:
        """A name per param group."""
        return [group.name for group in self._groups]

    @property
    def base_lrs(self) -> list[float]:
        """The LR that each group's native curve is relative to."""
        return [group.base_lr for group in self._groups]

    def get_lrs(self) -> list[float]:
        """The LRs that the optimizers have now."""
        return [group.lr for group in self._groups]

    def _stepped(self, optimizer: torch.optim.Optimizer) -> None:
        if capturing():  # its replays do not come by here: what is read at the boundary must do
            self.used_lrs = None
            return
        used = zip(self._groups, self.used_lrs or self.get_lrs(), strict=True)
        self.used_lrs = [g.lr if g.optimizer is optimizer else lr for g, lr in used]

    def set_lrs(self, lrs: Sequence[float]) -> None:
        """Write the LRs; groups that were added since attach keep theirs."""
        for group, lr in zip(self._groups, lrs, strict=True):
            group.lr = lr
        others = sum(len(one.param_groups) for one in self._optimizers) - len(self._groups)
        if others > self._told:
            self._told = others
            log.warning(
                "LRPilot: %d param group(s) were added since the run began: no decision moves "
                "their LR, which stays the scheduler's or your own",
                others,
            )
        if self.used_lrs is not None:  # by a step that is skipped, as by a GradScaler
            self.used_lrs = self.get_lrs()

    def get_native_lrs(self) -> list[float]:
        """The native LRs."""
        return self._native.values

    def set_native_lrs(self, lrs: Sequence[float]) -> None:
        """Correct the native LRs."""
        self._native.values = list(lrs)

    def restrict(self, names: Sequence[str]) -> None:
        """Control only the groups of these names from here on."""
        self._groups = [group for group in self._groups if group.name in names]
        self._native.control(self._groups)
        self.used_lrs = None if self.used_lrs is None else self.get_lrs()

    def on_native_change(self, write: Write) -> None:
        """Have `write` say which LR to apply whenever a scheduler moves a native one."""
        self._native.write = write

    @property
    def can_snapshot(self) -> bool:
        """Whether there is a model to copy, and room for the copies."""
        return self._slots is not None and self._slots.usable

    def snapshot(self, slot: int) -> float | None:
        """Copy the training state into a slot."""
        return self._held().save(slot)

    def restore(self, slot: int, *, rng: bool) -> None:
        """Put a slot's state back in place."""
        self._held().restore(slot, rng=rng)

    def settle(self) -> None:
        """Let a copy that is under way come before whatever else is done to the weights."""
        if self._slots is not None:
            self._slots.settle()

    def discard(self, slot: int) -> None:
        """Free a slot's memory."""
        if self._slots is not None:
            self._slots.discard(slot)

    def _held(self) -> Slots:
        if self._slots is None:
            raise RuntimeError("there are no snapshots: no model was given, or snapshots='off'")
        return self._slots

    def request_stop(self) -> None:
        """Ask the loop to end."""
        self._request_stop()

    def detach(self) -> None:
        """Give the schedulers their optimizers back, with the LRs as they are."""
        for undo in self._undo:
            undo()
        self._undo = []
        if self._slots is not None:
            self._slots.close()
            self._slots = None
