"""What crosses on the wire in a search: reports that were on their way when a decision was made."""

from dataclasses import replace

import pytest

from lrpilot_controller.core.events import FellBack, ProgramEnded, Requested, SearchEnded
from lrpilot_controller.core.findings import SearchEnd
from lrpilot_controller.core.model import Action, Decision, DecisionStatus
from lrpilot_controller.core.plans import PlanKind
from support.streams import ATTEMPT, LR, Trainer, decisions, descent, explosion, proven

ABLE = replace(ATTEMPT, total_steps=1000, can_program=True, can_replay=True, max_lr=LR * 1e6)
FLAT = (2.30, 2.31, 2.32, 2.30, 2.31, 2.32)
BETTER = (2.30, 2.305, 2.31, 2.29, 2.295, 2.30)


class Searched(Trainer):
    """A trainer that follows the programs of a search."""

    def begin(self, decision: Decision, kept: int = 0) -> None:
        """Begin a program at this boundary, and say so; `kept` is the snapshot that it takes."""
        assert decision.program is not None
        if decision.save_snapshot:
            self.snapshot(kept)
        self.branch += decision.program.restore_snapshot is not None
        self.answer(decision, DecisionStatus.APPLIED)
        self.step += decision.program.length

    def end(self, decision: Decision, losses: tuple[float, ...]) -> Decision:
        """A program ended; what comes after it."""
        first = self.step - len(losses)
        event = ProgramEnded(
            "t1", self._report(), decision.id, first, losses, "length", self.branch
        )
        [following] = decisions(self.feed(event))
        return following

    def fall_back(self, decision: Decision) -> SearchEnded:
        """No word came after a program: training goes on at the native LR."""
        self.branch += 1
        event = FellBack("t1", self._report(), decision.id, self.step, self.branch, "lost")
        [ended] = [o for o in self.feed(event) if isinstance(o, SearchEnded)]
        return ended


def before_step_0(**fields: object) -> tuple[Searched, Decision]:
    """A run whose search has sent its first program."""
    trainer = Searched(replace(ABLE, search=True, **fields))  # type: ignore[arg-type]
    [first] = decisions(trainer.snapshot(1, proven=True))
    return trainer, first


def fallen_back() -> tuple[Searched, Decision, SearchEnded]:
    """The word on a program that did well came too late: a fallback of before is followed."""
    trainer, first = before_step_0()
    trainer.begin(first)
    second = trainer.end(first, FLAT)
    trainer.begin(second)
    late = trainer.end(second, BETTER)
    assert late.program is not None
    assert late.program.fallback.segments, "an LR is known to be healthy by now"
    return trainer, late, trainer.fall_back(second)


def test_what_is_told_of_a_fallback_is_what_the_trainer_follows() -> None:
    trainer, _, ended = fallen_back()
    assert ended.result.end is SearchEnd.FELL_BACK
    assert ended.result.lr == LR
    assert trainer.engine.view is not None
    assert trainer.engine.view.plan is None


def test_the_guard_does_not_wait_for_the_answer_to_a_decision_that_is_stale() -> None:
    trainer, late, _ = fallen_back()
    [rescue] = decisions(trainer.train(explosion(40, start=2.3)))
    assert rescue.action is Action.ROLLBACK
    assert rescue.plan is not None
    assert rescue.plan.kind is PlanKind.SCALE, "a cut of the native LR, which is what blew up"
    assert trainer.answer(late, DecisionStatus.STALE) == []
    assert decisions(trainer.apply(rescue)) == []


def test_a_search_in_mid_run_begins_from_the_snapshot_that_it_asked_for() -> None:
    """The trainer may have taken another one just before it was asked."""
    trainer = Searched(ABLE)
    trainer.snapshot(1, proven=True)
    trainer.train(descent(100))
    request = Requested("t1", trainer._report(), "search", trainer.step)
    [first] = decisions(trainer.feed(request))
    assert first.save_snapshot
    trainer.snapshot(2)
    told = len(trainer.outputs)
    trainer.begin(first, kept=3)
    assert proven(trainer.outputs[told:]) == [3], "no program may take its place"
    second = trainer.end(first, FLAT)
    assert second.restore_snapshot == 3


@pytest.mark.parametrize("base", [1e-4, 10.0])
def test_a_factor_on_the_users_schedule_is_not_taken_for_an_lr(base: float) -> None:
    """The base may be wrong by more than the highest LR is large."""
    groups = (replace(ABLE.groups[0], base_lr=base),)
    trainer, first = before_step_0(groups=groups, max_lr=base * 1e4, scheduled=True)
    while first.program is not None:
        lr, count = first.program.lr, first.program.length
        trainer.begin(first, kept=trainer.report)
        gain = min(lr / 0.1, 1.0) ** 0.5
        losses = tuple(2.3 - 0.02 * gain * i + 0.003 * (i % 3) for i in range(count))
        first = trainer.end(first, losses)
    assert first.action is Action.PLAN
    assert first.plan is not None
    assert first.plan.kind is PlanKind.SCALE
