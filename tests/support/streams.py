"""Runs without a process: an engine, and a trainer that reports to it and follows its decisions."""

import json
import math
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from lrpilot_controller.core.engine import Engine
from lrpilot_controller.core.events import (
    Decided,
    Event,
    Input,
    OutcomeMeasured,
    Output,
    ReceiptArrived,
    Refused,
    SaidGoodbye,
    SessionOpened,
    SignalSeen,
    SnapshotProven,
    SnapshotTaken,
)
from lrpilot_controller.core.model import (
    Action,
    Attempt,
    Decision,
    DecisionStatus,
    Outcome,
    ParamGroup,
    Receipt,
    Signal,
)
from lrpilot_controller.core.plain import to_plain
from lrpilot_controller.core.settings import CoreSettings
from lrpilot_controller.core.telemetry import Samples

LR = 0.1
ATTEMPT = Attempt("t1", (ParamGroup("all", LR),), min_lr=1e-6, max_lr=LR, can_snapshot=True)


def descent(count: int, seed: int = 0) -> list[float]:
    """The losses of a run that goes well: from 2.5 down to 0.5, with noise."""
    rng = random.Random(seed)
    return [0.5 + 2 * math.exp(-k / 60) + rng.gauss(0, 0.02) for k in range(count)]


def explosion(count: int, start: float = 1.0) -> list[float]:
    """Losses that grow by half with every step."""
    return [start * 1.5**k for k in range(1, count + 1)]


class Trainer:
    """Reports to an engine as a training process does, and keeps everything that was said.

    It answers no decision by itself: `apply` and `answer` do.
    """

    def __init__(
        self,
        attempt: Attempt = ATTEMPT,
        settings: CoreSettings | None = None,
        engine: Engine | None = None,
    ) -> None:
        self.engine = engine or Engine(settings)
        self.inputs: list[Input] = []
        self.outputs: list[Output] = []
        self.attempt = attempt
        self.open(attempt)

    def open(self, attempt: Attempt) -> list[Output]:
        """A process starts, or comes back on a new stream."""
        if attempt.id != self.attempt.id or not self.inputs:
            self.step, self.seq, self.report = attempt.start_step, 1, 1
            self.branch = attempt.branch
            self.lr = attempt.groups[0].base_lr * attempt.scale
        self.attempt = attempt
        return self.feed(SessionOpened(attempt))

    def feed(self, event: Input) -> list[Output]:
        """One event; what follows from it."""
        self.inputs.append(event)
        found = self.engine.feed(event)
        self.outputs += found
        return found

    def train(self, losses: Sequence[float], **columns: Any) -> list[Output]:
        """One step per loss, reported together."""
        count = len(losses)
        event = Samples(
            attempt=self.attempt.id,
            first_seq=self.seq,
            validation=(False,) * count,
            step=tuple(range(self.step, self.step + count)),
            branch=(self.branch,) * count,
            program=(0,) * count,
            loss=tuple(losses),
            lrs=((self.lr,),),
        )
        self.step += count
        self.seq += count
        return self.feed(replace(event, **columns))

    def snapshot(self, number: int, *, proven: bool = False) -> list[Output]:
        """A snapshot of the state before the next step."""
        event = SnapshotTaken(
            self.attempt.id, self._report(), number, self.step, self.branch, proven
        )
        return self.feed(event)

    def answer(self, decision: Decision, status: DecisionStatus) -> list[Output]:
        """The receipt of a decision that was not followed."""
        lrs = (self.lr,)
        receipt = Receipt(decision.id, status, self.step, self.branch, self.branch, lrs, lrs)
        return self.feed(ReceiptArrived(self.attempt.id, self._report(), receipt))

    def apply(self, decision: Decision) -> list[Output]:
        """Follow a decision, and the receipt of that."""
        before, lr = self.branch, self.lr
        self.lr *= decision.factor
        self.branch += decision.restore_snapshot is not None
        receipt = Receipt(
            decision.id, DecisionStatus.APPLIED, self.step, before, self.branch, (lr,), (self.lr,)
        )
        return self.feed(ReceiptArrived(self.attempt.id, self._report(), receipt))

    def goodbye(self) -> list[Output]:
        """The end of the process, on purpose."""
        return self.feed(SaidGoodbye(self.attempt.id, self._report(), "finished", self.step))

    def _report(self) -> int:
        self.report += 1
        return self.report - 1

    @property
    def decisions(self) -> list[Decision]:
        """All so far."""
        return decisions(self.outputs)


def events_of(trainer: Trainer) -> list[Event]:
    """What the daemon would have journaled: each input, then what followed from it."""
    again = type(trainer.engine)()
    return [e for event in trainer.inputs for e in (event, *again.feed(event))]


def decisions(outputs: Sequence[Output]) -> list[Decision]:
    return [output.decision for output in outputs if isinstance(output, Decided)]


def signals(outputs: Sequence[Output]) -> list[Signal]:
    return [output.signal for output in outputs if isinstance(output, SignalSeen)]


def outcomes(outputs: Sequence[Output]) -> list[Outcome]:
    return [output.outcome for output in outputs if isinstance(output, OutcomeMeasured)]


def refusals(outputs: Sequence[Output]) -> list[str]:
    return [output.reason for output in outputs if isinstance(output, Refused)]


def proven(outputs: Sequence[Output]) -> list[int]:
    return [output.snapshot for output in outputs if isinstance(output, SnapshotProven)]


class Quadratic(Trainer):
    """A model that learns below the LR `edge` and blows up above it; follows every decision.

    `delay` is how many steps a decision is on its way. Snapshots are taken as a pilot takes them:
    the start state, then one at a time, `interval` steps apart.
    """

    def __init__(self, edge: float, *, delay: int = 3, interval: int = 20, **more: Any) -> None:
        super().__init__(**more)
        self.edge, self.delay, self.interval = edge, delay, interval
        self.excess = 2.0
        self.stopped = False
        self._rng = random.Random(1)
        self._held = {1: self.excess}
        self._waiting: int | None = None
        self._due: list[tuple[int, Decision]] = []
        self._next_snapshot = self.step + interval
        if self.attempt.can_snapshot:
            self.snapshot(1, proven=True)

    def run(self, steps: int) -> None:
        """So many steps, or until a decision says stop."""
        for _ in range(steps):
            if self.stopped:
                return
            self._step()

    def _step(self) -> None:
        self.excess *= 0.98 if self.lr < self.edge else 1.6
        if self.excess > 1e30:
            self.excess = math.nan
        found = self.train([0.5 + self.excess + self._rng.gauss(0, 0.02)])
        self._listen(found)
        while self._due and self._due[0][0] <= self.step:
            self._follow(self._due.pop(0)[1])
        if self.attempt.can_snapshot and self._waiting is None and self.step >= self._next_snapshot:
            self._waiting = max(self._held) + 1
            self._held[self._waiting] = self.excess
            self.snapshot(self._waiting)

    def _listen(self, found: list[Output]) -> None:
        self._due += [(self.step + self.delay, decision) for decision in decisions(found)]
        if self._waiting in proven(found):
            self._waiting = None
            self._next_snapshot = self.step + self.interval

    def _follow(self, decision: Decision) -> None:
        self.stopped = self.stopped or decision.stop
        if decision.restore_snapshot is not None:
            self.excess = self._held[decision.restore_snapshot]
            self._waiting = None
            self._next_snapshot = self.step + self.interval
        if decision.action is Action.NOTE:
            self._listen(self.answer(decision, DecisionStatus.APPLIED))
        else:
            self._listen(self.apply(decision))


def blown_up(trainer: Trainer) -> Trainer:
    """The run with its rollback on the way."""
    trainer.train(explosion(40))
    assert trainer.decisions[-1].action is Action.ROLLBACK
    return trainer


def as_json(outputs: Sequence[Output]) -> str:
    """All that can be told apart of them."""
    return json.dumps([[type(output).__name__, to_plain(output)] for output in outputs])
