"""A run followed by its records where not all of its telemetry is left: nothing is decided anew."""

from lrpilot_controller.core.desk import Desk
from lrpilot_controller.core.events import (
    Answered,
    Asked,
    Commanded,
    Decided,
    Event,
    FellBack,
    OutcomeMeasured,
    Output,
    PriorAnswered,
    ProgramEnded,
    ReceiptArrived,
    Resolved,
    SaidGoodbye,
    SearchEnded,
    SnapshotProven,
    SnapshotTaken,
)
from lrpilot_controller.core.findings import SearchEnd, SearchResult
from lrpilot_controller.core.model import Action, Decision, DecisionStatus, Receipt
from lrpilot_controller.core.questions import Questions
from lrpilot_controller.core.searches import Searches
from lrpilot_controller.core.telemetry import Samples, Thinned
from lrpilot_controller.core.view import RunView
from lrpilot_controller.core.watch import Watch


class Recall:
    """Takes one attempt's records: what was decided and answered is as it was recorded.

    The detectors see what is left of the losses, and what they make of them is not heard.

    Args:
        view: the run as it stands, which this keeps up to date.
        watch: sees the losses, and what was applied.
        searches: what is known of those that are over; one under way cannot be gone on with.
        questions: what is asked and answered.
        desk: numbers go on after those of the records.
    """

    def __init__(
        self,
        view: RunView,
        watch: Watch,
        searches: Searches,
        questions: Questions,
        desk: Desk,
    ) -> None:
        self._view = view
        self._watch = watch
        self._searches = searches
        self._questions = questions
        self._desk = desk
        self._waiting: int | None = None  # the decision that waits for a person
        self._searching = False

    def take(self, event: Event) -> None:
        """The next record."""
        view = self._view
        match event:
            case Samples():
                self._samples(event, heard=True)
            case Thinned():
                self._samples(event.rows, heard=False)
            case Asked(question=question):
                self._questions.asked(question)
            case Answered():
                self._questions.answered(event)
            case Decided(decision):
                self._questions.settled(decision)
                self._decided(decision)
            case Resolved():
                self._waiting = None
            case ReceiptArrived():
                self._answered(event.receipt)
            case SnapshotTaken() if event.proven or event.branch == view.branch:
                view.branch = event.branch
                self._watch.kept(event, proven=event.proven)
            case SnapshotProven():
                self._watch.recall_proof(event.snapshot)
            case OutcomeMeasured() | SaidGoodbye():
                self._watch.end([])
            case PriorAnswered():
                self._searches.known = event.known
            case ProgramEnded():
                self._searches.ended(event, [])
            case FellBack():
                self._searches.fell_back(event, [])
                view.in_flight = None
            case SearchEnded():
                self._searching = False
                self._watch.begin_anew((), [])
            case Commanded(kind="freeze" | "release"):
                view.frozen = event.kind == "freeze"
            case _:
                pass

    def end(self) -> list[Output]:
        """There are no more: what cannot be gone on with is over."""
        view, out = self._view, list[Output]()
        if self._waiting is not None:
            out.append(Resolved(self._waiting, DecisionStatus.EXPIRED))
        if self._searching:
            why = "the state of the search is not kept"
            result = SearchResult(SearchEnd.ABANDONED, view.lr, view.probe_steps, why)
            out.append(SearchEnded(view.attempt.id, result))
        self._waiting, self._searching = None, False
        return out

    def _samples(self, samples: Samples, *, heard: bool) -> None:
        view = self._view
        rows = zip(samples.step, samples.branch, samples.program, strict=True)
        for i, (step, branch, program) in enumerate(rows):
            view.step = max(view.step, step)
            if branch != view.branch or program:
                continue
            view.lr = samples.lrs[0 if len(samples.lrs) == 1 else i][0]
            if heard:
                self._watch.recall_loss(step, samples.loss[i], validation=samples.validation[i])

    def _decided(self, decision: Decision) -> None:
        self._desk.skip(decision.id)
        if decision.program is not None and decision.status is not DecisionStatus.SHADOW:
            self._searches.forget()
        match decision.status:
            case DecisionStatus.PROPOSED:
                self._waiting = decision.id
            case DecisionStatus.SENT if decision.action is Action.NOTE:
                self._view.last_note_step = decision.step
            case DecisionStatus.SENT:
                self._searching = self._searching or decision.program is not None
                self._view.in_flight = decision
                self._watch.interrupted_by(decision, [])

    def _answered(self, receipt: Receipt) -> None:
        view, decision = self._view, self._view.in_flight
        if decision is None or decision.id != receipt.decision_id:
            return
        view.in_flight = None
        view.step = max(view.step, receipt.applied_step)
        if receipt.status is not DecisionStatus.APPLIED:
            view.branch = receipt.branch_after
            if receipt.status is DecisionStatus.REJECTED and decision.restore_snapshot is not None:
                view.snapshot = None
        elif decision.program is not None:
            self._searches.late(decision, receipt)
        elif decision.signal is None and decision.who is None:  # the end of a search
            view.branch, view.plan = receipt.branch_after, decision.plan
            view.lr, view.last_change_step = receipt.lrs_after[0], receipt.applied_step
        else:
            self._watch.answered(decision, receipt, [])
