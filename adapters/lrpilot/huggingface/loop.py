"""What a pilot needs inside of a Trainer's loop, where the Trainer has no event for it."""

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

from transformers import EarlyStoppingCallback, Trainer, TrainerCallback

from lrpilot.pilot import Pilot
from lrpilot.torch.own_weights import OwnWeights
from lrpilot.torch.unmoved import Unmoved


class InTrainer:
    """A pilot's place in a Trainer: losses, kept batches, and the run's own weights for others.

    Wraps four of the Trainer's methods and its scheduler, until `close`.

    Args:
        trainer: whose training begins.
        optimizer: what it trains with, without what Accelerate puts around it.
        pilot: of this training.
        failed: called when one of the methods raises; the error goes on its way.

    Attributes:
        own: shows whoever looks the run's own weights.
    """

    def __init__(
        self, trainer: Trainer, optimizer: Any, pilot: Pilot, failed: Callable[[], None]
    ) -> None:
        self._trainer = trainer
        self._pilot = pilot
        self._failed = failed
        self._loss: Any = None
        self._first = pilot.step_count
        self._scheduler = trainer.lr_scheduler
        self.own = OwnWeights(pilot, trainer.model)
        self._set_scheduler(Unmoved(self._scheduler, optimizer, lambda: pilot.searching))
        self._undo = [
            _wrap(trainer, "training_step", self._training_step),
            _wrap(trainer, "get_batch_samples", self._get_batches),
            _wrap(trainer, "evaluate", self._look),
            _wrap(trainer, "predict", self._look),
        ]

    def take_loss(self) -> Any:
        """The loss since this was last asked; None where there was none."""
        loss, self._loss = self._loss, None
        return loss

    @property
    def began(self) -> bool:
        """Whether a step was made; an evaluation before it is no news."""
        return self._pilot.step_count > self._first

    def evaluates_all(self, metrics: Mapping[str, float]) -> bool:
        """Whether metrics are all of the run's own evaluation: not of other data, nor of one set
        among several."""
        return "eval_runtime" in metrics and not isinstance(self._trainer.eval_dataset, dict)

    def close(self) -> None:
        """Leave the trainer as it was."""
        for undo in self._undo:
            undo()
        self._set_scheduler(self._scheduler)
        self.own.close()

    # -- around the Trainer's methods

    def _training_step(self, inner: Any, model: Any, inputs: Any, *rest: Any, **named: Any) -> Any:
        """One micro-batch, forward and backward: on a kept batch where a program wants one."""
        self.own.go_on()
        inputs, rest, named = self._serve(inputs, rest, named)
        with self._closing_on_error():
            self.own.in_pass = True
            loss = inner(model, inputs, *rest, **named)
            self.own.in_pass, self.own.mid_step = False, True
        # The Trainer has divided it by what the step is made of.
        self._loss = loss if self._loss is None else self._loss + loss
        return loss

    def _serve(self, inputs: Any, rest: Any, named: Any) -> tuple[Any, Any, Any]:
        # How many items a loss is averaged over belongs to its batches: to all of a step.
        size = getattr(self._trainer, "current_gradient_accumulation_steps", None)
        plain = dict(inputs) if isinstance(inputs, Mapping) else inputs
        given = (plain, rest, named, size)
        served = self._pilot.serve(given)
        averaged = any(value is not None for value in (*rest, *named.values()))
        if served is given or (averaged and served[-1] != size):
            return inputs, rest, named
        plain, rest, named, _ = served
        kind: Any = type(inputs)  # such as BatchEncoding; the Trainer makes new ones this way too
        return kind(plain) if isinstance(inputs, Mapping) else plain, rest, named

    def _get_batches(self, inner: Any, *args: Any, **named: Any) -> Any:
        """A program goes on before the loader is asked, which may draw from its generators."""
        self.own.go_on()
        return inner(*args, **named)

    def _look(self, inner: Any, *args: Any, **named: Any) -> Any:
        """Evaluate or predict, with the run's own weights."""
        self.own.settle()
        data = named.get("eval_dataset", args[0] if args else None)
        several = isinstance(self._trainer.eval_dataset if data is None else data, dict)
        # Where there are several sets, one evaluation of each follows.
        counted = several or not self._pilot.searching
        with self._closing_on_error(), nullcontext() if counted else self._patience():
            return inner(*args, **named)

    @contextmanager
    def _patience(self) -> Iterator[None]:
        """Keep EarlyStoppingCallback from counting: in a search the run itself stands still."""
        callbacks = self._trainer.callback_handler.callbacks
        stoppers = [one for one in callbacks if isinstance(one, EarlyStoppingCallback)]
        for one in stoppers:
            one.early_stopping_patience_counter -= 1
        held = [one.early_stopping_patience_counter for one in stoppers]
        yield
        for one, count in zip(stoppers, held, strict=True):
            if one.early_stopping_patience_counter == count:  # it did not look
                one.early_stopping_patience_counter += 1

    @contextmanager
    def _closing_on_error(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self._failed()
            raise

    def _set_scheduler(self, scheduler: Any) -> None:
        self._trainer.lr_scheduler = self._trainer.callback_handler.lr_scheduler = scheduler


def trainer_that_calls(callback: TrainerCallback) -> Trainer | None:
    """The Trainer whose event is being handled; it hands its callbacks everything but itself."""
    frame = inspect.currentframe()
    while frame is not None:
        found = frame.f_locals.get("self")
        if isinstance(found, Trainer) and callback in found.callback_handler.callbacks:
            return found
        frame = frame.f_back
    return None


def _wrap(trainer: Trainer, name: str, around: Callable[..., Any]) -> Callable[[], None]:
    """Call `around(method, ...)` in the place of a method of this trainer; returns the undo."""
    method, before = getattr(trainer, name), vars(trainer).get(name)
    wrapped = functools.wraps(method)(functools.partial(around, method))
    setattr(trainer, name, wrapped)

    def undo() -> None:
        if before is not None:
            setattr(trainer, name, before)
        else:
            delattr(trainer, name)

    return undo
