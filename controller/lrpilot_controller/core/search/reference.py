"""The losses of the batches that every probe replays, before any training."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lrpilot_controller.core.search.job import Prober
from lrpilot_controller.core.search.probe import Phase, Probe, Probing, held, mean

STEPS = 6  # enough for a spread; the paired parts of the search need no more
LAST = 4  # of them, whose differences are averaged; the first one cannot differ
UNPAIRED_STEPS = 16  # where nothing is paired, the level itself must be known
UNPAIRED_SHARE = 0.03  # of the horizon, at most


@dataclass(frozen=True, slots=True)
class Reference:
    """Losses at LR 0. `level` is their mean, `noise` their standard deviation over batches.

    The noise is the search's unit until something was learnt: a loss has no natural zero, so no
    threshold is a share of its level.
    """

    losses: tuple[float, ...]
    level: float
    noise: float

    @property
    def error(self) -> float:
        """The standard error of the level."""
        return self.noise / math.sqrt(len(self.losses))

    @property
    def worst(self) -> float:
        """The highest of the losses."""
        return max(self.losses)

    def fall(self, losses: Sequence[float]) -> float:
        """How far losses on the same batches, from the first one on, are below these."""
        falls = [before - loss for before, loss in zip(self.losses, losses, strict=False)]
        return math.fsum(falls[-LAST:]) / LAST


def measure(prober: Prober) -> Probing[Reference | None]:
    """Steps at LR 0, which change nothing; None where a loss is not finite."""
    job, steps = prober.job, STEPS
    if not job.replay:
        affordable = int(UNPAIRED_SHARE * job.steps) if job.steps else UNPAIRED_STEPS
        steps = max(STEPS, min(UNPAIRED_STEPS, affordable))
    result = yield from prober.run(Probe(Phase.REFERENCE, 0.0, held(0.0, steps), steps))
    if not result.complete:
        return None
    level = mean(result.losses)
    spread = math.fsum((loss - level) ** 2 for loss in result.losses) / (len(result.losses) - 1)
    # Where every batch has the same loss there is no noise, and rounding is the only unit.
    return Reference(result.losses, level, max(math.sqrt(spread), 1e-6 * abs(level), 1e-12))
