"""What can be done to a Trainer from outside, and undone."""

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from transformers import EarlyStoppingCallback, Trainer, TrainerCallback

from lrpilot.diary import EVERY, Metrics, Target


def trainer_that_calls(callback: TrainerCallback) -> Trainer | None:
    """The Trainer whose event is being handled; it hands its callbacks everything but itself."""
    frame = inspect.currentframe()
    while frame is not None:
        found = frame.f_locals.get("self")
        if isinstance(found, Trainer) and callback in found.callback_handler.callbacks:
            return found
        frame = frame.f_back
    return None


def wrap(trainer: Trainer, name: str, around: Callable[..., Any]) -> Callable[[], None]:
    """Call `around(method, ...)` in the place of a method of this trainer; returns the undo."""
    method, before = getattr(trainer, name), vars(trainer).get(name)
    setattr(trainer, name, functools.wraps(method)(functools.partial(around, method)))

    def undo() -> None:
        if before is not None:
            setattr(trainer, name, before)
        else:
            delattr(trainer, name)

    return undo


@contextmanager
def not_counted(trainer: Trainer) -> Iterator[None]:
    """Keep EarlyStoppingCallback from counting an evaluation."""
    callbacks = trainer.callback_handler.callbacks
    stoppers = [one for one in callbacks if isinstance(one, EarlyStoppingCallback)]
    for one in stoppers:
        one.early_stopping_patience_counter -= 1
    held = [one.early_stopping_patience_counter for one in stoppers]
    yield
    for one, count in zip(stoppers, held, strict=True):
        if one.early_stopping_patience_counter == count:  # it did not look
            one.early_stopping_patience_counter += 1


def reports_of(trainer: Trainer) -> Target:
    """Whatever a Trainer reports to, as a place to write what LRPilot does."""

    def write(metrics: Metrics, _: int, __: str) -> None:
        due = trainer.control.should_log  # the Trainer's own log of this step, not made yet
        trainer.log(dict(metrics))
        trainer.control.should_log = due

    return Target(write, trainer.state.logging_steps or EVERY)
