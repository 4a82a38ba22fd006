"""What a person may set about the core's behaviour, with the reason for each default."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from lrpilot_controller.core.model import Attempt, Mode, SignalKind
from lrpilot_proto import reactions as words


@dataclass(frozen=True, slots=True)
class GuardSettings:
    """The guard's rule.

    Attributes:
        factor: what a cut multiplies the LR by. A third crosses a decade in two cuts and loses
            little when the LR was only just too high.
        escalated_factor: the cut where the one before did not make the run last longer.
        too_high_factor: the cut where the LR is too high from the first steps on. By then it is
            most often ten times too high or more: at three times it is seldom seen.
        max_rollbacks: rollbacks in a run; the next one becomes a stop.
    """

    factor: float = 1 / 3
    escalated_factor: float = 0.1
    too_high_factor: float = 0.1
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
    CHECK = "check"  # repeat one program at it, and search anew where that comes less far
    TRUST = "trust"  # take it without a probe


@dataclass(frozen=True, slots=True)
class SearchSettings:
    """The search's rule.

    Attributes:
        reuse: what to do with an LR that an earlier run of the same job found. A check costs a
            program, and finds out when something changed that the job's name does not tell.
    """

    reuse: Reuse = Reuse.CHECK


@dataclass(frozen=True, slots=True)
class TuneSettings:
    """What earlier interventions may change about the guard's rule.

    Attributes:
        factors: whether a factor that they earned takes the place of the rule's. Off here, because
            settings that an older version recorded do not say it: then the rule decides.
        span: a factor is at most so many times the rule's, and at least as small a part of it.
    """

    factors: bool = False
    span: float = 3.0


class Reaction(StrEnum):
    """What follows from a signal."""

    OFF = "off"  # it is not reported
    SAY = "say"  # it is reported, and nothing is done
    WAIT = "wait"
    CUT = "cut"
    ROLLBACK = "rollback"
    PROBE = "probe"
    SEARCH = "search"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class Reactions:
    """What follows from each kind of signal.

    A blow-up is answered at once, because waiting makes it worse. An LR that is seen to be too
    high is cut. What costs steps to try (a plateau, an LR too low) or is not the LR's fault
    (overfitting) is only said until a person asks for more. While a spike is on, nothing else is
    decided.
    """

    nonfinite: Reaction = Reaction.ROLLBACK
    divergence: Reaction = Reaction.ROLLBACK
    spike: Reaction = Reaction.WAIT
    oscillation: Reaction = Reaction.CUT
    too_high: Reaction = Reaction.CUT
    plateau: Reaction = Reaction.SAY
    too_low: Reaction = Reaction.SAY
    overfit: Reaction = Reaction.SAY

    def of(self, kind: SignalKind) -> Reaction:
        """What follows from a signal of this kind."""
        reaction: Reaction = getattr(self, kind.value)
        return reaction

    def overridden(self, reactions: Mapping[str, str]) -> "Reactions":
        """These, with others for some kinds of signal.

        Raises:
            ValueError: there is no such signal, or the word is not allowed for it, with what is.
        """
        words.check(reactions)
        return replace(self, **{kind: Reaction(word) for kind, word in reactions.items()})

    @classmethod
    def none(cls) -> "Reactions":
        """No signal is reported."""
        return cls().overridden({kind.value: Reaction.OFF for kind in SignalKind})


@dataclass(frozen=True, slots=True)
class CoreSettings:
    """Everything a person may set about the core.

    Attributes:
        reactions: what follows from signals where neither the training code nor `insisted` says
            otherwise.
        insisted: reactions by the kind of signal, set by the operator for this run above all.
        probation_steps: how long a decision is measured, at least.
    """

    guard: GuardSettings = GuardSettings()
    limits: Limits = Limits()
    search: SearchSettings = SearchSettings()
    tune: TuneSettings = TuneSettings()
    reactions: Reactions = Reactions()
    insisted: Mapping[str, Reaction] = field(default_factory=dict)
    probation_steps: int = 50

    def reactions_for(self, attempt: Attempt) -> Reactions:
        """What is in force for an attempt; a word that only a newer version knows is left out."""
        if attempt.mode is Mode.OFF:
            return Reactions.none()
        asked = {k: word for k, word in attempt.signals.items() if words.is_allowed(k, word)}
        return self.reactions.overridden(asked).overridden(self.insisted)
