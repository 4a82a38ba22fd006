"""Where a proposal becomes a decision: judged, numbered, and one at a time."""

from dataclasses import replace

from lrpilot_controller.core.events import Decided, Output, Resolved
from lrpilot_controller.core.guardrails import Guardrails, Refusal
from lrpilot_controller.core.model import Action, Decision, DecisionStatus, Proposal
from lrpilot_controller.core.settings import Limits
from lrpilot_controller.core.state import Stateful
from lrpilot_controller.core.view import RunView


class Desk(Stateful):
    """Numbers what the guardrails let through; at most one decision waits for a person."""

    _last: int
    _waiting: Proposal | None

    def __init__(self, limits: Limits) -> None:
        self._guardrails = Guardrails(limits)
        self._last = 0
        self._waiting = None

    def configure(self, limits: Limits) -> None:
        """Judge by these limits from now on."""
        self._guardrails = Guardrails(limits)

    def skip(self, up_to: int) -> None:
        """Never use a number up to this one."""
        self._last = max(self._last, up_to)

    def judge(self, view: RunView, proposal: Proposal) -> Decision | Refusal:
        """What `decide` would say, without deciding."""
        return self._guardrails.judge(view, proposal, self._last + 1)

    def decide(self, view: RunView, proposal: Proposal, out: list[Output]) -> Decision | Refusal:
        """Let a proposal through, or not; until its receipt arrives nothing else is decided.

        One that needs a person's approval waits for it, in the place of one that waited before.
        What is sent takes that one's place too: it was made for another situation.
        """
        verdict = self.judge(view, proposal)
        if isinstance(verdict, Decision):
            self._last = verdict.id
            waits = verdict.status is DecisionStatus.PROPOSED
            if waits or verdict.status is DecisionStatus.SENT:
                self.withdraw(view, DecisionStatus.SUPERSEDED, out)
            if waits:
                view.proposed, self._waiting = verdict, proposal
            self._issue(view, verdict, out)
        return verdict

    # -- decisions that wait for a person

    def waiting(self) -> Proposal:
        """The proposal whose decision waits, as if it were approved."""
        assert self._waiting is not None
        return replace(self._waiting, approved=True)

    def approve(
        self, view: RunView, proposal: Proposal, who: str, out: list[Output]
    ) -> Decision | Refusal:
        """Send the decision that waits, with its number, as it is judged by what is now."""
        assert view.proposed is not None
        number = view.proposed.id
        verdict = self._guardrails.judge(view, replace(proposal, approved=True), number)
        if isinstance(verdict, Decision):
            self.withdraw(view, DecisionStatus.APPROVED, out, who)
            self._issue(view, verdict, out)
        return verdict

    def withdraw(
        self, view: RunView, status: DecisionStatus, out: list[Output], who: str | None = None
    ) -> None:
        """No decision waits any longer; `status` says what became of the one that did."""
        if view.proposed is not None:
            out.append(Resolved(view.proposed.id, status, who))
        view.proposed = self._waiting = None

    def expire(self, view: RunView, out: list[Output]) -> Decision | None:
        """The decision that waited until it was too late, if one did just now."""
        waiting = view.proposed
        if waiting is None or waiting.expires_at_step is None:
            return None
        if view.step < waiting.expires_at_step:
            return None
        self.withdraw(view, DecisionStatus.EXPIRED, out)
        return waiting

    def _issue(self, view: RunView, decision: Decision, out: list[Output]) -> None:
        out.append(Decided(decision))
        if decision.status is DecisionStatus.SENT and decision.action is not Action.NOTE:
            view.in_flight = decision
