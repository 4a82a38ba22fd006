"""What a person may set about the core's behaviour, with the reason for each default."""

from dataclasses import dataclass


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
        cooldown_steps: steps between two cuts, and between two notes. A rollback needs none:
            it starts from a healthy state.
    """

    max_factor: float = 10.0
    max_rollbacks: int = 8
    max_rolled_back_fraction: float = 0.5
    cooldown_steps: int = 50


@dataclass(frozen=True, slots=True)
class CoreSettings:
    """Everything a person may set about the core."""

    guard: GuardSettings = GuardSettings()
    limits: Limits = Limits()
    probation_steps: int = 50
