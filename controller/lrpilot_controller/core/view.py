"""What a policy and the guardrails may know of a run when they judge."""

from dataclasses import dataclass, field

from lrpilot_controller.core.model import Attempt, Decision
from lrpilot_controller.core.plans import Plan, Program
from lrpilot_controller.core.settings import Reactions
from lrpilot_controller.core.state import Stateful

OVERWRITTEN = 0.1
"""Share by which an LR is above what a decision set for that step: somebody else wrote it."""


@dataclass(slots=True)
class RunView(Stateful):
    """One run as it stands now.

    `lr` is the first param group's LR as last reported; `plan` what is in force on the native
    LR, and `program` what is open; `probe_steps` were run by programs. `snapshot` the newest
    proven snapshot that the trainer holds, if any; `rollbacks_to` counts applied rollbacks per
    snapshot of this attempt. `rollbacks_spent`: the guardrails allow no more of them.
    `undone_until`: steps before it were undone by a rollback, or lie before the snapshot that
    the last one restored. `in_vain`: rollbacks of this attempt after which the run learnt
    nothing. `raised_from`: the highest LR that the run was healthy at, where it was raised far
    above that just now or has been found too high since. `swings`: the dispersion of the losses
    at the last cut for an oscillation. `overwritten`: decisions in a row
    whose LR was not in force at their first step. `tuned`: factors are, and `earned` are those that
    earlier interventions say, by the kind of signal. `reactions`: what follows from signals in this
    attempt. `proposed` is the decision that waits for a person; `frozen`: a person stopped LRPilot
    from deciding.
    """

    attempt: Attempt
    step: int = 0
    branch: int = 0
    lr: float = 0.0
    plan: Plan | None = None
    program: Program | None = None
    probe_steps: int = 0
    searching: bool = False
    snapshot: int | None = None
    in_flight: Decision | None = None
    proposed: Decision | None = None
    frozen: bool = False
    rollbacks: int = 0
    rollbacks_to: dict[int, int] = field(default_factory=dict)
    rolled_back_steps: int = 0
    rollbacks_spent: bool = False
    undone_until: int = 0
    began: int = 0
    lasted: int | None = None
    in_vain: int = 0
    raised_from: float | None = None
    overwritten: int = 0
    swings: float | None = None
    cuts: int = 0
    last_change_step: int | None = None
    last_note_step: int | None = None
    tuned: bool = False
    earned: dict[str, float] = field(default_factory=dict)
    reactions: Reactions = field(default_factory=Reactions)

    def see_overwritten(self, lr: float) -> None:
        """See whether the training code wrote over `lr`, which a decision set for this step."""
        self.overwritten = self.overwritten + 1 if self.lr > (1 + OVERWRITTEN) * lr else 0

    @property
    def time_scale(self) -> int:
        """Steps in which a run's loss visibly moves: a fiftieth of the horizon, at least 50."""
        return max(50, (self.attempt.total_steps or 0) // 50)
