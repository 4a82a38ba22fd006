"""What a search found and what it cost, as values."""

from dataclasses import dataclass
from enum import StrEnum


class SearchEnd(StrEnum):
    """How a search ended."""

    FOUND = "found"
    TRIED = "tried"  # in mid-run: another factor on the LR was better
    REUSED = "reused"  # what an earlier run of the same job had found
    DECLINED = "declined"  # nothing could be told apart from noise: the native LR stands
    FELL_BACK = "fell_back"  # the trainer heard no word in time and follows a fallback
    ABANDONED = "abandoned"  # the attempt ended, or a person froze the run


@dataclass(frozen=True, slots=True)
class Candidate:
    """One LR that a search tried: its program's score, a mean loss; infinite if it diverged."""

    lr: float
    score: float
    steps: int


@dataclass(frozen=True, slots=True)
class Sweep:
    """A range test: loss at each LR, as an LR finder draws it."""

    lrs: tuple[float, ...]
    losses: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class SearchResult:
    """What a search found and what it cost.

    `lr` is the LR that the run goes on at (the native one where nothing was found); `steps` is
    what all its programs ran; `reference` the loss before any training.
    """

    end: SearchEnd
    lr: float
    steps: int
    reason: str
    reference: float | None = None
    candidates: tuple[Candidate, ...] = ()
    sweep: Sweep | None = None
