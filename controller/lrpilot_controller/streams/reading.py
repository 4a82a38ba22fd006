"""What one line of a log says, and what all readers of lines share."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NoReturn

from lrpilot_controller.errors import LRPilotError

SHOWN = 200  # characters of a bad line that its error shows


class BadInput(LRPilotError):
    """What a person gave to read is not what was expected; names the place and what it holds."""


@dataclass(frozen=True, slots=True)
class Reading:
    """The losses and the LR that one line holds; what it does not hold is None."""

    step: int
    train_loss: float | None = None
    val_loss: float | None = None
    lr: float | None = None


@dataclass(frozen=True, slots=True)
class Names:
    """What the log calls the parts of a reading; None stands for the usual names.

    Args:
        step: `step` unless named.
        train_loss: `train_loss`, `train_loss_step` or `loss`, the first that is there.
        val_loss: `val_loss`.
        lr: `lr`.
    """

    step: str | None = None
    train_loss: str | None = None
    val_loss: str | None = None
    lr: str | None = None

    def candidates(self) -> dict[str, tuple[str, ...]]:
        """For each part of a reading the names that it may have, the first one first."""
        usual = {
            "step": ("step",),
            "train_loss": ("train_loss", "train_loss_step", "loss"),
            "val_loss": ("val_loss",),
            "lr": ("lr",),
        }
        named = {part: getattr(self, part) for part in usual}
        return {part: (named[part],) if named[part] else usual[part] for part in usual}


class StepCounter:
    """The step of each line; where one has none, the step after the last line's, from 0."""

    def __init__(self) -> None:
        self._last = -1

    def of(self, step: float | None) -> int:
        """The step of the next line.

        Raises:
            ValueError: the number is no whole one, or negative.
        """
        if step is None:
            self._last += 1
            return self._last
        if step < 0 or not step.is_integer():
            raise ValueError(f"the step is {step!r}, not a whole number from 0 on")
        self._last = int(step)
        return self._last


def text_lines(lines: Iterable[bytes]) -> Iterator[str]:
    """Lines as text, each as soon as it is there.

    Raises:
        BadInput: one is not UTF-8.
    """
    for number, line in enumerate(lines, 1):
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            bad_line(number, repr(line), f"not UTF-8 text ({error.reason})", "UTF-8")


def bad_line(number: int, content: str, problem: str, expected: str) -> NoReturn:
    """Refuse a line.

    Raises:
        BadInput: always.
    """
    content = content.strip()
    if len(content) > SHOWN:
        content = content[:SHOWN] + "..."
    raise BadInput(f"line {number}: {problem}: {content}\nexpected {expected}")
