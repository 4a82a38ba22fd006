"""A scheduler that follows a metric hears of no program: the run itself stands still meanwhile."""

import copyreg
import inspect
from collections.abc import Callable
from typing import Any


def follows_a_metric(scheduler: Any) -> bool:
    """Whether `scheduler.step` is told a metric, as that of ReduceLROnPlateau."""
    return "metrics" in inspect.signature(scheduler.step).parameters


def hold(scheduler: Any, searching: Callable[[], bool]) -> Callable[[], None]:
    """Keep a scheduler from being stepped while `searching()`; returns how to undo it.

    The user's loop has the scheduler itself, and an attribute would enter its `state_dict`: so it
    gets a class of its own, under the same name. Its copies are of the old one.
    """
    kind = type(scheduler)

    def step(self: Any, *args: Any, **keywords: Any) -> None:
        if not searching():
            kind.step(self, *args, **keywords)

    def reduce(self: Any, _: Any) -> Any:
        # What pickle itself uses of old; a reader needs no LRPilot.
        return copyreg._reconstructor, (kind, object, None), vars(self)  # type: ignore[attr-defined]

    names = {"__module__": kind.__module__, "__qualname__": kind.__qualname__}
    held = type(kind.__name__, (kind,), {**names, "step": step, "__reduce_ex__": reduce})
    scheduler.__class__ = held

    def undo() -> None:
        if type(scheduler) is held:  # else a later pilot has it
            scheduler.__class__ = kind

    return undo
