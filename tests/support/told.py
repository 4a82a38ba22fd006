"""Records of one run, and the story that they are folded into."""

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from lrpilot_controller.core.events import Event, ReceiptArrived, SessionOpened
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
from lrpilot_controller.core.telemetry import Samples
from lrpilot_controller.journal import Record, RunKey
from lrpilot_controller.story import Story, tell

RUN = RunKey("demo", "exp-1")
GROUPS = (ParamGroup("body", 0.1), ParamGroup("head", 0.01))
OPENED = SessionOpened(Attempt("t1", GROUPS, 1e-6, 1.0))
SIGNAL = Signal(SignalKind.DIVERGENCE, 50, 45, 0.9, {"rise": math.inf, "noise": 0.1})
ROLLBACK = Decision(1, Action.ROLLBACK, "the loss rose", 50, 0, SIGNAL, restore_snapshot=7)
OUTCOME = Outcome(1, Verdict.IMPROVED, 0.25, 40, 2.0, 1.5)


def story(*events: Event, points: int = 500) -> Story:
    return tell(RUN, (Record(n, 0.0, e) for n, e in enumerate(events, 1)), points=points)


def samples(
    steps: Iterable[int], attempt: str = "t1", first_seq: int | None = None, **columns: Any
) -> Samples:
    step = tuple(steps)
    none = (0,) * len(step)
    made = Samples(
        attempt=attempt,
        first_seq=step[0] + 1 if first_seq is None else first_seq,
        validation=(False,) * len(step),
        step=step,
        branch=none,
        program=none,
        loss=tuple(1 / (k + 1) for k in step),
        lrs=((0.1, 0.01),),
    )
    return replace(made, **columns)


def receipt(decision: int = 1, status: str = "applied", step: int = 60, **more: Any) -> Receipt:
    before, after = (0.1, 0.01), (0.05, 0.005)
    return Receipt(decision, DecisionStatus(status), step, 0, 1, before, after, **more)


def arrived(answer: Receipt, attempt: str = "t1") -> ReceiptArrived:
    return ReceiptArrived(attempt, 1, answer)
