"""Reads loss values; one that lies on a device is fetched without making the step wait."""

from collections.abc import Sequence
from typing import Any, Protocol

# seq, step, branch, program (0: none), LRs: what belongs to a loss that is not known yet.
Row = tuple[int, int, int, int, tuple[float, ...]]


class BadLoss(TypeError):
    """What was given for a loss is neither a number nor a tensor of one element."""


class LossReader(Protocol):
    """Turns what a training loop calls a loss into a float.

    Attributes:
        averages: whether the losses of several ranks are averaged, where all of them `meet`.
    """

    averages: bool

    def read(self, loss: Any, row: Row) -> float | None:
        """The value, or None where `ready` will give it later, with `row`.

        Raises:
            BadLoss: the loss is neither a number nor a tensor of one element.
        """
        ...

    def ready(self, *, flush: bool = False) -> Sequence[tuple[Row, float]]:
        """Rows whose values have arrived, in order; never waits.

        Args:
            flush: send for all that were read, however few: while a program is open its stop
                rule wants each loss soon.
        """
        ...

    def drain(self) -> Sequence[tuple[Row, float]]:
        """All rows that are left; may wait for the device."""
        ...

    def number(self, value: Any) -> float:
        """The value at once; may wait for the device.

        Raises:
            BadLoss: it is neither a number nor a tensor of one element.
        """
        ...

    def meet(self) -> None:
        """All ranks come to this point at the same step: average what was read."""
        ...

    def part(self) -> None:
        """This rank is alone from here on: what is left is its own."""
        ...
