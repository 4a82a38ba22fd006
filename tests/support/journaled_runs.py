"""Runs as a daemon journals them, without one."""

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna

from lrpilot_controller.core.events import (
    Decided,
    Event,
    OutcomeMeasured,
    ProgramEnded,
    ReceiptArrived,
    SaidGoodbye,
    SearchEnded,
    SessionLost,
    SessionOpened,
    SnapshotTaken,
)
from lrpilot_controller.core.findings import Candidate, Reach, SearchEnd, SearchResult
from lrpilot_controller.core.model import (
    Action,
    Attempt,
    Decision,
    DecisionStatus,
    Outcome,
    ParamGroup,
    Receipt,
    Signal,
    SignalKind,
    Verdict,
)
from lrpilot_controller.core.plans import Plan, Program, Segment, Shape
from lrpilot_controller.core.telemetry import Samples
from lrpilot_controller.journal import Journal, Record, RunKey

EVIDENCE = {"rise": 4.5, "level": 1.25}


class Run:
    """One run's events, journaled and then told to the listener, as the daemon does."""

    def __init__(self, journal: Journal, name: str = "exp-1") -> None:
        self.key = RunKey("demo", name)
        self.attempt = ""
        self.listener: Callable[[RunKey, list[Record]], None] | None = None
        self._journal = journal
        self._reports = 0

    def add(self, *events: Event, at: float | None = None) -> list[Record]:
        now = time.time() if at is None else at
        numbers = self._journal.append([(self.key, now, event) for event in events])
        records = [Record(n, now, e) for n, e in zip(numbers, events, strict=True)]
        if self.listener is not None:
            self.listener(self.key, records)
        return records

    def open(self, attempt: str = "first", optimizer: str = "AdamW") -> None:
        self.attempt = attempt
        groups = (ParamGroup("0", 0.1),)
        self.add(SessionOpened(Attempt(attempt, groups, 1e-5, 0.1, optimizer=optimizer)))

    def decide(
        self,
        number: int,
        action: Action = Action.ROLLBACK,
        status: DecisionStatus = DecisionStatus.SENT,
        *,
        factor: float = 1 / 3,
        rule: float | None = None,
        kind: SignalKind = SignalKind.DIVERGENCE,
        evidence: dict[str, float] | None = None,
    ) -> list[Record]:
        step = 100 * number
        signal = Signal(kind, step, step - 7, 0.8, EVIDENCE if evidence is None else evidence)
        changes = action in (Action.CUT, Action.ROLLBACK)
        decision = Decision(
            id=number,
            action=action,
            reason=f"the loss rose at step {step}",
            step=step,
            branch=0,
            signal=signal,
            restore_snapshot=3 if action is Action.ROLLBACK else None,
            plan=Plan.scale(factor, step) if changes else None,
            stop=action is Action.STOP,
            factor=factor if changes else 1.0,
            status=status,
            rule=rule,
        )
        return self.add(Decided(decision))

    def receipt(
        self, number: int, status: DecisionStatus = DecisionStatus.APPLIED, detail: str = ""
    ) -> None:
        self._reports += 1
        step = 100 * number + 2
        receipt = Receipt(number, status, step, 0, 1, (0.1,), (0.1 / 3,), 0.01, detail)
        self.add(ReceiptArrived(self.attempt, self._reports, receipt))

    def snapshot(self, step: int) -> None:
        self._reports += 1
        self.add(SnapshotTaken(self.attempt, self._reports, 3, step, 0, True))

    def losses(self, first: int, losses: list[float], branch: int = 1) -> list[Record]:
        count = len(losses)
        return self.add(
            Samples(
                attempt=self.attempt,
                first_seq=first,
                validation=(False,) * count,
                step=tuple(range(first, first + count)),
                branch=(branch,) * count,
                program=(0,) * count,
                loss=tuple(losses),
                lrs=((0.1,),),
            )
        )

    def outcome(self, number: int, verdict: Verdict = Verdict.IMPROVED, gain: float = 0.4) -> None:
        self.add(OutcomeMeasured(Outcome(number, verdict, gain, 50, 1.25, 0.75)))

    def goodbye(self, reason: str = "finished") -> None:
        self._reports += 1
        self.add(SaidGoodbye(self.attempt, self._reports, reason, 1000))

    def lose(self, at: float | None = None) -> None:
        self.add(SessionLost(self.attempt), at=at)


Trial = optuna.trial.FrozenTrial
StudiesOf = Callable[[Path], dict[str, list[Trial]]]
ATTEMPT = Attempt(
    "first",
    (ParamGroup("0", 0.1),),
    1e-7,
    1e3,
    optimizer="AdamW",
    search=True,
    total_steps=1000,
    job="mlp/AdamW/64",
    client_version="1.2.3",
)
FOUND = SearchResult(
    SearchEnd.FOUND,
    0.03,
    120,
    "0.0316 won of 3 LRs",
    2.3,
    (Candidate(0.01, 1.2, 30), Candidate(0.0316, 0.9, 30), Candidate(0.1, math.inf, 8)),
    progress=Reach(0.0316, 30, 0.2, 1.3, 1.4),
)


class Searching:
    """A run whose search is journaled as the daemon does it."""

    def __init__(self, run: Any, attempt: Attempt = ATTEMPT) -> None:
        self.run = run
        self.seq = 1
        self.decided = 0
        self.open(attempt)

    def open(self, attempt: Attempt) -> None:
        self.attempt = attempt
        self.run.attempt = attempt.id
        self.seq = 1
        self.run.add(SessionOpened(attempt))

    def probe(
        self, lr: float, losses: tuple[float, ...], stop: str = "length", phase: str = "ladder"
    ) -> None:
        self.decided += 1
        segments = (Segment(Shape.CONSTANT, 0, 30, lr, lr),)
        program = Program(self.decided, segments, 30, Plan.scale(1.0, 0), phase=phase, lr=lr)
        self.run.add(
            Decided(Decision(self.decided, Action.PROGRAM, "why", 0, 0, program=program)),
            ProgramEnded(self.attempt.id, self.decided, self.decided, 0, losses, stop, 1),
        )

    def ladder(self) -> None:
        self.probe(0.0, (2.3, 2.3), phase="reference")
        self.probe(0.01, (2.0, 1.5))
        self.probe(0.01, (1.4, 1.3, 1.2, 1.2))
        self.probe(0.0316, (2.0, 1.0))
        self.probe(0.0316, (0.9, 0.9))
        self.probe(0.1, (2.0, 50.0), "loss_cap")

    def ended(self, result: SearchResult = FOUND) -> None:
        self.run.add(SearchEnded(self.attempt.id, result))

    def train(
        self, losses: list[float], validations: dict[int, float] | None = None, first: int = 200
    ) -> None:
        rows = [(first + k, loss, False) for k, loss in enumerate(losses)]
        rows += [(step, loss, True) for step, loss in (validations or {}).items()]
        rows.sort()
        none = (0,) * len(rows)
        self.run.add(
            Samples(
                attempt=self.attempt.id,
                first_seq=self.seq,
                validation=tuple(row[2] for row in rows),
                step=tuple(row[0] for row in rows),
                branch=none,
                program=none,
                loss=tuple(row[1] for row in rows),
                lrs=((0.03,),),
            )
        )
        self.seq += len(rows)


Trials = Callable[[], list[optuna.trial.FrozenTrial]]


def applied(run: Any, number: int = 1, **decided: Any) -> None:
    """A decision, and the receipt that says so."""
    run.decide(number, **decided)
    run.receipt(number)
