"""A search inside a fit: its batches, the run's own state wherever somebody looks, its marks."""

from typing import Any

import torch

from lrpilot.lightning.display import BarText, Patience
from lrpilot.lightning.overlay import Overlay
from lrpilot.lightning.packages import callbacks_named
from lrpilot.lightning.steps import Steps
from lrpilot.pilot import Pilot
from lrpilot.torch.state import rng_state, set_rng_state

# Logged as 1 beside each step of a program, and as 0 once after the last one.
PROBE = "lrpilot/probe"


class SearchInFit:
    """What a search needs of Lightning, between its hooks; next to nothing where none comes.

    Args:
        trainer: of the fit.
        pl_module: what it trains.
        pilot: of the fit.
        steps: of the fit.
    """

    def __init__(self, trainer: Any, pl_module: Any, pilot: Pilot, steps: Steps) -> None:
        self._trainer = trainer
        self._module = pl_module
        self._pilot = pilot
        self._steps = steps
        self._overlay = Overlay()
        self._patience = Patience(callbacks_named(trainer, "EarlyStopping"))
        self._bar: BarText | None = None
        self._probing = False  # whether the last step was a program's
        self._aside = False
        self._gradients: list[tuple[torch.nn.Parameter, torch.Tensor]] = []
        self._generators: dict[str, Any] | None = None  # at the last step boundary
        self._begun = False  # whether a batch of the next step was trained on

    def batch_starts(self, batch: Any) -> None:
        """Have it hold what is to be trained on."""
        self._overlay.lift()
        self.go_on()
        served = self._pilot.serve(batch)
        if served is not batch:
            self._overlay.lay(batch, served)
        self._begun, self._generators = True, None
        if self._pilot.searching:
            self._patience.hold()
            if self._bar is None:
                bar = getattr(self._trainer, "progress_bar_callback", None)
                self._bar = BarText(bar, self._shown)

    def batch_ended(self) -> None:
        """Mark the step; to be called before the pilot hears of it."""
        self.go_on()  # a callback before ours may have saved a checkpoint
        probing = self._pilot.searching
        if (probing or self._probing) and not getattr(self._trainer, "barebones", False):
            self._module.log(PROBE, float(probing), on_step=True, on_epoch=False)
        if self._probing and not probing:
            self._patience.release()
        self._probing = probing
        self._begun = not self._steps.stepped

    def boundary(self) -> None:
        """The pilot has heard of it."""
        if self._pilot.searching:
            self._generators = rng_state()

    def go_on(self) -> None:
        """Put a program that was set aside back."""
        if not self._aside:
            return
        self._aside = False
        self._pilot.go_on()
        kept, self._gradients = self._gradients, []
        for parameter, gradient in kept:
            parameter.grad = gradient

    def settle(self) -> None:
        """Make the run's own state live, until the next batch."""
        self._overlay.lift()
        if self._aside or not self._pilot.searching:
            return
        if self._begun and not self._steps.stepped:  # a restore sets them to zero
            self._gradients = [
                (parameter, parameter.grad.clone())
                for parameter in self._module.parameters()
                if parameter.grad is not None
            ]
        if self._generators is not None:  # Lightning asks the validation's loader before any hook
            set_rng_state(self._generators)
        self._aside = True
        self._pilot.settle()

    def close(self) -> None:
        """Leave Lightning as it was."""
        self._overlay.lift()
        self._patience.release()
        self._gradients = []
        if self._bar is not None:
            self._bar.remove()
            self._bar = None

    def _shown(self) -> str:
        return self._pilot.progress.removeprefix("LRPilot search: ")
