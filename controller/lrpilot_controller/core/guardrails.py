"""The only place that turns a proposal into a decision.

No policy passes the bounds, the largest factor, the cooldown or the rollback budgets. A proposal
beyond a bound is clamped to it; one that then would change nothing, or whose budget is spent, is
refused with the reason.
"""

from dataclasses import dataclass, replace

from lrpilot_controller.core.model import Action, Decision, DecisionStatus, Mode, Proposal
from lrpilot_controller.core.plans import Plan, PlanKind
from lrpilot_controller.core.search.horizon import UNKNOWN
from lrpilot_controller.core.settings import Limits
from lrpilot_controller.core.view import RunView

# A decision that took longer than this many time scales to arrive speaks of another situation.
EXPIRY_TIME_SCALES = 10
ROUNDING = 1e-9
BOUNDS = "; the bounds are attach(min_lr=..., max_lr=...)"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a proposal did not become a decision.

    `spent` where a budget is used up for good; `again_at` is the step from which on the same
    proposal could pass.
    """

    reason: str
    spent: bool = False
    again_at: int | None = None


class Guardrails:
    """Judges proposals against the limits and the run's own bounds."""

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()

    def judge(self, view: RunView, proposal: Proposal, decision_id: int) -> Decision | Refusal:
        """The decision numbered `decision_id`, or the refusal."""
        if view.in_flight is not None:
            return Refusal(f"decision {view.in_flight.id} has not been answered yet")
        noted = self._recent(view, view.last_note_step)
        if proposal.action is Action.NOTE and noted is not None:
            return Refusal(f"a note was made at step {noted}, less than {self._cooldown}")
        if proposal.who is not None:
            return self._of_person(view, proposal, decision_id)
        if proposal.action in (Action.NOTE, Action.STOP):
            return self._decide(view, proposal, decision_id, factor=1.0)
        if proposal.program or proposal.plan or proposal.action is Action.RELEASE:
            return self._of_search(view, proposal, decision_id)
        gone = proposal.approved and proposal.snapshot not in (None, view.snapshot)
        if proposal.action is Action.ROLLBACK and gone:  # it waited while training went on
            return Refusal(f"snapshot {proposal.snapshot} is not held any more")
        if proposal.action is Action.ROLLBACK and (why := self._over_budget(view)):
            return Refusal(why, spent=True)
        changed = self._recent(view, view.last_change_step)
        if proposal.action is Action.CUT and changed is not None:
            return Refusal(
                f"the LR was changed at step {changed}, less than {self._cooldown}",
                again_at=changed + self._limits.cooldown_steps,
            )
        factor = self._clamp(view, proposal.factor)
        if factor == 1.0 and proposal.action is Action.CUT:
            low, high = view.attempt.min_lr, view.attempt.max_lr
            return Refusal(
                f"the LR {view.lr:.3g} is at its bound (min_lr {low:.3g}, max_lr {high:.3g})"
            )
        return self._decide(view, proposal, decision_id, factor)

    def _of_person(self, view: RunView, proposal: Proposal, decision_id: int) -> Decision | Refusal:
        """A person may do what the trainer can, at any time and within the run's bounds."""
        attempt = view.attempt
        if not attempt.mode.acts:
            return Refusal(f"its mode is {attempt.mode}: nothing reaches the trainer")
        if proposal.action is Action.STOP and not attempt.can_stop:
            return Refusal("its trainer cannot end its loop")
        lr = proposal.plan.end_value if proposal.plan else attempt.min_lr
        if lr > attempt.max_lr:
            return Refusal(f"an LR of {lr:.4g} is above max_lr {attempt.max_lr:.4g}{BOUNDS}")
        if not lr >= attempt.min_lr:
            below = f"an LR of {lr:.4g} is not at or above min_lr {attempt.min_lr:.4g}"
            return Refusal(f"{below}{BOUNDS}")
        return self._decide(view, proposal, decision_id, factor=1.0)

    def _of_search(self, view: RunView, proposal: Proposal, decision_id: int) -> Decision | Refusal:
        """Its LRs were tried by programs, or are about to be, within bounds and budget."""
        attempt, program = view.attempt, proposal.program
        segments = program.segments if program else proposal.plan.segments if proposal.plan else ()
        highest = max((max(s.start_value, s.end_value) for s in segments), default=0.0)
        if program is None and proposal.plan and proposal.plan.kind is PlanKind.SCALE:
            highest *= attempt.groups[0].base_lr  # a factor on the native curve
        if highest > attempt.max_lr * (1 + ROUNDING):
            return Refusal(f"an LR of {highest:.3g} is above max_lr {attempt.max_lr:.3g}")
        if program is not None:
            share = self._limits.max_probed_fraction
            budget = share * (attempt.total_steps or UNKNOWN)
            if view.probe_steps + program.length > budget:
                return Refusal(
                    f"programs cost {view.probe_steps} steps, {program.length} more would be "
                    f"beyond {share:.0%} of the run (limits.max_probed_fraction)"
                )
        return self._decide(view, proposal, decision_id, factor=1.0)

    def _over_budget(self, view: RunView) -> str | None:
        limits = self._limits
        if view.rollbacks >= limits.max_rollbacks:
            return f"{view.rollbacks} rollbacks were made, the limit (limits.max_rollbacks)"
        total = view.attempt.total_steps
        if total and view.rolled_back_steps > limits.max_rolled_back_fraction * total:
            return (
                f"rollbacks cost {view.rolled_back_steps} of {total} steps, more than "
                f"{limits.max_rolled_back_fraction:.0%} (limits.max_rolled_back_fraction)"
            )
        return None

    @property
    def _cooldown(self) -> str:
        return f"{self._limits.cooldown_steps} steps ago (limits.cooldown_steps)"

    def _recent(self, view: RunView, step: int | None) -> int | None:
        """`step`, if it lies within the cooldown."""
        if step is None or view.step - step >= self._limits.cooldown_steps:
            return None
        return step

    def _clamp(self, view: RunView, factor: float) -> float:
        """`factor` within the largest change and such that the LR stays within its bounds."""
        widest = self._limits.max_factor
        if view.lr <= 0:
            return min(max(factor, 1 / widest), widest)
        # The largest change counts from an LR that the run has proven.
        proven = 1.0 if view.raised_from is None else min(view.raised_from / view.lr, 1.0)
        factor = min(max(factor, proven / widest), widest)
        low, high = view.attempt.min_lr / view.lr, view.attempt.max_lr / view.lr
        # An LR that the user's own schedule moved out of the bounds is not pushed back by us.
        return min(max(factor, min(low, 1.0)), max(high, 1.0))

    @staticmethod
    def _expiry(view: RunView, proposal: Proposal) -> int:
        """A search speaks of one boundary, unless it begins from whatever state it finds."""
        program, goes_on = proposal.program, view.step > view.attempt.start_step
        # In mid-run training does not wait for the first program; what it restores is all it needs.
        restores = goes_on and program is not None and program.restore_snapshot is not None
        anywhere = proposal.snapshot is None and (proposal.save or restores)
        if proposal.signal is None and proposal.who is None and not anywhere:
            return view.step + 1
        return view.step + EXPIRY_TIME_SCALES * view.time_scale

    def _decide(
        self, view: RunView, proposal: Proposal, decision_id: int, factor: float
    ) -> Decision:
        plan, program = proposal.plan, proposal.program
        if proposal.action in (Action.CUT, Action.ROLLBACK):
            plan = view.plan.times(factor) if view.plan else Plan.scale(factor, view.step)
        clamped = "" if factor == proposal.factor else f"; within the limits x{factor:.3g}"
        return Decision(
            id=decision_id,
            action=proposal.action,
            reason=proposal.reason + clamped,
            step=view.step,
            branch=view.branch,
            signal=proposal.signal,
            expires_at_step=self._expiry(view, proposal),
            restore_snapshot=proposal.snapshot,
            # The same random numbers in every program; after a blow-up, others.
            restore_rng=program is not None,
            plan=plan,
            stop=proposal.action is Action.STOP,
            release=proposal.action is Action.RELEASE,
            factor=factor,
            status=self._status(view.attempt.mode, proposal),
            program=replace(program, id=decision_id) if program else None,
            save_snapshot=proposal.save,
            who=proposal.who,
            rule=proposal.rule,
        )

    @staticmethod
    def _status(mode: Mode, proposal: Proposal) -> DecisionStatus:
        if mode is Mode.AUTO or (mode.acts and (proposal.approved or proposal.who is not None)):
            return DecisionStatus.SENT
        # A note changes nothing: there is nothing to approve, and it is only said.
        changes = proposal.action is not Action.NOTE
        return DecisionStatus.PROPOSED if mode.acts and changes else DecisionStatus.SHADOW
