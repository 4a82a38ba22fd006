"""A daemon's runs on a journal, without its server or any process."""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any

from lrpilot_controller.config import Config
from lrpilot_controller.core.events import (
    Decided,
    Input,
    PriorAnswered,
    ReceiptArrived,
    SnapshotTaken,
)
from lrpilot_controller.core.model import Attempt, Decision, DecisionStatus, Receipt, Signal
from lrpilot_controller.core.telemetry import Samples
from lrpilot_controller.errors import LRPilotError
from lrpilot_controller.journal import MemoryJournal, RunKey
from lrpilot_controller.journal.writer import JournalWriter
from lrpilot_controller.server.live import LiveRun
from lrpilot_controller.server.runs import Runs
from support.streams import ATTEMPT

KEY = RunKey("demo", "exp-1")
SEARCHING = replace(
    ATTEMPT,
    max_lr=1e3,
    search=True,
    total_steps=2000,
    can_program=True,
    can_replay=True,
    job="mlp/adamw/64",
)
IDLE = replace(SEARCHING, search=False)
START = SnapshotTaken("t1", 1, 1, 0, 0, True)
LOSSES = Samples(
    "t1",
    first_seq=1,
    validation=(False,) * 40,
    step=tuple(range(40)),
    branch=(0,) * 40,
    program=(0,) * 40,
    loss=(1.0,) * 40,
    lrs=((0.1,),),
)


@dataclass
class Link:
    """A session that keeps what it is told."""

    decided: list[Decision] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)

    def decide(self, decision: Decision) -> None:
        self.decided.append(decision)

    def prove(self, snapshot: int) -> None:
        pass

    def see(self, signal: Signal) -> None:
        pass

    def end(self, error: LRPilotError) -> None:
        self.ended.append(str(error))


class Priors:
    """Answers as it is told to, and counts the questions."""

    deadline_s = 0.2

    def __init__(self, answer: PriorAnswered | Exception | None) -> None:
        self.answer = answer
        self.asked: list[tuple[RunKey, str]] = []

    def ask(self, run: RunKey, attempt: Attempt) -> "Future[PriorAnswered]":
        self.asked.append((run, attempt.id))
        future: Future[PriorAnswered] = Future()
        if isinstance(self.answer, Exception):
            future.set_exception(self.answer)
        elif self.answer is not None:
            future.set_result(replace(self.answer, attempt=attempt.id))
        return future


class House:
    """A daemon's runs on a journal, without its server."""

    def __init__(self) -> None:
        self.journal = MemoryJournal()
        self.writer = JournalWriter(self.journal)
        self.priors = Priors(PriorAnswered("", None, "no earlier run of this job"))
        self.link = Link()
        self.config = Config()
        self.restart()

    def restart(self) -> None:
        """Another daemon on the same journal."""
        self.runs = Runs(self.journal, self.writer, self.config, self.priors)

    async def open(self, attempt: Attempt = SEARCHING, link: Link | None = None) -> LiveRun:
        self.link = link or Link()
        return await self.runs.open(KEY, attempt, self.link)

    async def feed(self, run: LiveRun, *events: Any) -> None:
        for event in events:
            await self.runs.take(run, self.link, event)

    def inputs(self) -> list[Input]:
        return [r.event for r in self.journal.records(KEY) if isinstance(r.event, Input)]

    def names(self) -> list[str]:
        return [type(event).__name__ for event in self.inputs()]

    def programs(self) -> list[Decision]:
        records = self.journal.records(KEY, kinds=[Decided])
        made = [r.event.decision for r in records if isinstance(r.event, Decided)]
        return [decision for decision in made if decision.program is not None]


def play(story: Callable[[], Awaitable[None]]) -> None:
    async def whole() -> None:
        await story()

    asyncio.run(whole())


def applied(decision: Decision, number: int, step: int = 0) -> ReceiptArrived:
    status = DecisionStatus.APPLIED
    receipt = Receipt(decision.id, status, step, 0, 0, (0.1,), (0.1,), 0.001)
    return ReceiptArrived("t1", number, receipt)
