"""What people ask of a run: whether it can be done now, and what follows from it."""

from lrpilot_controller.core.desk import Desk
from lrpilot_controller.core.events import Commanded, Output
from lrpilot_controller.core.guardrails import Refusal
from lrpilot_controller.core.model import Action, Decision, DecisionStatus, Proposal
from lrpilot_controller.core.plans import Plan
from lrpilot_controller.core.searches import Searches
from lrpilot_controller.core.view import RunView
from lrpilot_controller.core.watch import Watch


class Commands:
    """Carries out what is asked of one attempt.

    Args:
        view: the run as it stands, which this keeps up to date.
        watch: told of decisions that end a probation.
        searches: begun, approved and ended here.
        desk: decides.
    """

    def __init__(self, view: RunView, watch: Watch, searches: Searches, desk: Desk) -> None:
        self._view = view
        self._watch = watch
        self._searches = searches
        self._desk = desk

    def why_not(self, command: Commanded) -> str | None:
        """Why it cannot be done now; None where it can."""
        view = self._view
        match command.kind:
            case "search":
                return self._searches.why_not()
            case "freeze" if view.frozen:
                return "it is frozen already"
            case "release" if not (view.frozen or view.plan or view.searching):
                return "there is nothing to release: it is not frozen, and at its native LR"
            case "set_lr" if view.searching:
                return "it is searching: `lrpilot freeze` ends the search"
            case "approve":
                return self._why_not_approve(command)
        proposal = self._proposal(command)
        verdict = self._desk.judge(view, proposal) if proposal is not None else None
        return verdict.reason if isinstance(verdict, Refusal) else None

    def _why_not_approve(self, command: Commanded) -> str | None:
        waiting = self._view.proposed
        if waiting is None:
            return "no decision of it waits for approval"
        if waiting.id != command.decision_id:
            return f"decision {command.decision_id} does not wait for approval, {waiting.id} does"
        if waiting.signal is None:
            return self._searches.why_not_approved()
        verdict = self._desk.judge(self._view, self._desk.waiting())
        return verdict.reason if isinstance(verdict, Refusal) else None

    def take(self, command: Commanded, out: list[Output]) -> None:
        """Do it, where it can be done."""
        if self.why_not(command) is not None:
            return
        view = self._view
        match command.kind:
            case "search":
                self._searches.begin(None, out, approved=True)
                return
            case "approve":
                self._approve(command.who, out)
                return
            case "freeze":
                view.frozen = True
                self._desk.withdraw(view, DecisionStatus.SUPERSEDED, out, command.who)
                self._searches.end_early(_told(command, "freezes the run"))
                return
            case "release":
                view.frozen = False
                self._searches.end_early(_told(command, "releases the run"), native=True)
        proposal = self._proposal(command)
        if proposal is not None:
            self._sent(self._desk.decide(view, proposal, out), out)

    def _approve(self, who: str, out: list[Output]) -> None:
        waiting = self._view.proposed
        if waiting is not None and waiting.signal is None:
            self._searches.approve(who, out)
        else:
            self._sent(self._desk.approve(self._view, self._desk.waiting(), who, out), out)

    def _sent(self, verdict: Decision | Refusal, out: list[Output]) -> None:
        if isinstance(verdict, Decision):
            self._watch.interrupted_by(verdict, out)

    def _proposal(self, command: Commanded) -> Proposal | None:
        """The decision that is asked for; None where none is needed."""
        view, who = self._view, command.who
        match command.kind:
            case "set_lr" if command.lr is not None:
                reason = _told(command, f"sets the LR to {command.lr:.4g}")
                plan = Plan.constant(command.lr, view.step)
                return Proposal(Action.PLAN, reason, plan=plan, who=who)
            case "stop":
                return Proposal(Action.STOP, _told(command, "stops the run"), who=who)
            case "release" if view.plan is not None and not view.searching:
                return Proposal(Action.RELEASE, _told(command, "releases the run"), who=who)
        return None


def _told(command: Commanded, deed: str) -> str:
    """Who does what, and why, in a sentence."""
    why = f": {command.why}" if command.why else ""
    return f"{command.who or 'somebody'} {deed}{why}"
