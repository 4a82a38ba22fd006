"""What one training of the quality benchmark came to, and the row that is kept of it."""

import math
from dataclasses import dataclass
from typing import Any

from .oracle import excess

Row = dict[str, Any]


@dataclass(frozen=True)
class Outcome:
    """One training from its first optimizer step to its last.

    Attributes:
        final: Held-out loss of the final weights; infinite where a loss was not finite.
        steps_outside: Optimizer steps that were paid for and are not part of the way to the final
            weights: of range tests, of rejected probes, rolled back, or spent warming up again.
        lr: The highest LR that was chosen in place of the base LR.
        waits: How often training waited for a controller.
        wait_s: The seconds of all waits together.
        longest_wait_s: The seconds of the longest one.
        declined: A search was asked for, and found nothing.
        note: Why, in words.
    """

    final: float
    steps_outside: int = 0
    lr: float | None = None
    waits: int = 0
    wait_s: float = 0.0
    longest_wait_s: float = 0.0
    declined: bool = False
    note: str = ""

    @property
    def non_finite(self) -> bool:
        """Whether the run was lost."""
        return not math.isfinite(self.final)


def row(outcome: Outcome, oracle: float, uninformed: float) -> Row:
    """The outcome in numbers that fit into a line of JSON; what is zero or unset is left out."""
    numbers: Row = {"final": None, "excess": 1.0, "ratio": None}
    if not outcome.non_finite:
        numbers["final"] = rounded(outcome.final)
        numbers["excess"] = round(excess(outcome.final, oracle, uninformed), 5)
        numbers["ratio"] = rounded(outcome.final / oracle)
    extra: Row = {
        "outside": outcome.steps_outside,
        "lr": outcome.lr and rounded(outcome.lr),
        "waits": outcome.waits,
        "wait_s": round(outcome.wait_s, 4),
        "longest_wait_s": round(outcome.longest_wait_s, 4),
        "declined": outcome.declined,
        "note": outcome.note,
    }
    return numbers | {key: value for key, value in extra.items() if value}


def rounded(value: float) -> float:
    """Six significant digits: differences between equal runs on two machines are below that."""
    return float(f"{value:.6g}")
