"""The user's schedulers as Lightning sees them while a pilot writes the LR."""

from collections.abc import Sequence
from typing import Any

from lrpilot.pilot import Pilot
from lrpilot.torch.standin import driven_by
from lrpilot.torch.unmoved import Unmoved


class Schedulers:
    """Those of one fit, which may change: Lightning's SWA puts one of its own in their place.

    Args:
        trainer: of the fit.
        optimizers: those that the pilot drives.
    """

    def __init__(self, trainer: Any, optimizers: Sequence[Any]) -> None:
        self._trainer = trainer
        self._optimizers = optimizers
        self._pilot: Pilot | None = None
        self._pairs = self._found()

    @property
    def own(self) -> list[Any]:
        """The user's schedulers, as they are now."""
        return [config.scheduler for config, _ in self._pairs]

    def show(self, pilot: Pilot) -> None:
        """Have Lightning see them as if no pilot had touched them."""
        self._pilot = pilot
        for config, optimizer in self._pairs:
            config.scheduler = Unmoved(config.scheduler, optimizer, lambda: pilot.searching)

    def look(self) -> None:
        """Take on those that came since."""
        if all(isinstance(one.scheduler, Unmoved) for one in self._trainer.lr_scheduler_configs):
            return
        self._pairs = self._found()
        if self._pilot is not None and self._pairs:
            for scheduler in self.own:
                self._pilot.add_scheduler(scheduler)
            self.show(self._pilot)

    def restore(self) -> None:
        """Leave Lightning's as they were."""
        for config in self._trainer.lr_scheduler_configs:
            if isinstance(config.scheduler, Unmoved):
                config.scheduler = config.scheduler.unwrap()

    def _found(self) -> list[tuple[Any, Any]]:
        """Configurations of those that are not shown yet, each with the optimizer."""
        return [
            (config, optimizer)
            for config in self._trainer.lr_scheduler_configs
            for optimizer in self._optimizers
            if not isinstance(config.scheduler, Unmoved)
            and driven_by(config.scheduler) is optimizer
        ]
