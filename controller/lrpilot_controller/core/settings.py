"""What a person may set about the core's behaviour, with the reason for each default."""

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class GuardSettings:
    """The guard's rule.

    Attributes:
        factor: what a cut multiplies the LR by. A third crosses a decade in two cuts and loses
            little when the LR was only just too high.
        escalated_factor: the cut where the one before did not make the run last longer.
        max_rollbacks: rollbacks in a run; the next one becomes a stop.
    """

    factor: float = 1 / 3
    escalated_factor: float = 0.1
    max_rollbacks: int = 8


@dataclass(frozen=True, slots=True)
class Limits:
    """What no policy may pass.

    Attributes:
        max_factor: largest change of the LR by one decision, up or down.
        max_rollbacks: rollbacks in a run.
        max_rolled_back_fraction: share of the horizon that rollbacks may cost in all; where no
            horizon is known the count alone limits.
        max_probed_fraction: share of the horizon that programs may cost in all; of 2000 steps
            where no horizon is known.
        cooldown_steps: steps between two cuts, and between two notes. A rollback needs none:
            it starts from a healthy state.
    """

    max_factor: float = 10.0
    max_rollbacks: int = 8
    max_rolled_back_fraction: float = 0.5
    max_probed_fraction: float = 0.4
    cooldown_steps: int = 50


class Reuse(StrEnum):
    """What to do with an LR that an earlier run of the same job found."""

    NEVER = "never"  # search anew
    CHECK = "check"  # compare it with its neighbours
    TRUST = "trust"  # take it without a probe


@dataclass(frozen=True, slots=True)
class SearchSettings:
    """The search's rule.

    Attributes:
        reuse: what to do with an LR that an earlier run of the same job found. A check costs a
            few programs and finds out when something changed that the job's name does not tell.
    """

    reuse: Reuse = Reuse.CHECK


@dataclass(frozen=True, slots=True)
class CoreSettings:
    """Everything a person may set about the core."""

    guard: GuardSettings = GuardSettings()
    limits: Limits = Limits()
    search: SearchSettings = SearchSettings()
    probation_steps: int = 50
