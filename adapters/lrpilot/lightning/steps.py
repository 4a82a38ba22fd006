"""Which batches made an optimizer step, and what it lost."""

from typing import Any

from torch import Tensor

from lrpilot.lightning.window import WindowLoss
from lrpilot.metrics import Logged
from lrpilot.torch.hooks import untraced


class Steps:
    """The steps of one fit, in automatic and in manual optimization.

    A step is a batch in which an optimizer stepped, however many did and however often; Lightning
    adds each of them to its `global_step`. The batches before it, in which none did, are of the
    same step.

    Args:
        trainer: of the fit.
        pl_module: what it trains.
        loss: the metric that the user named as the train loss; the usual one is taken in manual
            optimization alone, where `training_step` need not return a loss.
    """

    def __init__(self, trainer: Any, pl_module: Any, loss: Logged) -> None:
        self._trainer = trainer
        self._manual = not pl_module.automatic_optimization
        self._named = loss
        self._window = WindowLoss()
        self._before = trainer.global_step
        self._moved = False
        self._last: Any = None  # that was logged
        # In manual optimization, one that is stepped around Lightning's wrapper is not in
        # `global_step`; one that a scaler skipped is there alone, and counts, as for schedulers.
        saw = untraced(self._saw)
        stepping = trainer.optimizers if self._manual else ()
        self._hooks = [one.register_step_post_hook(saw) for one in stepping]

    @property
    def stepped(self) -> bool:
        """Whether a step was made since the last `ended`."""
        return self._moved or bool(self._trainer.global_step != self._before)

    @property
    def in_pass(self) -> bool:
        """Whether a batch is being trained on, so that the weights must stay as they are."""
        batches = self._trainer.fit_loop.epoch_loop.batch_progress.current
        return bool(batches.ready > batches.processed)

    def epoch_starts(self) -> None:
        """What was logged so far, as the mean of an epoch, is no step's loss."""
        self._last = self._named.value(self._trainer.callback_metrics, quiet=True)

    def ended(self, outputs: Tensor | dict[str, Any] | None) -> bool:
        """A batch is over, with these outputs of `training_step`; did it make a step?"""
        if not self._named.given:
            self._window.add(outputs)
        before, self._before = self._before, self._trainer.global_step
        moved, self._moved = self._moved, False
        return moved or bool(self._before != before)

    def take(self) -> Any:
        """The loss of the step that was just made; None where none is known."""
        loss = self._window.take(self._trainer.accumulate_grad_batches)
        # Asked for once per step: those on the progress bar are read from the device each time.
        if self._named.given:
            return self._logged()
        if loss is None and self._manual:
            return self._logged("training_step returns no loss in manual optimization")
        return loss

    def _logged(self, needed: str = "") -> Any:
        value = self._named.value(self._trainer.callback_metrics, needed)
        # Lightning keeps what was logged before; a new step's value is another object.
        last, self._last = self._last, value
        return None if value is last else value

    def close(self) -> None:
        """Let go of the optimizers."""
        for hook in self._hooks:
            hook.remove()

    def _saw(self, *_: Any) -> None:
        self._moved = True
