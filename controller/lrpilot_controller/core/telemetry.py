"""Telemetry as the journal keeps it: item by item, and what is left of it where it was thinned."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Samples:
    """Consecutive telemetry items as columns of one length.

    `validation` marks the rows that hold a validation loss. `lrs` holds one row of LRs per item,
    or a single row that holds for all of them. `dropped` is the attempt's total so far.
    """

    attempt: str
    first_seq: int
    validation: tuple[bool, ...]
    step: tuple[int, ...]
    branch: tuple[int, ...]
    program: tuple[int, ...]
    loss: tuple[float, ...]
    lrs: tuple[tuple[float, ...], ...]
    dropped: int = 0

    @property
    def next_seq(self) -> int:
        """The number of the item after the last one."""
        return self.first_seq + len(self.step)


@dataclass(frozen=True, slots=True)
class Thinned:
    """What is left of telemetry that is no longer held item by item; no engine is fed it.

    Attributes:
        rows: The items that are left: of each stretch the lowest and the highest loss, and the
            first and the last of all. Its `first_seq` is the first number that was there.
        seq: The number of each of them.
        next_seq: The number after the last that was there.
        train: How many train losses were there.
        stretch: Over how many numbers one stretch goes.
    """

    rows: Samples
    seq: tuple[int, ...]
    next_seq: int
    train: int
    stretch: int

    @property
    def attempt(self) -> str:
        """Whose telemetry it was."""
        return self.rows.attempt

    @property
    def first_seq(self) -> int:
        """The first number that was there."""
        return self.rows.first_seq
