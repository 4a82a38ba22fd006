"""A trainer in an engine's search, without a process: it follows programs on a simulated job."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from lrpilot_controller.core.engine import Engine
from lrpilot_controller.core.events import (
    FellBack,
    Input,
    Output,
    PriorAnswered,
    ProgramEnded,
    ReceiptArrived,
    Requested,
    SearchEnded,
    SnapshotTaken,
)
from lrpilot_controller.core.findings import Reach, SearchEnd, SearchResult
from lrpilot_controller.core.model import Attempt, Decision, DecisionStatus, ParamGroup, Receipt
from lrpilot_controller.core.plans import Plan, Program
from lrpilot_controller.core.settings import CoreSettings
from support.simulated import Bowl, State, lr_at, stopped
from support.streams import Trainer, decisions, proven

BASE = 0.02
ATTEMPT = Attempt(
    "t1",
    (ParamGroup("all", BASE),),
    min_lr=BASE * 1e-6,
    max_lr=BASE * 1e6,
    optimizer="SGD",
    search=True,
    total_steps=1000,
    can_snapshot=True,
    can_program=True,
    can_replay=True,
)


class Searcher(Trainer):
    """Follows every decision as a pilot does, and keeps two snapshots: the proven and one more.

    Args:
        bowl: the job.
        prior: the LR that an earlier run found, which saw this `progress` there.
        home: whether the start snapshot is taken at once.
        more: of the attempt.

    Attributes:
        opened: the program that was begun last.
        todo: decisions that were not followed yet.
        interrupted: called with the number of programs so far; after how many steps the next one
            is interrupted, or None.
    """

    def __init__(
        self,
        bowl: Bowl | None = None,
        *,
        settings: CoreSettings | None = None,
        engine: Engine | None = None,
        prior: float | None = None,
        progress: tuple[Reach, ...] = (),
        home: bool = True,
        **more: Any,
    ) -> None:
        self.bowl = bowl or Bowl(noise=0.3)
        self.state = State.begin(self.bowl)
        self.held: dict[int, State] = {}
        self.proven_one = 0
        self.taken = 0
        self.todo: list[Decision] = []
        self.programs = 0
        self.interrupted: Callable[[int], int | None] = lambda _: None
        self.opened: Program | None = None
        self.plan: Plan | None = None
        super().__init__(replace(ATTEMPT, **more), settings, engine)
        if prior is not None:
            self.feed(PriorAnswered(self.attempt.id, prior, "an earlier run", progress))
        if home:
            self.take(proven_now=True)

    def feed(self, event: Input) -> list[Output]:
        found = super().feed(event)
        self.todo += decisions(found)
        for number in proven(found):
            self.held = {number: self.held[number]}
            self.proven_one = number
        return found

    # -- what it does

    def take(self, *, proven_now: bool = False) -> list[Output]:
        """A snapshot, in place of the one that is not proven."""
        self.taken += 1
        self.held = {n: s for n, s in self.held.items() if n == self.proven_one}
        self.held[self.taken] = self.state.copy()
        if proven_now:
            self.proven_one = self.taken
        report = self._report()
        event = SnapshotTaken(
            self.attempt.id, report, self.taken, self.step, self.branch, proven_now
        )
        return self.feed(event)

    def search(self) -> SearchResult | None:
        """Follow decisions until there is none; how the search ended, if it did."""
        while self.todo:
            self.follow(self.todo.pop(0))
        return self.result

    def follow(self, decision: Decision) -> None:
        """One decision, at this step boundary."""
        assert decision.expires_at_step is None or self.step < decision.expires_at_step
        assert decision.branch == self.branch
        if decision.save_snapshot:
            self.take()
        before, branch = self.lr, self.branch
        program = decision.program
        back = decision.restore_snapshot
        back = program.restore_snapshot or back if program else back
        if back is not None:
            self.state = self.held[back].copy()
            self.branch += 1
        if program is None:
            self.plan = decision.plan
            self.lr = self.native(self.plan)
        else:
            self.lr = lr_at(program.segments, 0)
            assert program.fallback_snapshot is None or program.fallback_snapshot in self.held
        receipt = Receipt(
            decision.id,
            DecisionStatus.APPLIED,
            self.step,
            branch,
            self.branch,
            (before,),
            (self.lr,),
        )
        self.feed(ReceiptArrived(self.attempt.id, self._report(), receipt))
        if program is not None:
            self.programs, self.opened = self.programs + 1, program
            self._run(program)

    def _run(self, program: Program) -> None:
        first, losses, why = self.step, list[float](), None
        cut = self.interrupted(self.programs)
        while why is None and len(losses) < program.length:
            if cut is not None and len(losses) >= cut:
                why = "interrupted"
                break
            self.lr = lr_at(program.segments, len(losses))
            losses.append(self.state.step(self.bowl, self.lr))
            why = stopped(program.stop, losses)
            self.train(losses[-1:], program=(program.id,))
        if why == "interrupted":  # the run's own state is back
            self.state = self.held[program.fallback_snapshot or self.taken].copy()
            self.branch += 1
        self.lr = self.native(self.plan)
        self.feed(
            ProgramEnded(
                self.attempt.id,
                self._report(),
                program.id,
                first,
                tuple(losses),
                why or "length",
                self.branch,
            )
        )

    def native(self, plan: Plan | None) -> float:
        """The LR under a plan, of a native LR that is constant."""
        base = self.attempt.groups[0].base_lr
        if plan is None:
            return base
        value = lr_at(plan.segments, self.step)
        return value if plan.kind == "replace" else base * value

    def go_on(self, steps: int) -> None:
        """Steps of its own, under the plan in force."""
        for _ in range(steps):
            self.lr = self.native(self.plan)
            self.train([self.state.step(self.bowl, self.lr)])

    def fall_back(self, reason: str = "no word came") -> list[Output]:
        """No word came in time after the last program."""
        program = self.opened
        assert program is not None
        if program.fallback_snapshot is not None:
            self.state = self.held[program.fallback_snapshot].copy()
        self.branch += 1
        self.plan = program.fallback if program.fallback.segments else None
        event = FellBack(
            self.attempt.id, self._report(), program.id, self.step, self.branch, reason
        )
        return self.feed(event)

    def ask(self, kind: str = "search", steps: int = 0) -> list[Output]:
        """The training code asks."""
        return self.feed(Requested(self.attempt.id, self._report(), kind, self.step, steps))

    # -- what it knows

    @property
    def results(self) -> list[SearchResult]:
        """The ends of all searches."""
        return [output.result for output in self.outputs if isinstance(output, SearchEnded)]

    @property
    def result(self) -> SearchResult | None:
        """The end of the last one."""
        return self.results[-1] if self.results else None


GARBAGE = Bowl(scale=math.nan)  # nothing can be learnt of it


def programs(decided: Sequence[Decision]) -> list[Decision]:
    """Those of them that bring a program."""
    return [decision for decision in decided if decision.program is not None]


def found_lr(**more: object) -> float:
    """What a search finds that nothing disturbs."""
    result = Searcher(**more).search()  # type: ignore[arg-type]
    assert result is not None
    assert result.end is SearchEnd.FOUND
    return result.lr


def mid_search(after: int = 5, **more: object) -> Searcher:
    """A trainer that has followed some programs; the next decision waits."""
    run = Searcher(**more)  # type: ignore[arg-type]
    for _ in range(after):
        run.follow(run.todo.pop(0))
    assert len(run.todo) == 1
    return run
