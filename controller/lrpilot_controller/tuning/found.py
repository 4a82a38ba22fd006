"""What a run's searches found and tried, and how the run ended: folded from its journal."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from lrpilot_controller.core.events import (
    Decided,
    PriorAnswered,
    ProgramEnded,
    SaidGoodbye,
    SearchEnded,
    SessionLost,
    SessionOpened,
)
from lrpilot_controller.core.findings import Candidate, SearchEnd, SearchResult
from lrpilot_controller.core.model import Action, Attempt
from lrpilot_controller.core.plans import Plan, Program
from lrpilot_controller.journal.base import Journal, Record, RunKey
from lrpilot_controller.tuning.cases import ABANDONED_S

LADDER = "ladder"
FOUND = (SearchEnd.FOUND, SearchEnd.REUSED)

_KINDS = (
    SessionOpened,
    PriorAnswered,
    SessionLost,
    SaidGoodbye,
    Decided,
    ProgramEnded,
    SearchEnded,
)
_DIVERGED = frozenset({"non_finite", "loss_cap", "ema_cap", "ema_rise"})


@dataclass(slots=True)
class Tried:
    """One LR of a search's ladder, with the programs that it was tried in.

    `number` is the first one's; a candidate may take several, one after the other.
    """

    attempt: Attempt
    number: int
    lr: float
    started: float
    programs: dict[int, Program] = field(default_factory=dict)
    losses: list[float] = field(default_factory=list)
    stop_reason: str = ""
    ended: float = 0.0
    last: int = 0  # losses of its last program
    candidate: Candidate | None = None

    @property
    def diverged(self) -> bool:
        """Whether it blew up, or the search took it for that."""
        if self.candidate is not None:
            return not math.isfinite(self.candidate.score)
        return self.stop_reason in _DIVERGED or not math.isfinite(self.score)

    @property
    def score(self) -> float:
        """The search's own, or else the mean of the last quarter of the last program's losses."""
        if self.candidate is not None:
            return self.candidate.score
        quarter = self.losses[-max(self.last // 4, 1) :]
        return sum(quarter) / len(quarter) if quarter else math.inf


@dataclass(slots=True)
class Found:
    """What a run goes on with, found by a search or native, and what became of it.

    Attributes:
        number: Of the search within its attempt, from 0.
        result: Of the search; None where none ended.
        n: Number of the record after which its losses come.
        heirs: This attempt, and those that resumed from its state.
        prior: The LR that earlier runs told it; None where they told none.
        plan: What the search led to; None where the native LR went on.
        end: How the run ended: a goodbye's reason, `lost` or `searched_again`; empty before.
    """

    attempt: Attempt
    number: int
    result: SearchResult | None
    at: float
    n: int
    heirs: set[str]
    prior: float | None = None
    plan: Plan | None = None
    end: str = ""
    ended_at: float | None = None
    ended_n: int = 0

    @property
    def lr(self) -> float:
        """What the run goes on at: the LR that was found, or its native base LR."""
        if self.result is not None and self.result.end in FOUND:
            return self.result.lr
        return self.attempt.groups[0].base_lr


@dataclass(slots=True)
class Searches:
    """All of a run: what was found, and what was tried in searches that are over.

    A run whose searches found nothing, or that made none, is told of once it is over.
    """

    found: list[Found] = field(default_factory=list)
    tried: list[Tried] = field(default_factory=list)


def read_searches(journal: Journal, run: RunKey, now: float) -> Searches:
    """The searches of a run.

    Args:
        journal: Where they are recorded; telemetry is not touched.
        run: Whose searches.
        now: Wall clock in unix seconds, to tell an abandoned run.

    Raises:
        JournalError: The journal cannot be read.
    """
    fold = _Fold()
    for record in journal.records(run, kinds=_KINDS):
        fold.feed(record)
    fold.finish(now)
    return fold.all


@dataclass(slots=True)
class _Fold:
    all: Searches = field(default_factory=Searches)
    attempt: Attempt | None = None
    searches: int = 0
    prior: float | None = None
    plan: Plan | None = None
    native: Found | None = None  # the run as it is while no search found anything
    open: list[Tried] = field(default_factory=list)  # of the search under way
    lost: Record | None = None

    def feed(self, record: Record) -> None:
        match record.event:
            case SessionOpened(attempt):
                self._opened(attempt, record)
            case PriorAnswered(attempt, lr) if self._current(attempt):
                self.prior = lr
            case SessionLost(attempt) if self._current(attempt):
                self.lost = record
            case SaidGoodbye(attempt) if self._current(attempt):
                self._close(())
                self._end(record, record.event.reason)
            case Decided(decision) if decision.program is not None:
                self._decided(decision.program, record)
            case Decided(decision) if decision.signal is None and decision.who is None:
                self.plan = decision.plan if decision.action is Action.PLAN else None
            case ProgramEnded(attempt) if self._current(attempt):
                self._result(record.event, record)
            case SearchEnded(attempt, result) if self._current(attempt):
                self._ended(result, record)
            case _:
                pass

    def finish(self, now: float) -> None:
        """Nothing more is in the journal: is the run still there?"""
        if self.lost is not None and now - self.lost.at > ABANDONED_S:
            self._close(())
            self._end(self.lost, "lost")

    def _current(self, attempt: str) -> bool:
        return self.attempt is not None and self.attempt.id == attempt

    def _opened(self, attempt: Attempt, record: Record) -> None:
        self.lost = None
        if self._current(attempt.id):
            return
        self._close(())
        for found in self._running():
            if attempt.resumes in found.heirs:
                found.heirs.add(attempt.id)
        if not any(attempt.id in found.heirs for found in self._running()):
            self._end(record, "lost")
            self.native = Found(attempt, 0, None, record.at, record.n, {attempt.id})
        self.attempt, self.searches, self.prior, self.plan = attempt, 0, None, None

    def _decided(self, program: Program, record: Record) -> None:
        if self.attempt is None or program.phase != LADDER:
            return
        last = self.open[-1] if self.open else None
        if last is None or not math.isclose(last.lr, program.lr, rel_tol=1e-9):
            last = Tried(self.attempt, program.id, program.lr, record.at)
            self.open.append(last)
        last.programs[program.id] = program

    def _result(self, event: ProgramEnded, record: Record) -> None:
        for tried in self.open:
            if event.program in tried.programs:
                again = event.stop_reason == "interrupted"  # from the candidate's beginning
                tried.losses = [] if again else [*tried.losses, *event.losses]
                tried.stop_reason, tried.ended = event.stop_reason, record.at
                tried.last = len(event.losses)

    def _ended(self, result: SearchResult, record: Record) -> None:
        assert self.attempt is not None
        self._close(result.candidates)
        if result.end not in FOUND:
            if self.native is not None:
                self.native.result, self.native.prior = result, self.prior
            return
        self.native = None
        self._end(record, "searched_again")
        found = Found(
            self.attempt, self.searches, result, record.at, record.n, {self.attempt.id},
            self.prior, self.plan,
        )  # fmt: skip
        self.all.found.append(found)
        self.searches += 1

    def _close(self, candidates: tuple[Candidate, ...]) -> None:
        for tried in self.open:
            for candidate in candidates:
                if math.isclose(candidate.lr, tried.lr, rel_tol=1e-4):
                    tried.candidate = candidate
        self.all.tried += [tried for tried in self.open if tried.losses or tried.stop_reason]
        self.open = []

    def _end(self, record: Record, end: str) -> None:
        for found in self._running():
            found.end, found.ended_at, found.ended_n = end, record.at, record.n
        if self.native is not None:
            self.all.found.append(self.native)
            self.native = None

    def _running(self) -> Iterator[Found]:
        running = [found for found in self.all.found if not found.end]
        return iter(running if self.native is None else [*running, self.native])
