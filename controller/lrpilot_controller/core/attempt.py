"""One attempt of a run: what arrives of it, handed to whom it concerns."""

from dataclasses import replace

from lrpilot_controller.core.commands import Commands
from lrpilot_controller.core.desk import Desk
from lrpilot_controller.core.events import (
    OLDER_JOURNAL,
    Answered,
    Commanded,
    Configured,
    Event,
    FellBack,
    Input,
    Noticed,
    Output,
    PriorAnswered,
    ProgramEnded,
    ReceiptArrived,
    Refused,
    Requested,
    SaidGoodbye,
    SessionLost,
    SessionOpened,
    SnapshotTaken,
)
from lrpilot_controller.core.model import Attempt, DecisionStatus
from lrpilot_controller.core.plans import Plan, PlanKind, Segment, Shape
from lrpilot_controller.core.policies.base import Policy
from lrpilot_controller.core.questions import Questions
from lrpilot_controller.core.recall import Recall
from lrpilot_controller.core.searches import Searches
from lrpilot_controller.core.settings import CoreSettings
from lrpilot_controller.core.state import Stateful
from lrpilot_controller.core.telemetry import Samples
from lrpilot_controller.core.view import RunView
from lrpilot_controller.core.watch import Watch


class LiveAttempt(Stateful):
    """One attempt: what arrives of it, handed to whom it concerns."""

    view: RunView
    watch: Watch
    searches: Searches
    questions: Questions

    def __init__(self, view: RunView, watch: Watch, desk: Desk, settings: CoreSettings) -> None:
        self.view = view
        self.watch = watch
        self.searches = Searches(view, self.watch, desk, settings)
        self.commands = Commands(view, self.watch, self.searches, desk)
        self.questions = Questions(view, settings)
        self.recall = Recall(view, self.watch, self.searches, self.questions, desk)
        self._desk = desk
        self._settings = settings
        view.reactions = settings.reactions_for(view.attempt)

    def configure(self, policy: Policy, settings: CoreSettings) -> None:
        """A person set something anew."""
        self.watch.configure(policy, settings)
        self.searches.configure(settings)
        self.questions.configure(settings)
        self._settings = settings
        self.view.reactions = settings.reactions_for(self.view.attempt)

    def reopened(self, attempt: Attempt, out: list[Output]) -> None:
        """The same process on a new stream: its mode, bounds and wish to search may be others."""
        view, mode = self.view, attempt.mode
        if not attempt.search:
            self.searches.forget()
        changed = mode is not view.attempt.mode
        view.attempt = replace(
            view.attempt,
            mode=mode,
            min_lr=attempt.min_lr,
            max_lr=attempt.max_lr,
            plan=attempt.plan,
            last_decision=attempt.last_decision,
        )
        if not changed:
            return
        view.reactions = self._settings.reactions_for(view.attempt)
        self._desk.withdraw(view, DecisionStatus.EXPIRED, out)  # it was made under another mode
        if not mode.acts:
            self.searches.abandon(f"the run's mode is {mode} now", out)

    def concerns(self, event: Event) -> bool:
        """Whether an event is of this attempt, or of the run as a whole."""
        return getattr(event, "attempt", self.view.attempt.id) == self.view.attempt.id

    def take(self, event: Input, out: list[Output]) -> None:
        """Take the next event, and ask for what may be needed after it."""
        self._take(event, out)
        if out:
            self.questions.follow(out)

    def _take(self, event: Input, out: list[Output]) -> None:
        match event:
            case Samples():
                self._sample(event, out)
            case ReceiptArrived():
                self._answered(event, out)
            case SnapshotTaken() if event.proven or event.branch == self.view.branch:
                self.view.branch = event.branch
                self.watch.kept(event, proven=event.proven)
                self.searches.kept(event, out)
            case SaidGoodbye():
                self.end(out)
            case PriorAnswered():
                self.searches.known = event.known
            case Answered():
                self.questions.answered(event)
            case ProgramEnded():
                self.searches.ended(event, out)
            case FellBack():
                self.searches.fell_back(event, out)
            case Requested(kind="finish"):
                self._finish(event, out)
            case Requested(kind="search"):
                self.searches.begin(None, out)
            case Commanded():
                self.commands.take(event, out)
            case Noticed(kind=kind) if kind == OLDER_JOURNAL:
                self._catch_up(out)
            case Configured() | SessionOpened() | SessionLost() | Noticed() | Requested():
                pass
            case SnapshotTaken():
                pass  # of a branch that was left

    def _catch_up(self, out: list[Output]) -> None:
        """The trainer went on without this journal: what was under way here is long over there."""
        view = self.view
        self.searches.forget()
        self.searches.abandon("the journal is older than the run", out)
        self._desk.withdraw(view, DecisionStatus.EXPIRED, out)
        view.plan, view.program = view.attempt.plan, None
        if view.in_flight is not None and view.in_flight.id <= view.attempt.last_decision:
            view.in_flight = None  # it was answered, and the answer is lost

    def end(self, out: list[Output]) -> None:
        """The attempt is over."""
        self.watch.end(out)
        self._desk.withdraw(self.view, DecisionStatus.EXPIRED, out)
        self.searches.abandon("the attempt ended", out)

    def _sample(self, samples: Samples, out: list[Output]) -> None:
        view, watch, lrs = self.view, self.watch, samples.lrs
        one_row = len(lrs) == 1
        rows = zip(
            samples.validation,
            samples.step,
            samples.branch,
            samples.program,
            samples.loss,
            strict=True,
        )
        for i, (validation, step, branch, program, loss) in enumerate(rows):
            if branch != view.branch and not program:
                continue
            if step > view.step:
                view.step = step
            if program:
                continue
            view.lr = lrs[0 if one_row else i][0]
            if view.proposed is not None and (late := self._desk.expire(view, out)):
                watch.expired(late)
            if validation:
                watch.validated(step, loss, out)
            else:
                watch.trained(step, loss, out)
            if watch.wanted is not None:
                self._experiment(out)

    def _experiment(self, out: list[Output]) -> None:
        """The policy wants programs to be run."""
        wanted, self.watch.wanted = self.watch.wanted, None
        assert wanted is not None
        if wanted.factors:
            why_not = self.searches.try_out(wanted.factors, wanted.reason, out)
        elif (why_not := self.searches.why_not()) is None:
            self.searches.begin(wanted.snapshot, out, why=wanted.reason)
        if why_not is not None:
            out.append(Refused(wanted.signal, why_not))

    def _answered(self, event: ReceiptArrived, out: list[Output]) -> None:
        view, receipt = self.view, event.receipt
        decision = view.in_flight
        if decision is None or decision.id != receipt.decision_id:
            return
        view.in_flight = None
        if self.searches.owns(decision):
            self.searches.answered(decision, receipt, out)
        elif decision.program is not None:
            self.searches.late(decision, receipt)
        else:
            self.watch.answered(decision, receipt, out)

    def _finish(self, event: Requested, out: list[Output]) -> None:
        """The trainer decays to 0 by itself: know the plan, in case it has to be cut."""
        self.searches.finish(out)
        view = self.view
        replaces = view.plan is not None and view.plan.kind is PlanKind.REPLACE
        value = view.lr if replaces else view.plan.end_value if view.plan else 1.0
        end = event.step + event.steps
        segment = Segment(Shape.LINEAR, event.step, end, value, 0.0)
        view.plan = Plan(PlanKind.REPLACE if replaces else PlanKind.SCALE, (segment,))
