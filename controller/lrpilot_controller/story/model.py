"""What a person wants to know of a run, as values, and as the JSON that `show` prints."""

from dataclasses import dataclass
from typing import Any

from lrpilot_controller.core.findings import SearchResult
from lrpilot_controller.core.model import (
    Decision,
    DecisionStatus,
    Mode,
    Outcome,
    Receipt,
    RunState,
    Signal,
    SignalKind,
)
from lrpilot_controller.core.plain import to_plain
from lrpilot_controller.journal.base import RunKey


@dataclass(frozen=True, slots=True)
class Point:
    """A training loss for a picture.

    Attributes:
        step: The optimizer step that it belongs to.
        loss: May be NaN or infinite.
        lr: Of the first param group; NaN if the run has none.
        left: The run went back behind it, by a rollback or by an older checkpoint; or a program of
            a search ran it.
    """

    step: int
    loss: float
    lr: float
    left: bool


@dataclass(frozen=True, slots=True)
class DecisionTold:
    """A decision, with the trainer's answer and what came of it, as far as they are known.

    `steps` is how many its program ran; `who` the person who asked for it or approved it; `good`
    what a person thinks of it, in `remark` in their own words.
    """

    decision: Decision
    status: DecisionStatus
    receipt: Receipt | None = None
    outcome: Outcome | None = None
    steps: int = 0
    who: str | None = None
    good: bool | None = None
    remark: str = ""

    @property
    def applied_step(self) -> int | None:
        """The first step that ran under the decision; None if none did."""
        applied = self.receipt is not None and self.status is DecisionStatus.APPLIED
        return self.receipt.applied_step if applied and self.receipt else None

    @property
    def verdict(self) -> str | None:
        """What a person thinks of it, in a word; None where nobody has said."""
        return None if self.good is None else word_of(self.good)

    def to_json(self) -> dict[str, Any]:
        """The decision as `show --json` lists it; null where something is not known."""
        decision, receipt = self.decision, self.receipt
        outcome = to_plain(self.outcome)
        if outcome is not None:
            del outcome["decision_id"]
        return {
            "id": decision.id,
            "status": self.status.value,
            "step": decision.step,
            "action": decision.action.value,
            "reason": decision.reason,
            "signal": decision.signal and decision.signal.kind.value,
            "lrs_before": to_plain(receipt and receipt.lrs_before),
            "lrs_after": to_plain(receipt and receipt.lrs_after),
            "applied_step": self.applied_step,
            "outcome": outcome,
            "who": self.who,
            "verdict": self.verdict,
        }


GOOD, BAD = "good", "bad"


def word_of(good: bool) -> str:
    """A person's verdict in a word."""
    return GOOD if good else BAD


@dataclass(frozen=True, slots=True)
class Refusal:
    """A proposal that the guardrails turned down."""

    step: int
    signal: SignalKind
    reason: str


@dataclass(frozen=True, slots=True)
class Command:
    """What a person asked of the run, and the step that it was at."""

    step: int
    kind: str
    who: str
    why: str


@dataclass(frozen=True, slots=True)
class Notice:
    """Something in the training process that a person should read of."""

    step: int
    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Cost:
    """What control has cost the run: steps spent on probes, steps undone, seconds waited."""

    probe_steps: int = 0
    rolled_back_steps: int = 0
    wait_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a search is: the newest program's phase, its LR, and the budget's share before it."""

    phase: str
    lr: float
    share: float


@dataclass(frozen=True, slots=True)
class Thinning:
    """Train losses that are no longer held one by one, and the steps between which they lie."""

    count: int
    first_step: int
    last_step: int

    def to_json(self) -> dict[str, Any]:
        """What `telemetry` in `show --json` has beside the rest."""
        return {"thinned": self.count, "thinned_steps": [self.first_step, self.last_step]}


@dataclass(frozen=True, slots=True)
class Story:
    """What `show` prints of a run.

    Attributes:
        mode: Of the newest attempt; None before the first.
        step: Steps that the newest attempt's weights and its ancestors' executed.
        lrs: The newest LR per param group.
        received: Samples of the train loss, each counted once.
        dropped: Telemetry that the trainer had to drop.
        refusals: The newest 100.
        notices: The newest 100.
        points: A thinned loss curve, in order of arrival; extremes survive the thinning.
        trend: Step and mean loss of stretches of training: no program's steps, and none undone.
        undone: The steps [from, to) that rollbacks undid, attempt by attempt.
        searches: What each search ended with, in order.
        progress: Of the search under way; None while there is none.
        commands: What people asked; the newest 100.
        thinned: Of the received: what the journal holds only coarsely; None if nothing.
        loss: The newest of the train loss; None before the first.
    """

    run: RunKey
    state: RunState
    mode: Mode | None
    attempts: int
    step: int
    lrs: tuple[float, ...]
    received: int
    dropped: int
    signals: tuple[Signal, ...]
    decisions: tuple[DecisionTold, ...]
    cost: Cost
    refusals: tuple[Refusal, ...]
    notices: tuple[Notice, ...]
    points: tuple[Point, ...]
    searches: tuple[SearchResult, ...] = ()
    progress: Progress | None = None
    commands: tuple[Command, ...] = ()
    thinned: Thinning | None = None
    loss: float | None = None
    trend: tuple[tuple[float, float], ...] = ()
    undone: tuple[tuple[int, int], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """`show --json`: strict JSON values; NaN and the infinities are strings."""
        return Summary.of(self).to_json() | {
            "telemetry": {"received": self.received, "dropped": self.dropped}
            | (self.thinned.to_json() if self.thinned else {}),
            "signals": to_plain(self.signals),
            "decisions": [told.to_json() for told in self.decisions],
            "cost": to_plain(self.cost),
            "refusals": to_plain(self.refusals),
            "notices": to_plain(self.notices),
            "commands": to_plain(self.commands),
            "search": to_plain(self.searches[-1] if self.searches else None),
        }


@dataclass(frozen=True, slots=True)
class Summary:
    """A run in a line: the first fields of its story, and how many of its decisions were applied.

    `loss` is the newest of the train loss; None before the first.
    """

    run: RunKey
    state: RunState
    mode: Mode | None
    attempts: int
    step: int
    lrs: tuple[float, ...]
    loss: float | None
    applied: int

    @classmethod
    def of(cls, story: Story) -> "Summary":
        """A story's summary."""
        return cls(
            *(story.run, story.state, story.mode, story.attempts, story.step, story.lrs),
            loss=story.loss,
            applied=sum(told.applied_step is not None for told in story.decisions),
        )

    def to_json(self) -> dict[str, Any]:
        """One line of `runs --json`."""
        return {
            "run": str(self.run),
            "state": self.state.value,
            "mode": self.mode and self.mode.value,
            "attempts": self.attempts,
            "step": self.step,
            "lrs": to_plain(self.lrs),
        }
