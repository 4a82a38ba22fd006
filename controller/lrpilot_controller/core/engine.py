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
    Decided,
    Input,
    Noticed,
    OutcomeMeasured,
    Output,
    ReceiptArrived,
    Refused,
    SaidGoodbye,
    Samples,
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
    Signal,
    SignalKind,
)
from lrpilot_controller.core.policies.base import Policy
from lrpilot_controller.core.policies.guard import GuardPolicy
from lrpilot_controller.core.probation import Probation
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
                self._note_snapshot(event)
            case SaidGoodbye():
                self._end_probation(out)
            case SessionLost() | Noticed():
                pass
        return out

    def _open(self, attempt: Attempt, out: list[Output]) -> None:
        known = self._view.attempt if self._view else None
        if known and (known.id, known.resumes) == (attempt.id, attempt.resumes):
            return  # the same process on a new stream
        self._end_probation(out)
        # Another process: what the old one held in memory is gone, and where it resumed from an
        # older checkpoint the loss may rightly be higher than it was.
        view = RunView(attempt, step=attempt.start_step, branch=attempt.branch, scale=attempt.scale)
        view.lr = attempt.groups[0].base_lr * attempt.scale
        if self._view is not None:
            view.rollbacks = self._view.rollbacks
            view.rolled_back_steps = self._view.rolled_back_steps
        self._view = view
        self._detectors = Detectors(attempt.total_steps, attempt.steps_per_epoch)
        self._snapshots = Snapshots(proof_steps=view.time_scale // 2)
        self._unresolved = self._on_trial = None

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
        if view.in_flight is not None:
            return False  # the trainer has not answered the last decision yet
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
        self._last_decision = verdict.id
        out.append(Decided(verdict))
        if verdict.action is Action.NOTE:
            view.last_note_step = view.step
        if verdict.action is not Action.NOTE and self._probation:
            self._fail_probation(verdict, out)
        if verdict.status is DecisionStatus.SENT and verdict.action is not Action.NOTE:
            view.in_flight = verdict
        return True

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
            view.scale = decision.plan.end_value
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

    def _note_snapshot(self, event: SnapshotTaken) -> None:
        view = self._view
        if view is None or event.attempt != view.attempt.id or event.branch != view.branch:
            return
        snapshot = Snapshot(event.snapshot, event.step, self._detectors.state_dict())
        self._snapshots.taken(snapshot, event.proven)
        if event.proven:
            self._newest(view, event.snapshot)

    def _newest(self, view: RunView, snapshot: int) -> None:
        """A snapshot is proven: from now on, this is where a rollback leads."""
        assert self._snapshots.proven is not None
        view.snapshot, view.began, view.lasted = snapshot, self._snapshots.proven.step, None
