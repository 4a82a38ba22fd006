"""The pilot of a loop that Accelerate prepared; `lrpilot.attach` makes it."""

from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from torch import nn

from lrpilot.pilot import Pilot
from lrpilot.torch.late import MeanLoss
from lrpilot.torch.own_weights import OwnWeights

T = TypeVar("T")


class AcceleratedPilot(Pilot):
    """A pilot that knows when Accelerate makes an optimizer step of the batches so far.

    `step` is called for every batch, or where `accelerator.sync_gradients` says so: batches that
    only add to the gradients are no step, and its loss is the mean of theirs. A step that the fp16
    scaler skipped counts, because the loop counts it. `accelerator.register_for_checkpointing`
    takes the pilot, and `save_state` saves the run's own weights in the middle of a search as well.

    Args:
        args: of `Pilot`, as `keywords` are.
        prepared: the optimizer as `accelerator.prepare` returned it.
        model: what it trains; None as in `lrpilot.attach`.
    """

    def __init__(self, *args: Any, prepared: Any, model: nn.Module | None, **keywords: Any) -> None:
        super().__init__(*args, **keywords)
        self._gradients = prepared.gradient_state
        self._mean = MeanLoss()
        self._own = OwnWeights(self, model) if model is not None else None

    def step(self, loss: Any) -> None:
        """Report a batch's loss; once per batch.

        Raises:
            BadLoss: it is neither a float nor a tensor of one element; a TypeError.
        """
        self._mean.add(loss)
        stepped = self._gradients.sync_gradients
        if self._own is not None:
            self._own.in_pass, self._own.mid_step = False, not stepped
        if stepped:
            super().step(self._mean.take())

    def batches(self, loader: Iterable[T]) -> Iterator[T]:
        """As `Pilot.batches`, over a loader that was prepared or not."""
        for batch in super().batches(loader):
            if self._own is not None:
                self._own.go_on()
                self._own.in_pass = True
            yield batch

    def close(self, reason: str = "finished") -> None:
        """As `Pilot.close`."""
        super().close(reason)
        if self._own is not None:
            self._own.close()
