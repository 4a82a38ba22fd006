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
class Reach:
    """How far the loss fell in a program of the ladder: what another run of the job can repeat.

    `lr` and `steps` are the program's. `at_once` is its fall on the batches of the reference, loss
    by loss; 0 where they were not replayed. `halfway` is how far below the level at LR 0 the losses
    of the quarter before its middle were, `end` those that its score is the mean of; None where it
    was not run so far.
    """

    lr: float
    steps: int
    at_once: float
    halfway: float
    end: float | None = None


@dataclass(frozen=True, slots=True)
class Known:
    """The LR that earlier runs of the same job found.

    `progress` is how far their programs came: first that of a run which found this very LR. Empty
    where none of them measured it.
    """

    lr: float
    progress: tuple[Reach, ...] = ()


@dataclass(frozen=True, slots=True)
class SearchResult:
    """What a search found and what it cost.

    `lr` is the LR that the run goes on at (the native one where nothing was found); `steps` is
    what all its programs ran; `reference` the loss before any training; `progress` how far the
    program came whose LR won.
    """

    end: SearchEnd
    lr: float
    steps: int
    reason: str
    reference: float | None = None
    candidates: tuple[Candidate, ...] = ()
    sweep: Sweep | None = None
    progress: Reach | None = None
