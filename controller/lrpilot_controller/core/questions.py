"""What an attempt asks of earlier interventions, ahead of the signals that it may have to answer.

Nothing waits for an answer: where none is there when a signal comes, the rule decides, and what
comes later is ignored.
"""

from collections.abc import Sequence

from lrpilot_controller.core.events import Answered, Asked, Decided, Output
from lrpilot_controller.core.model import Decision, Question, SignalKind
from lrpilot_controller.core.policies.tuned import rule_of
from lrpilot_controller.core.settings import CoreSettings, Reaction
from lrpilot_controller.core.state import Stateful
from lrpilot_controller.core.view import RunView

GENTLEST = 0.9
"""The largest factor that is still a cut."""
CUTTING = (Reaction.CUT, Reaction.ROLLBACK)


class Questions(Stateful):
    """Keeps one question or one answer per kind of signal that a cut would follow from.

    Args:
        view: the run as it stands; `earned` in it is kept here.
        settings: what a person may set.
    """

    _last: int
    _open: dict[str, Question]

    def __init__(self, view: RunView, settings: CoreSettings) -> None:
        self._view = view
        self._last = 0
        self._open = {}
        self.configure(settings)

    def configure(self, settings: CoreSettings) -> None:
        """A person set something anew: what was asked under other settings is void."""
        self._settings = settings
        self._view.tuned = settings.tune.factors
        self._open.clear()
        self._view.earned.clear()

    @property
    def open(self) -> Sequence[Question]:
        """Those that are not answered yet."""
        return list(self._open.values())

    def ask(self, out: list[Output]) -> None:
        """Ask what is neither known nor asked yet."""
        view = self._view
        if not (view.tuned and view.attempt.mode.acts):
            return
        for kind in SignalKind:
            known = kind in self._open or kind in view.earned
            if not known and view.reactions.of(kind) in CUTTING:
                question = self._about(kind)
                self.asked(question)
                out.append(Asked(view.attempt.id, question))

    def asked(self, question: Question) -> None:
        """This one is open."""
        self._last = max(self._last, question.id)
        self._open[question.kind] = question

    def answered(self, event: Answered) -> None:
        """An answer, or that there is none; one that is out of range counts as none."""
        for kind, question in self._open.items():
            if question.id == event.question:
                factor = question.rule if event.factor is None else event.factor
                within = question.low <= factor <= question.high
                self._view.earned[kind] = factor if within else question.rule
                del self._open[kind]
                return

    def follow(self, out: list[Output]) -> None:
        """What was decided is settled; the next of its kind is asked for now."""
        for output in out:
            if isinstance(output, Decided):
                self.settled(output.decision)
        self.ask(out)

    def settled(self, decision: Decision) -> None:
        """A factor was decided on: the answer is used, or comes too late."""
        if decision.rule is None or decision.signal is None:
            return
        self._open.pop(decision.signal.kind, None)
        self._view.earned.pop(decision.signal.kind, None)

    def _about(self, kind: SignalKind) -> Question:
        rule, span = rule_of(self._settings.guard, kind), self._settings.tune.span
        # No guardrail would let a smaller one pass.
        low = min(max(rule / span, 1 / self._settings.limits.max_factor), rule)
        high = max(min(rule * span, GENTLEST), rule)
        return Question(self._last + 1, kind, rule, low, high)
