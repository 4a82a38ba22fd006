"""What a contract test needs of an adapter."""

from collections.abc import Callable
from dataclasses import dataclass

from lrpilot.trainer import TrainerPort


@dataclass
class Rig:
    """A freshly built training set-up for one contract test.

    Attributes:
        trainer: the adapter under test, with two param groups or more at different LRs.
        step: trains one step on the i-th batch of a fixed list and returns its loss, computed
            before the update; dropout and the like draw from the global generators.
        draw: draws a number from a generator that the trainer restores.
        stopped: whether the loop was asked to end.
    """

    trainer: TrainerPort
    step: Callable[[int], float]
    draw: Callable[[], float]
    stopped: Callable[[], bool]
