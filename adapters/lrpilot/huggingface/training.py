"""LRPilot's part in one training: from its first batch to its end."""

import logging
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from transformers import Trainer

from lrpilot.harmless import Part, harmless
from lrpilot.huggingface.trainers import not_counted, wrap
from lrpilot.metrics import Logged
from lrpilot.torch.options import Options
from lrpilot.torch.own_weights import OwnWeights
from lrpilot.torch.standin import driven_by
from lrpilot.torch.state import Stateful
from lrpilot.torch.unmoved import Unmoved

log = logging.getLogger("lrpilot")


class Training(Part):
    """A pilot, and its place in a Trainer: losses, kept batches, own weights for whoever looks.

    Wraps four of the Trainer's methods and its scheduler, until `close`.

    Args:
        trainer: whose training begins; its optimizer's state is in place.
        optimizer: what it trains with, without what Accelerate puts around it.
        options: as the user gave them; a horizon that is missing is the Trainer's own.
        stateful: as in `lrpilot.attach`.
        monitor: the validation loss among the metrics of an evaluation.
        state: what a checkpoint kept of an earlier attempt; None for nothing.

    Attributes:
        over: whether it ended; nothing happens from then on.
        pilot: answers after the end as well.

    Raises:
        TypeError: a stateful object is of the wrong kind.
        ValueError: the optimizer cannot be controlled, or an argument cannot be.
    """

    def __init__(
        self,
        trainer: Trainer,
        optimizer: torch.optim.Optimizer,
        options: Options,
        stateful: Sequence[Stateful],
        monitor: Logged,
        state: dict[str, Any] | None,
    ) -> None:
        super().__init__()
        self._trainer = trainer
        self._monitor = monitor
        self._loss: Any = None  # of the step under way, so far
        self._batch: Any = None  # what is trained on: inputs, and what else training_step takes
        self._scheduler = scheduler = trainer.lr_scheduler
        self.pilot = pilot = options.build(
            optimizer,
            trainer.model,
            schedulers=[scheduler] if driven_by(scheduler) is optimizer else [],
            stateful=stateful,
            request_stop=lambda: setattr(trainer.control, "should_training_stop", True),
        )
        try:
            if state is not None:
                pilot.load_state_dict(state)
        except Exception:
            pilot.close("error")
            raise
        self._first = pilot.step_count
        self._own = OwnWeights(pilot, trainer.model)
        self._set_scheduler(Unmoved(scheduler, optimizer, lambda: pilot.searching))
        self._undo = [
            wrap(trainer, "training_step", self._training_step),
            wrap(trainer, "get_batch_samples", self._get_batches),
            wrap(trainer, "evaluate", self._look),
            wrap(trainer, "predict", self._look),
        ]

    # -- events, in the order of a step

    @harmless
    def go_on(self) -> None:
        """A loader is about to be asked, which may draw from the generators of a program."""
        self._own.go_on()

    @harmless
    def step_begins(self) -> None:
        """Its loss begins anew, whatever became of the last step."""
        self._loss = None

    @harmless
    def optimizer_stepped(self) -> None:
        """The weights are whole: whoever looks at them may."""
        self._own.mid_step = False

    @harmless
    def step_ended(self) -> None:
        """Report the loss of the optimizer step, and apply what is due."""
        self._own.go_on()  # a callback before ours may have saved
        loss, self._loss = self._loss, None
        if loss is None or not self.tell(self.pilot.step, loss):
            self.pilot.count(1)

    @harmless
    def settle(self) -> None:
        """Make the weights the run's own, for whoever looks, or loads others, from here on."""
        self._own.settle()

    @harmless
    def evaluated(self, metrics: Mapping[str, float]) -> None:
        """Report the validation loss; one from before the first step is no news."""
        if self.pilot.step_count == self._first:
            return
        # Some evaluations are of other data, and those of several sets come one by one.
        whole = "eval_runtime" in metrics and not isinstance(self._trainer.eval_dataset, dict)
        value = self._monitor.value(metrics, quiet=not whole)
        if value is not None:
            self.tell(self.pilot.validate, value)

    def close(self, reason: str) -> None:
        """Say goodbye, and leave the Trainer as it was. Safe to call again."""
        if self.over:
            return
        self.over = True
        for undo in self._undo:
            undo()
        self._set_scheduler(self._scheduler)
        self._own.close()
        self.pilot.close(reason)

    # -- around the Trainer's methods

    def _training_step(self, inner: Any, model: Any, inputs: Any, *rest: Any, **named: Any) -> Any:
        """One micro-batch, forward and backward: on a kept batch where a program wants one."""
        self._batch = inputs, rest, named
        self._serve()
        (inputs, rest, named), self._batch = self._batch, None
        loss = self._called(inner, model, inputs, *rest, **named)
        self._trained(loss)
        return loss

    @harmless
    def _serve(self) -> None:
        self._own.go_on()
        inputs, rest, named = self._batch
        # How many items a loss is averaged over belongs to its batches: to all of a step.
        size = getattr(self._trainer, "current_gradient_accumulation_steps", None)
        plain = dict(inputs) if isinstance(inputs, Mapping) else inputs
        given = (plain, rest, named, size)
        served = self.pilot.serve(given)
        averaged = any(value is not None for value in (*rest, *named.values()))
        if served is not given and (served[-1] == size or not averaged):
            kind: Any = type(inputs)  # such as BatchEncoding; the Trainer makes them so as well
            plain, rest, named, _ = served
            self._batch = kind(plain) if isinstance(inputs, Mapping) else plain, rest, named
        self._own.in_pass = True

    @harmless
    def _trained(self, loss: Any) -> None:
        self._own.in_pass, self._own.mid_step = False, True
        # The Trainer has divided it by what the step is made of.
        self._loss = loss if self._loss is None else self._loss + loss

    def _get_batches(self, inner: Any, *args: Any, **named: Any) -> Any:
        self.go_on()
        return inner(*args, **named)

    def _look(self, inner: Any, *args: Any, **named: Any) -> Any:
        """Evaluate or predict, with the run's own weights."""
        self.settle()
        data = named.get("eval_dataset", args[0] if args else None)
        several = isinstance(self._trainer.eval_dataset if data is None else data, dict)
        # In a search the run itself stands still. Of several sets each is evaluated on its own.
        counts = several or self.over or not self.pilot.searching
        with nullcontext() if counts else not_counted(self._trainer):
            return self._called(inner, *args, **named)

    def _called(self, inner: Any, *args: Any, **named: Any) -> Any:
        """The Trainer has no event for an error of its own or the user's."""
        try:
            return inner(*args, **named)
        except BaseException:
            try:
                self.close("error")
            except Exception:
                log.exception("LRPilot: it could not let go of the training as a whole")
            raise

    def _set_scheduler(self, scheduler: Any) -> None:
        self._trainer.lr_scheduler = self._trainer.callback_handler.lr_scheduler = scheduler
