"""What Accelerate's `prepare` returned, and what is inside; by name, as it may not be installed."""

from typing import Any


def is_prepared(optimizer: Any) -> bool:
    """Whether this is an optimizer that Accelerate prepared."""
    return _is(optimizer, "AcceleratedOptimizer")


def plain_optimizer(optimizer: Any) -> Any:
    """The optimizer inside; the one that was given where nothing is around it."""
    while is_prepared(optimizer):
        optimizer = optimizer.optimizer
    return optimizer


def plain_scheduler(scheduler: Any) -> Any:
    """The scheduler inside; the one that was given where nothing is around it."""
    while _is(scheduler, "AcceleratedScheduler"):
        scheduler = scheduler.scheduler
    return scheduler


def _is(value: Any, name: str) -> bool:
    return any(kind.__name__ == name for kind in type(value).__mro__)
