"""One run's state machine: events in, signals and decisions out.

Detectors see a sample, the policy proposes, the guardrails decide; this is the only place where
the three meet. Between a decision and its receipt nothing else is decided. Feeding the same
events again gives the same outputs, however the samples were batched.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from lrpilot_controller.core.detectors import Detectors
from lrpilot_controller.core.events import (
    Commanded,
    Decided,
    FellBack,
    Input,
    Noticed,
    OutcomeMeasured,
    Output,
    PriorAnswered,
    ProgramEnded,
    ReceiptArrived,
    Refused,
    Requested,
    SaidGoodbye,
    Samples,
    SearchEnded,
    SessionLost,
    SessionOpened,
    SignalSeen,
    SnapshotProven,
    SnapshotTaken,
)
from lrpilot_controller.core.guardrails import Guardrails, Refusal
from lrpilot_controller.core.model import (
    Action,
    Attempt,
    Decision,
    DecisionStatus,
    Mode,
    Plan,
    PlanKind,
    Proposal,
    Receipt,
    SearchEnd,
    Segment,
    Shape,
    Signal,
    SignalKind,
)
from lrpilot_controller.core.policies.base import Policy
from lrpilot_controller.core.policies.guard import GuardPolicy
from lrpilot_controller.core.probation import Probation
from lrpilot_controller.core.searching import Searching, can_search
from lrpilot_controller.core.settings import CoreSettings
from lrpilot_controller.core.snapshots import Snapshot, Snapshots
from lrpilot_controller.core.view import RunView

PolicyFactory = Callable[[CoreSettings], Policy]


def guard_policy(settings: CoreSettings) -> Policy:
    """The policy that runs unless another one is named."""
    return GuardPolicy(settings.guard)


class Engine:
    """Decides for one run.

    Args:
        settings: what a person may set.
        policy: makes the policy; the guard unless given.
    """

    def __init__(
        self, settings: CoreSettings | None = None, policy: PolicyFactory = guard_policy
    ) -> None:
        self._settings = settings or CoreSettings()
        self._policy = policy(self._settings)
        self._guardrails = Guardrails(self._settings.limits)
        self._last_decision = 0
        self._view: RunView | None = None
        self._detectors = Detectors()
        self._snapshots = Snapshots(proof_steps=1)
        self._probation: Probation | None = None
        self._unresolved: tuple[Signal, int] | None = None  # and the step to look again
        self._on_trial: int | None = None  # the step to see what a rollback's cut gained
        self._search: Searching | None = None
        self._due = False  # a search begins with the start snapshot
        self._known: float | None = None  # the LR that an earlier run of the same job found

    @property
    def view(self) -> RunView | None:
        """What is known of the run now; None before its first session."""
        return self._view

    def skip_decisions(self, up_to: int) -> None:
        """Never use a decision id up to this one: the journal holds them already."""
        self._last_decision = max(self._last_decision, up_to)

    def feed(self, event: Input) -> list[Output]:
        """Take the next event and say what follows from it."""
        out: list[Output] = []
        match event:
            case SessionOpened(attempt):
                self._open(attempt, out)
            case Samples():
                self._take(event, out)
            case ReceiptArrived():
                self._receive(event, out)
            case SnapshotTaken():
                self._note_snapshot(event, out)
            case SaidGoodbye():
                self._end_probation(out)
            case PriorAnswered():
                self._known = event.lr
            case ProgramEnded():
                self._end_program(event, out)
            case FellBack():
                self._fall_back(event, out)
            case Requested(kind="finish"):
                self._finish(event)
            case Requested(kind="search") | Commanded(kind="search"):
                self._begin_search(None, out)
            case SessionLost() | Noticed() | Requested() | Commanded():
                pass
        return out

    def _open(self, attempt: Attempt, out: list[Output]) -> None:
        known = self._view.attempt if self._view else None
        if known and (known.id, known.resumes) == (attempt.id, attempt.resumes):
            return  # the same process on a new stream
        self._end_probation(out)
        # Another process: what the old one held in memory is gone, and where it resumed from an
        # older checkpoint the loss may rightly be higher than it was.
        view = RunView(attempt, step=attempt.start_step, branch=attempt.branch, plan=attempt.plan)
        view.lr = attempt.groups[0].base_lr * attempt.scale
        if self._view is not None:
            view.rollbacks = self._view.rollbacks
            view.rolled_back_steps = self._view.rolled_back_steps
        self._view = view
        self._detectors = Detectors(attempt.total_steps, attempt.steps_per_epoch)
        self._snapshots = Snapshots(proof_steps=view.time_scale // 2)
        self._unresolved = self._on_trial = None
        self._abandon_search(out, "the attempt is over")
        self._known = None
        self._due = attempt.search and attempt.resumes is None and can_search(attempt)

    def _take(self, samples: Samples, out: list[Output]) -> None:
        view = self._view
        if view is None or samples.attempt != view.attempt.id:
            return
        one_row = len(samples.lrs) == 1
        rows = zip(
            samples.validation,
            samples.step,
            samples.branch,
            samples.program,
            samples.loss,
            strict=True,
        )
        for i, (validation, step, branch, program, loss) in enumerate(rows):
            if program:
                view.step = max(view.step, step)
            if branch != view.branch or program:
                continue
            view.step = max(view.step, step)
            view.lr = samples.lrs[0 if one_row else i][0]
            if validation:
                self._judge(self._detectors.update(step, None, loss, view.lr), out)
                continue
            self._judge(self._detectors.update(step, loss, None, view.lr), out)
            if self._probation and (outcome := self._probation.update(loss)):
                self._probation = None
                out.append(OutcomeMeasured(outcome))
            # The level does not see a loss that is no number: it would prove a state of NaN.
            healthy = math.isfinite(loss) and self._detectors.healthy
            if view.in_flight is not None:
                continue
            # Nor is a state above the start worth keeping while the first steps are judged.
            worthy = healthy and (self._detectors.gained or not self._detectors.watching)
            if (proven := self._snapshots.update(worthy)) is not None:
                self._newest(view, proven)
                out.append(SnapshotProven(view.attempt.id, proven))
            if self._unresolved is not None:
                self._look_again(step, healthy, out)
            if self._on_trial is not None and step >= self._on_trial:
                self._see_gain(step, out)

    def _judge(self, signals: Sequence[Signal], out: list[Output]) -> None:
        for signal in signals:
            out.append(SignalSeen(signal))
        for signal in signals:
            if self._answer(signal, out):
                break  # two findings of one sample, one action

    def _answer(self, signal: Signal, out: list[Output]) -> bool:
        view = self._view
        assert view is not None
        if view.in_flight is not None or self._search is not None:
            return False  # the trainer has not answered the last decision yet, or runs a program
        proposal = self._policy.decide(view, signal)
        if proposal is None:
            return False
        verdict = self._guardrails.judge(view, proposal, self._last_decision + 1)
        if isinstance(verdict, Refusal):
            out.append(Refused(signal, verdict.reason))
            if verdict.again_at is not None:
                self._unresolved = (signal, verdict.again_at)
            if not verdict.spent or view.rollbacks_spent:
                return False
            view.rollbacks_spent = True
            return self._answer(signal, out)  # what would the policy do without them?
        self._send(view, verdict, out)
        if verdict.action is Action.NOTE:
            view.last_note_step = view.step
        if verdict.action is not Action.NOTE and self._probation:
            self._fail_probation(verdict, out)
        return True

    def _send(self, view: RunView, decision: Decision, out: list[Output]) -> None:
        self._last_decision = decision.id
        out.append(Decided(decision))
        if decision.status is DecisionStatus.SENT and decision.action is not Action.NOTE:
            view.in_flight = decision

    def _look_again(self, step: int, healthy: bool, out: list[Output]) -> None:
        """A blow-up that a cut was to end, or that came too soon after one: is it over?"""
        assert self._unresolved is not None
        signal, due = self._unresolved
        if step < due:
            return
        self._unresolved = None
        if not healthy:
            self._answer(replace(signal, step=step), out)

    def _see_gain(self, step: int, out: list[Output]) -> None:
        """A rollback's cut has had its time: above the start, the rate must still be too high."""
        view, seen, self._on_trial = self._view, self._detectors, None
        if view is None or seen.gained:
            return
        view.in_vain += 1
        evidence = {"in_vain_since": view.began, "level": seen.level, "start": seen.start}
        known = {name: float(value or 0) for name, value in evidence.items()}
        self._judge([Signal(SignalKind.DIVERGENCE, step, step, 0.5, known)], out)

    def _fail_probation(self, decision: Decision, out: list[Output]) -> None:
        assert self._probation is not None
        blew_up = decision.action in (Action.ROLLBACK, Action.STOP)
        probation, self._probation = self._probation, None
        outcome = probation.rolled_back() if blew_up else probation.unfinished()
        out.append(OutcomeMeasured(outcome))

    def _end_probation(self, out: list[Output]) -> None:
        if self._probation is not None:
            out.append(OutcomeMeasured(self._probation.unfinished()))
            self._probation = None

    def _receive(self, event: ReceiptArrived, out: list[Output]) -> None:
        view, receipt = self._view, event.receipt
        if view is None or event.attempt != view.attempt.id:
            return
        decision = view.in_flight
        if decision is None or decision.id != receipt.decision_id:
            return
        view.in_flight = None
        if self._search is not None and decision.signal is None:
            self._searched(view, decision, receipt, out)
            return
        if receipt.status is DecisionStatus.APPLIED:
            self._applied(view, decision, event)
            return
        if receipt.status is DecisionStatus.REJECTED and decision.restore_snapshot is not None:
            view.snapshot = None  # the trainer cannot go back there
        elif receipt.status is not DecisionStatus.EXPIRED:
            return
        if decision.signal is not None:
            # Nobody acted on the signal, and a detector speaks once per episode: judge it anew.
            view.step = max(view.step, receipt.applied_step)
            self._answer(replace(decision.signal, step=view.step), out)

    def _applied(self, view: RunView, decision: Decision, event: ReceiptArrived) -> None:
        receipt = event.receipt
        level, unit = self._detectors.level, self._unit()
        view.branch = receipt.branch_after
        view.last_change_step = receipt.applied_step
        if receipt.lrs_after:
            view.lr = receipt.lrs_after[0]
        if decision.plan is not None:
            view.plan = decision.plan
        self._unresolved = self._on_trial = None
        if decision.action is Action.CUT:
            view.cuts += 1
            if decision.signal is not None:
                due = receipt.applied_step + self._settings.limits.cooldown_steps
                self._unresolved = (decision.signal, due)
        if decision.restore_snapshot is not None:
            proven = self._snapshots.proven
            view.rollbacks += 1
            if decision.signal is not None:
                view.lasted = decision.signal.since - view.began
            view.began = receipt.applied_step
            self._on_trial = receipt.applied_step + view.time_scale
            count = view.rollbacks_to
            count[decision.restore_snapshot] = count.get(decision.restore_snapshot, 0) + 1
            if proven is not None and proven.id == decision.restore_snapshot:
                # Steps are never counted back: of those since the snapshot, an earlier rollback
                # has undone some already.
                since = max(proven.step, view.undone_until)
                view.rolled_back_steps += max(0, receipt.applied_step - since)
                view.undone_until = max(view.undone_until, receipt.applied_step)
                self._detectors.load_state_dict(dict(proven.detectors))
                level, unit = self._detectors.level, self._unit()
            self._snapshots.rolled_back()
        if decision.plan is not None:
            length = max(self._settings.probation_steps, view.time_scale)
            self._probation = Probation(decision, length, level, unit)

    def _unit(self) -> float | None:
        """What makes a difference of losses relative: the range so far, or else the noise."""
        seen = self._detectors
        if seen.start is None or seen.best is None:
            return None
        return max(seen.start - seen.best, seen.noise or 0.0)

    def _note_snapshot(self, event: SnapshotTaken, out: list[Output]) -> None:
        view = self._view
        if view is None or event.attempt != view.attempt.id or event.branch != view.branch:
            return
        snapshot = Snapshot(event.snapshot, event.step, self._detectors.state_dict())
        self._snapshots.taken(snapshot, event.proven)
        if event.proven:
            self._newest(view, event.snapshot)
            if self._due:
                self._begin_search(event.snapshot, out)
        elif self._search is not None and self._search.saved(event.snapshot):
            self._snapshots.taken(snapshot, proven=True)  # a program must not take its place
            self._newest(view, event.snapshot)
            out.append(SnapshotProven(view.attempt.id, event.snapshot))

    def _newest(self, view: RunView, snapshot: int) -> None:
        """A snapshot is proven: from now on, this is where a rollback leads."""
        assert self._snapshots.proven is not None
        view.snapshot, view.began, view.lasted = snapshot, self._snapshots.proven.step, None

    # -- a search

    @property
    def will_search(self) -> bool:
        """Whether a search is due or under way for this attempt."""
        return self._due or self._search is not None

    def why_not_search(self) -> str | None:
        """Why a search cannot begin now; None where it can."""
        view = self._view
        if view is None:
            return "the run has no trainer"
        if self.will_search:
            return "the run is searching already"
        if view.attempt.mode is not Mode.AUTO:
            return f"the run's mode is {view.attempt.mode}: nothing is probed"
        if not can_search(view.attempt):
            return "its trainer cannot run programs on replayed batches (pilot.batches)"
        if view.in_flight is not None:
            return f"decision {view.in_flight.id} has not been answered yet"
        return None

    def _begin_search(self, home: int | None, out: list[Output]) -> None:
        self._due = False
        view = self._view
        if view is None or self.why_not_search() is not None:
            return
        self._search = Searching(view, self._settings, home, self._known)
        self._propose(view, self._search.begin(), out)

    def _propose(self, view: RunView, proposal: Proposal, out: list[Output]) -> None:
        """Carry the search on; what the guardrails refuse ends it."""
        assert self._search is not None
        verdict = self._guardrails.judge(view, proposal, self._last_decision + 1)
        if isinstance(verdict, Refusal) and proposal.program is not None:
            proposal = self._search.settle(verdict.reason)
            verdict = self._guardrails.judge(view, proposal, self._last_decision + 1)
        if isinstance(verdict, Refusal):
            self._abandon_search(out, verdict.reason)
            return
        self._send(view, verdict, out)

    def _end_program(self, event: ProgramEnded, out: list[Output]) -> None:
        view = self._view
        if view is None or event.attempt != view.attempt.id:
            return
        view.step = max(view.step, event.first_step + len(event.losses))
        view.branch = event.branch
        view.probe_steps += len(event.losses)
        mine = view.program is not None and view.program.id == event.program
        view.program = None
        if self._search is not None and mine:
            self._propose(view, self._search.ended(event), out)

    def _fall_back(self, event: FellBack, out: list[Output]) -> None:
        """The trainer heard nothing in time: it goes on by itself, and the search is over."""
        view = self._view
        if view is None or event.attempt != view.attempt.id:
            return
        view.step, view.branch, view.program = max(view.step, event.step), event.branch, None
        if self._search is not None:
            view.plan = self._search.fallback
            self._search.give_up(SearchEnd.FELL_BACK, event.reason)
            self._end_search(view, out)

    def _searched(
        self, view: RunView, decision: Decision, receipt: Receipt, out: list[Output]
    ) -> None:
        """The trainer answered a decision of the search."""
        assert self._search is not None
        view.branch = receipt.branch_after
        if receipt.status is not DecisionStatus.APPLIED:
            why = f"decision {decision.id} was {receipt.status}: {receipt.detail}"
            rejected = receipt.status is DecisionStatus.REJECTED
            if rejected and self._search.result is None:  # the trainer waits for another word
                self._propose(view, self._search.settle(why), out)
            else:
                self._abandon_search(out, why)
            return
        if decision.program is not None:
            view.program = decision.program
            return
        view.plan, view.lr = decision.plan, receipt.lrs_after[0]
        view.last_change_step = receipt.applied_step
        self._end_search(view, out)

    def _abandon_search(self, out: list[Output], reason: str) -> None:
        if self._search is not None and self._view is not None:
            self._search.give_up(SearchEnd.ABANDONED, reason)
            self._end_search(self._view, out)

    def _end_search(self, view: RunView, out: list[Output]) -> None:
        """The run's own training goes on; what the detectors know is where it began."""
        assert self._search is not None
        assert self._search.result is not None
        out.append(SearchEnded(view.attempt.id, self._search.result))
        attempt = view.attempt
        self._detectors = Detectors(attempt.total_steps, attempt.steps_per_epoch)
        for loss in self._search.references:
            self._detectors.update(view.step, loss, None, view.lr)
        self._snapshots.rolled_back()
        self._unresolved = self._on_trial = self._search = None

    def _finish(self, event: Requested) -> None:
        """The trainer decays to 0 by itself: know the plan, in case it has to be cut."""
        view = self._view
        if view is None or event.attempt != view.attempt.id:
            return
        replaces = view.plan is not None and view.plan.kind is PlanKind.REPLACE
        value = view.lr if replaces else view.plan.end_value if view.plan else 1.0
        end = event.step + event.steps
        segment = Segment(Shape.LINEAR, event.step, end, value, 0.0)
        view.plan = Plan(PlanKind.REPLACE if replaces else PlanKind.SCALE, (segment,))
