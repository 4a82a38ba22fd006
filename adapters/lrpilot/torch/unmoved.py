"""The user's schedulers as a framework's loop sees them while a pilot writes the LR."""

from collections.abc import Callable
from typing import Any


class Unmoved:
    """A scheduler as the loop sees it: it still drives the optimizer that it was made for.

    The scheduler itself was pointed at a stand-in; Lightning's LearningRateMonitor and the like ask
    it for its optimizer, and Hugging Face's Trainer for its last LR, to learn what is applied.

    Args:
        scheduler: the user's.
        optimizer: what it was made for.
        searching: whether a search is under way; a scheduler that follows a metric is not stepped
            then, because the run itself stands still.
    """

    def __init__(self, scheduler: Any, optimizer: Any, searching: Callable[[], bool]) -> None:
        self.__dict__.update(_scheduler=scheduler, optimizer=optimizer, _searching=searching)

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        return type(self.__dict__["_scheduler"])

    def __getattr__(self, name: str) -> Any:
        return getattr(self._scheduler, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._scheduler, name, value)

    def step(self, *metrics: Any, **keywords: Any) -> None:
        """Step it; with a metric only where the metric is news of the run."""
        if not ((metrics or "metrics" in keywords) and self._searching()):
            self._scheduler.step(*metrics, **keywords)

    def get_last_lr(self) -> list[Any]:
        """The LRs that are applied."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def unwrap(self) -> Any:
        """The scheduler itself."""
        return self.__dict__["_scheduler"]
