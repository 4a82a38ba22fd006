"""The factor of a cut: the rule's, or what earlier interventions earned in its place."""

from dataclasses import dataclass

from lrpilot_controller.core.model import SignalKind
from lrpilot_controller.core.settings import GuardSettings
from lrpilot_controller.core.view import RunView


@dataclass(frozen=True, slots=True)
class Cut:
    """By what to cut.

    Attributes:
        factor: what multiplies the LR.
        rule: the rule's factor where factors are tuned; None where they are not, or where another
            rule than the first one is at work.
    """

    factor: float
    rule: float | None = None

    def __str__(self) -> str:
        if self.rule in (None, self.factor):
            return f"x{self.factor:.3g}"
        return f"x{self.factor:.3g} (earned, the rule is x{self.rule:.3g})"


def rule_of(rule: GuardSettings, kind: SignalKind) -> float:
    """The factor of a first cut for a signal of this kind."""
    return rule.too_high_factor if kind is SignalKind.TOO_HIGH else rule.factor


def first_cut(view: RunView, kind: SignalKind, rule: GuardSettings) -> Cut:
    """A cut where none before it was in vain."""
    factor = rule_of(rule, kind)
    if not view.tuned:
        return Cut(factor)
    return Cut(view.earned.get(kind, factor), factor)
