"""A run's own training, watched: signals, what was done about them, and what came of it."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from lrpilot_controller.core.desk import Desk
from lrpilot_controller.core.detectors import Detectors
from lrpilot_controller.core.events import (
    OutcomeMeasured,
    Output,
    Refused,
    SignalSeen,
    SnapshotTaken,
)
from lrpilot_controller.core.guardrails import Refusal
from lrpilot_controller.core.keeping import Keeping
from lrpilot_controller.core.model import (
    Action,
    Decision,
    DecisionStatus,
    Experiment,
    Receipt,
    Signal,
    SignalKind,
)
from lrpilot_controller.core.policies.base import Policy
from lrpilot_controller.core.policies.guard import BAD_STATE, is_certain
from lrpilot_controller.core.probation import Probation
from lrpilot_controller.core.settings import CoreSettings, Reaction
from lrpilot_controller.core.state import Stateful
from lrpilot_controller.core.swings import SwingCut
from lrpilot_controller.core.view import RunView

MakeDetectors = Callable[[int | None, int | None], Detectors]
"""Makes detectors of a run's length and its steps per epoch, where they are known."""


class Watch(Stateful):
    """Follows one attempt; a program's samples never get here.

    Args:
        view: the run as it stands, which this keeps up to date.
        policy: proposes what to do about a signal.
        desk: decides.
        settings: what a person may set.
        make_detectors: makes a run's detectors.

    Attributes:
        wanted: programs that the policy asks for, until somebody takes them up.
    """

    wanted: Experiment | None
    _detectors: Detectors
    _keeping: Keeping
    _probation: Probation | None
    _unresolved: tuple[Signal, int] | None  # and the step to look again
    _on_trial: int | None  # the step to see what a rollback's cut gained
    _postponed: Signal | None  # until a spike is over
    _swing_cut: SwingCut | None  # until another decision is applied
    _set: tuple[int, float] | None  # the step that was to use an LR first, and the LR

    def __init__(
        self,
        view: RunView,
        policy: Policy,
        desk: Desk,
        settings: CoreSettings,
        make_detectors: MakeDetectors = Detectors,
    ) -> None:
        self._view = view
        self._policy = policy
        self._desk = desk
        self._settings = settings
        self._make_detectors = make_detectors
        self._detectors = self._begin_detectors()
        self._keeping = Keeping(view)
        self._probation = self._set = self.wanted = None
        self._forget()

    def _begin_detectors(self) -> Detectors:
        attempt = self._view.attempt
        return self._make_detectors(attempt.total_steps, attempt.steps_per_epoch)

    def configure(self, policy: Policy, settings: CoreSettings) -> None:
        """A person set something anew."""
        self._policy, self._settings = policy, settings

    def validated(self, step: int, loss: float, out: list[Output]) -> None:
        """Take a validation loss."""
        self._judge(self._detectors.update(step, None, loss, self._view.lr), out)

    def trained(self, step: int, loss: float, out: list[Output]) -> None:
        """Take a train loss."""
        view = self._view
        if self._set is not None and step >= self._set[0]:
            view.see_overwritten(self._set[1])
            self._set = None
        if signals := self._detectors.update(step, loss, None, view.lr):
            self._judge(signals, out)
        if self._probation and (outcome := self._probation.update(loss)):
            self._probation = None
            out.append(OutcomeMeasured(outcome))
        if self._swing_cut is not None and self._swing_cut.update(loss):
            self._take_back(out)
        # What follows is asked for only where something waits for it: nearly all samples are quiet.
        if view.in_flight is not None:
            return
        if self._keeping.waits:
            self._keeping.update(step, self._detectors.worthy(loss), out)
        if self._unresolved is not None:
            self._look_again(step, self._detectors.healthy_at(loss), out)
        if self._on_trial is not None and step >= self._on_trial:
            self._see_gain(step, out)
        if self._postponed is not None and not self._detectors.spiking:
            late, self._postponed = self._postponed, None
            self._answer(replace(late, step=step), out)

    def kept(self, event: SnapshotTaken, *, proven: bool) -> None:
        """The trainer holds a snapshot of the state that training is in."""
        self._keeping.kept(event, self._detectors.state_dict(), proven=proven)

    def recall_loss(self, step: int, loss: float, *, validation: bool) -> None:
        """Show the detectors a loss, and do not hear what they say."""
        train, value = (None, loss) if validation else (loss, None)
        self._detectors.update(step, train, value, self._view.lr)

    def recall_proof(self, snapshot: int) -> None:
        """A snapshot was proven, as the records say."""
        self._keeping.recall(snapshot)

    def answered(self, decision: Decision, receipt: Receipt, out: list[Output]) -> None:
        """The trainer answered a decision about a signal."""
        view = self._view
        if receipt.status is DecisionStatus.APPLIED:
            self._applied(decision, receipt)
            return
        if receipt.status is DecisionStatus.REJECTED and decision.restore_snapshot is not None:
            self._keeping.lost()
        elif receipt.status is not DecisionStatus.EXPIRED:
            return
        if decision.signal is None:
            return
        view.step = max(view.step, receipt.applied_step)
        if self._swing_cut is not None and self._swing_cut.taken_back_by(decision):
            self._take_back(out)
            return
        # Nobody acted on the signal, and a detector speaks once per episode: judge it anew.
        self._answer(replace(decision.signal, step=view.step), out)

    def expired(self, decision: Decision) -> None:
        """A decision waited for a person until it was too late: is its blow-up still on?"""
        if decision.signal is not None and is_certain(decision.signal):
            self._unresolved = (decision.signal, self._view.step)

    def begin_anew(self, references: Sequence[float], out: list[Output]) -> None:
        """A search is over: training goes on from another state, and `references` are the losses
        that it began from."""
        view = self._view
        self.end(out)
        self._detectors = self._begin_detectors()
        # Their mean comes first: a single noisy loss is no level to tell a jump by.
        level = sum(loss / len(references) for loss in references)
        for loss in (level, *references) if references else ():
            self._detectors.update(view.step, loss, None, view.lr)
        self._keeping.branch_left()
        self._forget()

    def end(self, out: list[Output]) -> None:
        """The attempt is over, or its training is interrupted by a search."""
        if self._probation is not None:
            out.append(OutcomeMeasured(self._probation.unfinished()))
            self._probation = None

    def _forget(self) -> None:
        """What was to be looked at again is of a state that training is in no more."""
        self._unresolved = self._on_trial = self._postponed = self._swing_cut = None

    def _judge(self, signals: Sequence[Signal], out: list[Output]) -> None:
        reaction = self._view.reactions.of
        seen = [signal for signal in signals if reaction(signal.kind) is not Reaction.OFF]
        for signal in seen:
            out.append(SignalSeen(signal))
        for signal in seen:
            if self._answer(signal, out):
                break  # two findings of one sample, one action

    def _answer(self, signal: Signal, out: list[Output]) -> bool:
        view = self._view
        if view.reactions.of(signal.kind) in (Reaction.OFF, Reaction.SAY):
            return False  # a person may have said so since it was seen
        if view.in_flight is not None or view.searching or view.frozen:
            # Not answered yet, in a program, or a person's: is it still on when that is over?
            if is_certain(signal):
                self._unresolved = (signal, view.step)
            return False
        if signal.kind not in BAD_STATE and self._must_wait:
            self._postponed = signal
            return False
        if is_certain(signal):
            view.raised_from = self._detectors.raised_from
            if (at := self._detectors.raised_at) is not None:
                self._keeping.trust_before(at, out)  # the raise is to blame
        proposal = self._policy.decide(view, signal)
        if isinstance(proposal, Experiment):
            self.wanted = proposal
            return True
        if proposal is None:
            return False
        verdict = self._desk.decide(view, proposal, out)
        if isinstance(verdict, Refusal):
            out.append(Refused(signal, verdict.reason))
            if verdict.again_at is not None:
                self._unresolved = (signal, verdict.again_at)
            if not verdict.spent or view.rollbacks_spent:
                return False
            view.rollbacks_spent = True
            return self._answer(signal, out)  # what would the policy do without them?
        if verdict.action is Action.NOTE:
            view.last_note_step = view.step
        self.interrupted_by(verdict, out)
        return True

    @property
    def _must_wait(self) -> bool:
        return self._detectors.spiking and self._view.reactions.spike is Reaction.WAIT

    def _take_back(self, out: list[Output]) -> None:
        """A cut for swings had its time: did it help?

        A run that a person froze is left alone, and one that blew up meanwhile gets no higher LR.
        """
        view = self._view
        if self._swing_cut is None or view.frozen or self._unresolved is not None:
            return
        proposal = self._swing_cut.judge(view)
        if proposal is not None:
            self._desk.decide(view, proposal, out)

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
        if seen.gained:
            return
        view.in_vain += 1
        evidence = {"in_vain_since": view.began, "level": seen.level, "start": seen.start}
        known = {name: float(value or 0) for name, value in evidence.items()}
        self._judge([Signal(SignalKind.DIVERGENCE, step, step, 0.5, known)], out)

    def interrupted_by(self, decision: Decision, out: list[Output]) -> None:
        """A decision was made; one that is sent ends the probation of the one before."""
        sent = decision.status is DecisionStatus.SENT and decision.action is not Action.NOTE
        if self._probation is None or not sent:
            return
        blew_up = decision.who is None and decision.action in (Action.ROLLBACK, Action.STOP)
        probation, self._probation = self._probation, None
        outcome = probation.rolled_back() if blew_up else probation.unfinished()
        out.append(OutcomeMeasured(outcome))

    def _applied(self, decision: Decision, receipt: Receipt) -> None:
        view = self._view
        level, unit = self._detectors.level, self._detectors.unit
        view.branch = receipt.branch_after
        view.last_change_step = receipt.applied_step
        if receipt.lrs_after:
            view.lr = receipt.lrs_after[0]
            self._set = receipt.applied_step, view.lr
        length = max(self._settings.probation_steps, view.time_scale)
        swing_cut = SwingCut.of(decision, view.plan, length)
        if decision.plan is not None or decision.release:
            view.plan = decision.plan
        # Only a rollback ends a blow-up for certain: look again at one that was cut, or that nobody
        # answered because of this decision.
        left = self._unresolved[0] if self._unresolved else None
        if decision.action is Action.CUT and decision.signal and is_certain(decision.signal):
            left = decision.signal
        due = receipt.applied_step + self._settings.limits.cooldown_steps
        self._forget()
        if left is not None and decision.restore_snapshot is None:
            self._unresolved = (left, due)
        self._swing_cut = swing_cut
        if swing_cut is not None:
            view.swings = swing_cut.dispersion
        if decision.action is Action.CUT:
            view.cuts += 1
        if decision.restore_snapshot is not None:
            if decision.signal is None or decision.signal.kind is not SignalKind.TOO_HIGH:
                self._on_trial = receipt.applied_step + view.time_scale
            if (then := self._keeping.restored(decision, receipt)) is not None:
                self._detectors.load_state_dict(then)
                level, unit = self._detectors.level, self._detectors.unit
        if decision.plan is not None:
            self._probation = Probation(decision, length, level, unit)
