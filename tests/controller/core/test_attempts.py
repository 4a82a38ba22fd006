"""One attempt after another, and which of an attempt's snapshots are proven."""

from dataclasses import replace

import pytest

from lrpilot_controller.core.events import SessionLost, SnapshotTaken
from lrpilot_controller.core.model import Action
from lrpilot_controller.core.plans import Plan
from support.streams import ATTEMPT, LR, Trainer, blown_up, decisions, descent, explosion, proven

# -- attempts


def test_a_new_attempt_starts_afresh_but_keeps_count(trainer: Trainer) -> None:
    trainer.apply(blown_up(trainer).decisions[0])
    old = trainer.engine.view
    assert old is not None
    plan = Plan.scale(0.5, 100)
    trainer.open(replace(ATTEMPT, id="t2", start_step=150, scale=0.5, plan=plan, branch=4))
    view = trainer.engine.view
    assert view is not None
    assert (view.step, view.branch, view.plan) == (150, 4, plan)
    assert view.lr == pytest.approx(LR * 0.5)
    assert (view.snapshot, view.in_flight) == (None, None)
    assert (view.rollbacks, view.rolled_back_steps) == (1, old.rolled_back_steps)
    # The old process's memory is gone: its snapshots cannot be asked for, its level is forgotten.
    assert trainer.train([x + 30 for x in descent(200)]) == []
    (decision,) = decisions(trainer.train(explosion(40, 40)))
    assert (decision.id, decision.action) == (2, Action.CUT)


def test_the_same_process_on_a_new_stream_goes_on(trainer: Trainer) -> None:
    blown_up(trainer)
    view = trainer.engine.view
    trainer.feed(SessionLost("t1"))
    assert trainer.open(ATTEMPT) == []
    assert trainer.engine.view is view
    assert view is not None
    assert view.in_flight is not None


def test_ids_in_the_journal_are_never_used_again(trainer: Trainer) -> None:
    trainer.engine.skip_decisions(7)
    trainer.engine.skip_decisions(3)
    assert blown_up(trainer).decisions[0].id == 8


# -- snapshots


def test_a_snapshot_is_proven_by_healthy_samples_alone() -> None:
    trainer = Trainer()
    trainer.snapshot(1, proven=True)
    losses = descent(400)
    assert proven(trainer.train(losses[:100])) == []
    trainer.snapshot(2)
    assert proven(trainer.train(losses[100:124])) == []
    assert proven(trainer.train(losses[124:125])) == [2]  # half a time scale
    assert proven(trainer.train(losses[125:])) == []


def test_unhealthy_samples_prove_nothing() -> None:
    trainer = Trainer()
    trainer.snapshot(1, proven=True)
    trainer.train(descent(200))
    trainer.snapshot(2)
    assert proven(trainer.train([2.0] * 20)) == []
    assert proven(trainer.train(descent(260)[200:224])) == []  # 24 healthy ones are not enough
    assert proven(trainer.train(descent(400)[260:])) == [2]


def test_validations_and_programs_prove_nothing() -> None:
    trainer = Trainer()
    trainer.train(descent(200))
    trainer.snapshot(2)
    assert trainer.train([0.5] * 100, validation=(True,) * 100) == []
    assert trainer.train([0.5] * 100, program=(3,) * 100) == []


def test_a_snapshot_of_a_left_branch_is_forgotten(trainer: Trainer) -> None:
    trainer.snapshot(3)
    trainer.apply(blown_up(trainer).decisions[0])
    late = SnapshotTaken("t1", 99, 4, 230, 0, False)  # reported by the old branch
    trainer.feed(late)
    assert proven(trainer.train(descent(400)[200:])) == []
