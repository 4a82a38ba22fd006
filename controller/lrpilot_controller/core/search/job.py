"""What a search knows of the training job, and what it has spent."""

from dataclasses import dataclass
from enum import StrEnum

from lrpilot_controller.core.search.probe import Probe, Probing, Result

# Optimizers whose step does not shrink with the gradient behave alike; of the others there is one.
_PLAIN = ("SGD",)


class Family(StrEnum):
    """How an optimizer's step depends on the gradient's size."""

    PLAIN = "plain"  # proportional to it: SGD, with momentum or without
    NORMALIZED = "normalized"  # hardly at all: Adam and its kin

    @classmethod
    def of(cls, optimizer: str) -> "Family":
        """The family of an optimizer's class, by its name."""
        return cls.PLAIN if optimizer.startswith(_PLAIN) else cls.NORMALIZED


@dataclass(frozen=True, slots=True)
class Job:
    """A training job as a search sees it.

    `steps` is the horizon that is left, or None; `low` and `high` bound every LR but 0; `budget`
    is the most steps that probes may take; `replay` says whether probes can train on the same
    batches again.
    """

    base_lr: float
    low: float
    high: float
    family: Family
    steps: int | None
    budget: int
    replay: bool = True


class BudgetSpent(Exception):
    """The next probe would pass the budget: the search ends with what it has."""


class Prober:
    """Runs probes and counts the steps that they spend.

    `safe` is an LR that is known to be healthy, once there is one: what a run falls back to that
    loses its controller.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self.spent = 0
        self.safe: float | None = None

    def run(self, probe: Probe) -> Probing[Result]:
        """Run one probe.

        Raises:
            BudgetSpent: it would pass the budget; nothing was run.
        """
        if self.spent + probe.length > self.job.budget:
            raise BudgetSpent
        result = yield probe
        self.spent += len(result.losses)
        return result.of(probe.length)

    def within(self, lr: float) -> float:
        """`lr` within the job's bounds."""
        return min(max(lr, self.job.low), self.job.high)
