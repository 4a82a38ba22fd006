"""`attach`, put off until there is a loss: what a `PilotLR` has in this process alone."""

import weakref
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from lrpilot import checkpoint
from lrpilot.client.alone import Alone
from lrpilot.client.base import Transport
from lrpilot.losses import BadLoss
from lrpilot.pilot import Pilot
from lrpilot.torch.checks import optimizers_of
from lrpilot.torch.groups import groups_of
from lrpilot.torch.hooks import untraced
from lrpilot.torch.options import Options
from lrpilot.torch.state import Stateful
from lrpilot.unclosed import how


class StepCount:
    """Optimizer steps since `take`, whoever makes them; refers to nothing, so that a hook may."""

    def __init__(self) -> None:
        self.made = 0

    def one(self, _: torch.optim.Optimizer) -> None:
        """Another one was made."""
        self.made += 1

    def take(self) -> int:
        """Their number, counted from 0 again."""
        made, self.made = self.made, 0
        return made


class MeanLoss:
    """The mean of the losses since `take`, such as those of micro-batches; waits for no device."""

    def __init__(self) -> None:
        self._sum: Any = 0.0
        self._count = 0

    def add(self, loss: Any) -> None:
        """Take one in.

        Raises:
            BadLoss: it is neither a number nor a tensor of one element; a TypeError.
        """
        if isinstance(loss, Tensor):
            if loss.numel() != 1:
                raise BadLoss(
                    f"a loss of one element is needed, not a tensor of shape {tuple(loss.shape)}: "
                    "reduce it, for example with .mean()"
                )
            loss = loss.detach().reshape(())
        elif not isinstance(loss, (int, float)):
            raise BadLoss(f"a loss must be a number or a tensor of one element, not {loss!r}")
        self._sum = self._sum + loss if self._count else loss
        self._count += 1

    def take(self) -> Any:
        """The mean, or None where there was no loss; then begin anew."""
        total, count = self._sum, self._count
        self._sum, self._count = 0.0, 0
        return total / count if count > 1 else total if count else None


class CopyOptions(Options):
    """Of a copy: it follows the plan that it was copied with, and talks to nobody."""

    def _line(self) -> Transport:
        return Alone()

    def _connect(self) -> Transport:
        return self._line()

    def _place(self) -> tuple[int, int, None]:
        return 0, 1, None  # made by one rank alone, perhaps


class LateAttach:
    """Counts optimizer steps, gathers losses, and has a pilot from the first loss on.

    Args:
        owner: with its end, or the process's, the pilot says goodbye.
        optimizer: what trains.
        options: the keywords of `attach`.
        model: as in `attach`.
        schedulers: the user's own.
        stateful: as in `attach`.

    Attributes:
        options: as given.
        schedulers: as given.
        pilot: None before there is a loss, or a plan to follow.

    Raises:
        TypeError: an argument is of the wrong kind.
        ValueError: the optimizer cannot be controlled, or bounds, address or token cannot be.
    """

    def __init__(
        self,
        owner: object,
        optimizer: torch.optim.Optimizer,
        options: Options,
        model: torch.nn.Module | None = None,
        schedulers: Sequence[Any] = (),
        stateful: Sequence[Stateful] = (),
    ) -> None:
        options.check(optimizer, model, schedulers=schedulers, stateful=stateful)
        self.options = options
        self.pilot: Pilot | None = None
        self._optimizer, self._model = optimizer, model
        self.schedulers, self._stateful = schedulers, stateful
        self._count, self._losses = StepCount(), MeanLoss()
        self._loaded: dict[str, Any] | None = None  # until a step of our own was told
        self._owner = weakref.ref(owner)
        self._goodbye: Any = None
        (plain,) = optimizers_of(optimizer)
        hook = plain.register_step_post_hook(untraced(self._count.one))
        weakref.finalize(owner, hook.remove).atexit = False

    def board(self) -> Pilot:
        """The pilot, made where there is none yet."""
        if self.pilot is not None:
            return self.pilot
        pilot = self.options.build(
            self._optimizer, self._model, schedulers=self.schedulers, stateful=self._stateful
        )
        if self._loaded is not None:
            pilot.load_state_dict(self._loaded)
        self.pilot = pilot
        self._goodbye = weakref.finalize(self._owner(), _leave, pilot)
        self._goodbye.atexit = False  # the process's end is seen to elsewhere
        return pilot

    def observe(self, loss: Any) -> None:
        """Take in a loss of the step under way, or of the one just made."""
        self._losses.add(loss)
        self.board().start(late=self._count.made > 0)

    def tell(self) -> None:
        """Tell the pilot of the optimizer steps since the last time; it writes the next LR."""
        pilot = self.pilot
        if pilot is None:
            return  # the steps stay counted
        made, loss = self._count.take(), self._losses.take()
        unseen = made if loss is None else made - 1
        if unseen > 0:
            pilot.count(unseen)
        if loss is not None:
            pilot.step(loss)
        if loss is not None or made:
            self._loaded = None

    def state(self) -> dict[str, Any] | None:
        """The pilot's state; None where no loss was seen so far."""
        if self._loaded is not None or self.pilot is None:
            return self._loaded
        return self.pilot.state_dict()

    def load(self, state: dict[str, Any] | None) -> None:
        """Go on from a state: what has begun here ends, another attempt begins with the next loss.

        Raises:
            ValueError: it is of a newer LRPilot, or does not fit this optimizer.
        """
        if state is not None:
            checkpoint.check(state, [group.name for group in groups_of([self._optimizer])])
        self.close()
        self.pilot = None
        self._count.take()
        self._losses.take()
        self._loaded = state
        if state is not None and state["plan"] is not None:
            self.board()  # which goes on by itself, with or without a loss

    def close(self) -> None:
        """Say goodbye and let go of optimizer and schedulers; the pilot can still be asked."""
        if self.pilot is not None:
            self._goodbye.detach()
            self.pilot.close()

    def options_of_copy(self) -> CopyOptions:
        """What a copy gets: no secret, and no line."""
        return CopyOptions(**vars(replace(self.options, token=None, logger=None)))


def _leave(pilot: Pilot) -> None:
    """The scheduler is gone, or the process ends: after an exception, or in good order?"""
    pilot.close(how())
