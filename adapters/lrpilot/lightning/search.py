"""A search inside a fit: its batches, the run's own state wherever somebody looks, its marks."""

from collections.abc import Callable
from typing import Any

from lrpilot.lightning.display import BarText, Patience
from lrpilot.lightning.overlay import Overlay
from lrpilot.lightning.packages import callbacks_named
from lrpilot.lightning.steps import Steps
from lrpilot.pilot import Pilot
from lrpilot.torch.own_weights import OwnWeights
from lrpilot.torch.state import rng_state, set_rng_state

# Logged as 1 beside each step of a program, and as 0 once after the last one.
PROBE = "lrpilot/probe"


class SearchInFit(OwnWeights):
    """What a search needs of Lightning, between its hooks; next to nothing where none comes.

    Lightning reads the weights for a checkpoint before any callback hears of it.

    Args:
        trainer: of the fit.
        pl_module: what it trains.
        pilot: of the fit.
        steps: of the fit.
        fail: told of a fault of ours while somebody reads the weights.
    """

    def __init__(
        self,
        trainer: Any,
        pl_module: Any,
        pilot: Pilot,
        steps: Steps,
        fail: Callable[[Exception], None],
    ) -> None:
        super().__init__(pilot, pl_module)
        self._log = pl_module.log
        self._trainer = trainer
        self._steps = steps
        self._fail = fail
        self._overlay = Overlay()
        self._patience = Patience(callbacks_named(trainer, "EarlyStopping"))
        self._bar: BarText | None = None
        self._serving = True  # whether the last batch was looked at
        self._probing = False  # whether the last step was a program's
        self._generators: dict[str, Any] | None = None  # at the last step boundary
        self._begun = False  # whether a batch of the next step was trained on

    def batch_starts(self, batch: Any) -> None:
        """Have it hold what is to be trained on."""
        self._begun = True
        before, self._serving = self._serving, self._pilot.serves
        if before or self._serving:
            self._serve(batch)

    def _serve(self, batch: Any) -> None:
        self._overlay.lift()
        self.go_on()
        served = self._pilot.serve(batch)
        if served is not batch:
            self._overlay.lay(batch, served)
        self._generators = None
        if self._pilot.searching:
            self._patience.hold()
            if self._bar is None:
                bar = getattr(self._trainer, "progress_bar_callback", None)
                self._bar = BarText(bar, self._shown)

    def batch_ended(self, *, stepped: bool) -> None:
        """Mark the step, if one was made; to be called before the pilot hears of it."""
        self._begun = not stepped
        if self._serving or self._probing:
            self._mark()

    def _mark(self) -> None:
        self.go_on()  # a callback before ours may have saved a checkpoint
        probing = self._pilot.searching
        if (probing or self._probing) and not getattr(self._trainer, "barebones", False):
            self._log(PROBE, float(probing), on_step=True, on_epoch=False)
        if self._probing and not probing:
            self._patience.release()
        self._probing = probing

    def boundary(self) -> None:
        """The pilot has heard of it."""
        if self._pilot.searching:
            self._generators = rng_state()

    def settle(self) -> None:
        """Make the run's own state live, until the next batch."""
        try:
            self.in_pass = self._steps.in_pass
            self.mid_step = self._begun and not self._steps.stepped
            if not self.in_pass:
                self._overlay.lift()
                kept, self._generators = self._generators, None
                if kept is not None:  # Lightning asks the validation's loader before any hook
                    set_rng_state(kept)
            super().settle()
        except Exception as error:
            self._fail(error)

    def close(self) -> None:
        """Leave Lightning as it was."""
        super().close()
        self._overlay.lift()
        self._patience.release()
        if self._bar is not None:
            self._bar.remove()
            self._bar = None

    def _shown(self) -> str:
        return self._pilot.progress.removeprefix("LRPilot search: ")
