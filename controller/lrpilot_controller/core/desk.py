"""Where a proposal becomes a decision: judged, numbered, and one at a time."""

from lrpilot_controller.core.events import Decided, Output
from lrpilot_controller.core.guardrails import Guardrails, Refusal
from lrpilot_controller.core.model import Action, Decision, DecisionStatus, Proposal
from lrpilot_controller.core.settings import Limits
from lrpilot_controller.core.view import RunView


class Desk:
    """Numbers what the guardrails let through."""

    def __init__(self, limits: Limits) -> None:
        self._guardrails = Guardrails(limits)
        self._last = 0

    def configure(self, limits: Limits) -> None:
        """Judge by these limits from now on."""
        self._guardrails = Guardrails(limits)

    def skip(self, up_to: int) -> None:
        """Never use a number up to this one."""
        self._last = max(self._last, up_to)

    def decide(self, view: RunView, proposal: Proposal, out: list[Output]) -> Decision | Refusal:
        """Let a proposal through, or not; until its receipt arrives nothing else is decided."""
        verdict = self._guardrails.judge(view, proposal, self._last + 1)
        if isinstance(verdict, Decision):
            self._last = verdict.id
            out.append(Decided(verdict))
            if verdict.status is DecisionStatus.SENT and verdict.action is not Action.NOTE:
                view.in_flight = verdict
        return verdict
