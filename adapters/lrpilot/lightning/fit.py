"""LRPilot's part in one fit: from its first batch to its end."""

import logging
from collections.abc import Sequence
from typing import Any

from lrpilot.harmless import Part, harmless
from lrpilot.lightning.checks import (
    found_lrs,
    horizon,
    observes_only,
    warn_of_finite_checks,
    why_no_search,
)
from lrpilot.lightning.schedulers import Schedulers
from lrpilot.lightning.search import SearchInFit
from lrpilot.lightning.steps import Steps
from lrpilot.metrics import Logged
from lrpilot.torch.options import Options
from lrpilot.torch.state import Stateful

log = logging.getLogger("lrpilot")

# A search is given up after so many steps in a row whose loss nobody tells.
MOST_WITHOUT_LOSS = 3


class Fit(Part):
    """A pilot, and what it needs of Lightning between the hooks of one fit.

    Args:
        trainer: of the fit; its optimizers and their state are in place.
        pl_module: what it trains.
        keywords: of `Options`.
        stateful: as in `lrpilot.attach`.
        loss: the train loss, where it is logged.
        monitor: the validation loss, where it is logged.
        state: what a checkpoint kept of an earlier attempt; None for nothing.

    Attributes:
        over: whether it ended; nothing happens from then on.
        pilot: answers after the end as well.

    Raises:
        TypeError: a stateful object is of the wrong kind.
        ValueError: an optimizer cannot be controlled, or an argument cannot be.
    """

    def __init__(
        self,
        trainer: Any,
        pl_module: Any,
        keywords: dict[str, Any],
        stateful: Sequence[Stateful],
        loss: Logged,
        monitor: Logged,
        state: dict[str, Any] | None,
    ) -> None:
        super().__init__()
        self._trainer = trainer
        self._monitor = monitor
        self._without = 0  # steps in a row whose loss nobody told
        why = observes_only(trainer)
        tell = log.warning if trainer.is_global_zero else log.debug
        warn_of_finite_checks(trainer)
        if keywords["total_steps"] is None:
            keywords = keywords | {"total_steps": horizon(trainer, resumed=bool(state))}
        if why:
            tell("LRPilot: %s: this version observes it and writes nothing", why)
            keywords = keywords | {"search": False}
        elif keywords["search"] is True and (reason := why_no_search(trainer, pl_module)):
            tell("LRPilot: no search: %s; this run is only guarded", reason)
            keywords = keywords | {"search": False}
        optimizers = list(trainer.optimizers)
        self._schedulers = Schedulers(trainer, optimizers)
        self.pilot = Options(**keywords).build(
            optimizers,
            pl_module,
            schedulers=self._schedulers.own,
            stateful=stateful,
            request_stop=lambda: setattr(trainer, "should_stop", True),
            controls=not why,
            base_lrs=found_lrs(trainer),
        )
        if state:
            try:
                self.pilot.load_state_dict(state)
            except Exception:
                self.pilot.close("error")
                raise
        self._schedulers.show(self.pilot)
        self._steps = Steps(trainer, pl_module, loss)
        self._search = SearchInFit(trainer, pl_module, self.pilot, self._steps, self.fail)

    @harmless
    def epoch_starts(self) -> None:
        """Go on with a program that was set aside, before the loader begins anew."""
        self._steps.epoch_starts()
        self._search.go_on()

    @harmless
    def batch_starts(self, batch: Any) -> None:
        """Start the run with the first batch; have a batch hold what a search trains on."""
        self._schedulers.look()
        self._search.batch_starts(batch)

    @harmless
    def batch_ended(self, outputs: Any) -> None:
        """Report an optimizer step once its last batch is done."""
        stepped = self._steps.ended(outputs)
        self._search.batch_ended(stepped=stepped)
        if stepped:
            self._step_ended()
        self._search.boundary()

    def settle(self) -> None:
        """Make the weights the run's own, for whoever looks at them."""
        if not self.over:
            self._search.settle()

    @harmless
    def validated(self) -> None:
        """Report the validation loss."""
        value = self._monitor.value(self._trainer.callback_metrics)
        if value is not None:
            self.tell(self.pilot.validate, value)

    def close(self, reason: str) -> None:
        """Say goodbye, and leave Lightning as it was. Safe to call again."""
        if self.over:
            return
        self.over = True
        self._steps.close()
        try:
            self._search.close()
        finally:
            self.pilot.close(reason)
            self._schedulers.restore()

    def _step_ended(self) -> None:
        loss = self._steps.take()
        told = loss is not None and self.tell(self.pilot.step, loss)
        self._without = 0 if told else self._without + 1
        if told or (self.pilot.searching and self._without < MOST_WITHOUT_LOSS):
            return
        if self.pilot.searching:
            log.warning("LRPilot: a search needs the loss of each step, and is given up")
        self.pilot.count(1)
