"""Whoever looks at the weights sees the run's own, not those of a search's program."""

from typing import Any

import torch

from lrpilot.pilot import Pilot


class OwnWeights:
    """Sets an open program aside while somebody looks, the gradients of a step under way included.

    Reading the module's `state_dict`, as whoever saves it does, is such a look.

    Args:
        pilot: settles.
        module: what it trains.

    Attributes:
        in_pass: whether a forward or backward pass is under way, which needs the weights as they
            are: nothing is set aside then.
        mid_step: whether there are gradients of a step that is not made yet.
    """

    def __init__(self, pilot: Pilot, module: torch.nn.Module) -> None:
        self._pilot = pilot
        self._module = module
        self._gradients: list[tuple[torch.nn.Parameter, torch.Tensor]] = []
        self.in_pass = self.mid_step = False
        hook = _BeforeStateDict(self)
        self._hook: Any = module.register_state_dict_pre_hook(hook)  # type: ignore[no-untyped-call]

    def settle(self) -> None:
        """Make the run's own state live, until `go_on`."""
        if self.in_pass:
            return
        kept = self._gradients or not self._pilot.searching
        if self.mid_step and not kept:  # a restore sets them to zero
            self._gradients = [
                (parameter, parameter.grad.clone())
                for parameter in self._module.parameters()
                if parameter.grad is not None
            ]
        self._pilot.settle()

    def go_on(self) -> None:
        """Put a program that was set aside back, before the next batch."""
        self._pilot.go_on()
        kept, self._gradients = self._gradients, []
        for parameter, gradient in kept:
            parameter.grad = gradient

    def close(self) -> None:
        """Leave the module as it was."""
        self._hook.remove()
        self._gradients = []


class _BeforeStateDict:
    """Runs before the module's `state_dict`; a copy of the module is no business of ours."""

    def __init__(self, own: OwnWeights | None = None) -> None:
        self._own = own

    def __call__(self, *_: Any) -> None:
        if self._own is not None:
            self._own.settle()

    def __reduce__(self) -> Any:
        return (_BeforeStateDict, ())
