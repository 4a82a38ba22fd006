"""Mode advise: a person approves each decision."""

import math
from dataclasses import replace

import pytest

from lrpilot_controller.core.events import (
    Commanded,
    Decided,
    Output,
    Resolved,
    SearchEnded,
    SnapshotTaken,
)
from lrpilot_controller.core.findings import SearchEnd
from lrpilot_controller.core.model import Action, Decision, DecisionStatus, Mode, Signal, SignalKind
from lrpilot_controller.core.plans import Plan
from lrpilot_controller.core.settings import CoreSettings, Reuse, SearchSettings
from lrpilot_controller.core.view import RunView
from support.searcher import Searcher
from support.streams import ATTEMPT, LR, Trainer, decisions, descent, explosion, signals

ADVISED = replace(ATTEMPT, mode=Mode.ADVISE, can_stop=True)
PROPOSED, SENT = DecisionStatus.PROPOSED, DecisionStatus.SENT


def approve(number: int, who: str = "ann") -> Commanded:
    return Commanded("approve", who, "", decision_id=number)


def resolved(outputs: list[Output]) -> list[tuple[int, str, str | None]]:
    return [(r.decision_id, r.status, r.who) for r in outputs if isinstance(r, Resolved)]


def view(trainer: Trainer) -> RunView:
    assert trainer.engine.view is not None
    return trainer.engine.view


@pytest.fixture
def trainer() -> Trainer:
    """A healthy run at step 200 that can be rolled back."""
    made = Trainer(ADVISED)
    made.snapshot(1, proven=True)
    made.train(descent(200))
    return made


def proposed(trainer: Trainer) -> Decision:
    """What is proposed where the run blows up."""
    (decision,) = decisions(trainer.train(explosion(40)))
    assert decision.status is PROPOSED
    return decision


# -- a decision about a signal


def test_a_decision_waits_for_a_person_and_is_not_in_the_way(trainer: Trainer) -> None:
    decision = proposed(trainer)
    assert decision.action is Action.ROLLBACK
    assert view(trainer).proposed == decision
    assert view(trainer).in_flight is None


def test_an_approved_decision_is_sent_with_its_number_as_it_is_judged_now(
    trainer: Trainer,
) -> None:
    decision = proposed(trainer)
    trainer.train(explosion(10, start=1e6))
    assert trainer.engine.why_not(approve(decision.id)) is None
    found = trainer.feed(approve(decision.id))
    assert resolved(found) == [(decision.id, "approved", "ann")]
    (sent,) = decisions(found)
    assert (sent.id, sent.status, sent.signal) == (decision.id, SENT, decision.signal)
    assert (sent.step, decision.step) == (249, decision.step)
    assert sent.expires_at_step == sent.step + 10 * 50
    assert view(trainer).in_flight == sent
    assert view(trainer).proposed is None
    trainer.apply(sent)
    assert view(trainer).rollbacks == 1
    # The same once more would be another decision.
    assert "no decision of it waits" in str(trainer.engine.why_not(approve(decision.id)))


def test_a_raise_is_undone_in_full_though_it_is_approved_later() -> None:
    """The rate that was found too high has not become a proven one meanwhile."""
    trainer = Trainer(replace(ADVISED, max_lr=100 * LR))
    trainer.snapshot(1, proven=True)
    trainer.train(descent(400))
    trainer.lr = 100 * LR
    (decision,) = decisions(trainer.train([3.0 + 0.1 * (-1) ** t for t in range(8)]))
    assert decision.factor == pytest.approx(0.01)
    trainer.train([3.0 + 0.1 * (-1) ** t for t in range(20)])
    trainer.feed(approve(decision.id))
    assert trainer.decisions[-1].status is SENT
    assert trainer.decisions[-1].factor == pytest.approx(0.01)


def test_another_number_is_not_approved(trainer: Trainer) -> None:
    assert trainer.engine.why_not(approve(1)) == "no decision of it waits for approval"
    decision = proposed(trainer)
    reason = trainer.engine.why_not(approve(7))
    assert reason == f"decision 7 does not wait for approval, {decision.id} does"
    assert trainer.feed(approve(7)) == []


def test_what_has_changed_meanwhile_may_refuse_it(trainer: Trainer) -> None:
    trainer.snapshot(2)
    decision = proposed(trainer)
    trainer.train([0.6] * 100)
    trainer.feed(SnapshotTaken("t1", 3, 3, trainer.step, 0, True))
    reason = trainer.engine.why_not(approve(decision.id))
    assert reason == f"snapshot {decision.restore_snapshot} is not held any more"
    assert trainer.feed(approve(decision.id)) == []
    assert view(trainer).proposed == decision


def test_a_newer_one_takes_its_place(trainer: Trainer) -> None:
    first = proposed(trainer)
    found = trainer.train([math.nan] * 4)
    (second,) = [d for d in decisions(found) if d.status is PROPOSED]
    assert resolved(found) == [(first.id, "superseded", None)]
    assert second.id > first.id
    assert view(trainer).proposed == second


def test_what_a_person_asks_for_takes_its_place_too(trainer: Trainer) -> None:
    first = proposed(trainer)
    found = trainer.feed(Commanded("set_lr", "ann", "", lr=LR / 2))
    assert resolved(found) == [(first.id, "superseded", None)]
    assert [(d.id, d.status) for d in decisions(found)] == [(first.id + 1, SENT)]


def test_a_freeze_withdraws_it(trainer: Trainer) -> None:
    first = proposed(trainer)
    found = trainer.feed(Commanded("freeze", "ann", ""))
    assert resolved(found) == [(first.id, "superseded", "ann")]
    assert trainer.engine.why_not(approve(first.id)) is not None


@pytest.mark.parametrize("batch", [1, 7, 700])
def test_it_expires_by_steps_and_what_is_still_wrong_is_proposed_anew(
    trainer: Trainer, batch: int
) -> None:
    first = proposed(trainer)
    assert first.expires_at_step is not None
    found: list[Output] = []
    while trainer.step < first.expires_at_step + 20:
        found += trainer.train([1e7] * batch)
    assert resolved(found)[0] == (first.id, "expired", None)
    again = decisions(found)[0]
    assert (again.status, again.step) == (PROPOSED, first.expires_at_step)
    assert again.signal is not None
    assert again.signal.kind is SignalKind.DIVERGENCE


def test_one_whose_reason_is_gone_only_expires(trainer: Trainer) -> None:
    first = proposed(trainer)
    found = trainer.train([0.6] * 800)
    assert resolved(found) == [(first.id, "expired", None)]
    assert decisions(found) == []


def test_it_does_not_outlive_its_attempt(trainer: Trainer) -> None:
    first = proposed(trainer)
    found = trainer.open(replace(ADVISED, id="t2", resumes="t1"))
    assert resolved(found) == [(first.id, "expired", None)]
    assert view(trainer).proposed is None


def test_a_note_is_only_said(trainer: Trainer) -> None:
    (note,) = decisions(trainer.train([math.nan]))
    assert (note.action, note.status) == (Action.NOTE, DecisionStatus.SHADOW)


def test_a_stop_waits_as_well() -> None:
    trainer = Trainer(replace(ADVISED, can_snapshot=False))
    trainer.train(descent(200))
    (cut,) = decisions(trainer.train(explosion(40)))
    assert (cut.action, cut.status) == (Action.CUT, PROPOSED)
    (sent,) = decisions(trainer.feed(approve(cut.id)))
    trainer.apply(sent)
    found = trainer.train([math.nan] * 4)
    (stop,) = [d for d in decisions(found) if d.action is Action.STOP]
    assert stop.status is PROPOSED
    (sent,) = decisions(trainer.feed(approve(stop.id)))
    assert (sent.id, sent.stop, sent.status) == (stop.id, True, SENT)


def test_the_same_signals_are_seen_as_in_mode_auto() -> None:
    def seen(mode: Mode) -> list[Signal]:
        run = Trainer(replace(ADVISED, mode=mode))
        run.snapshot(1, proven=True)
        return signals(run.train(descent(200) + explosion(60)))

    assert seen(Mode.ADVISE) == seen(Mode.AUTO) == seen(Mode.OBSERVE) != []


# -- a search


def offered(**more: object) -> tuple[Searcher, Decision]:
    """A run whose search waits for a person."""
    run = Searcher(mode=Mode.ADVISE, **more)  # type: ignore[arg-type]
    (decision,) = run.decisions
    run.todo = []
    assert decision.status is PROPOSED
    return run, decision


def test_a_search_waits_and_the_run_trains_meanwhile() -> None:
    run, first = offered()
    assert first.action is Action.PROGRAM
    assert not run.engine.will_search  # the trainer is not to wait for it before step 0
    assert not view(run).searching
    run.go_on(100)
    assert run.lr == run.attempt.groups[0].base_lr


@pytest.mark.parametrize("steps", [0, 100])
def test_whoever_approves_its_first_program_approves_all_of_it(steps: int) -> None:
    run, first = offered()
    run.go_on(steps)
    found = run.feed(approve(first.id))
    assert resolved(found) == [(first.id, "approved", "ann")]
    assert run.engine.will_search
    result = run.search()
    assert result is not None
    assert result.end is SearchEnd.FOUND
    later = run.decisions[1:]
    assert {decision.status for decision in later} == {SENT}
    assert later[0].id == first.id
    assert later[0].save_snapshot  # it begins from the state that it was approved in
    assert run.decisions[-1].action is Action.PLAN
    assert isinstance(run.plan, Plan)


def test_an_lr_that_is_trusted_waits_as_well() -> None:
    settings = CoreSettings(search=SearchSettings(Reuse.TRUST))
    run, first = offered(settings=settings, prior=0.05)
    assert first.action is Action.PLAN
    run.feed(approve(first.id))
    result = run.search()
    assert result is not None
    assert (result.end, result.lr) == (SearchEnd.REUSED, 0.05)


def test_a_search_that_nobody_approves_is_forgotten() -> None:
    run, first = offered()
    run.go_on(600)
    assert resolved(run.outputs) == [(first.id, "expired", None)]
    assert run.engine.why_not(approve(first.id)) is not None
    assert not any(isinstance(output, SearchEnded) for output in run.outputs)
    # It can be asked for again, by the training code or by a person, who needs no approval.
    run.ask()
    second = run.decisions[-1]
    assert second.status is PROPOSED
    found = run.feed(Commanded("search", "ann", ""))
    assert resolved(found) == [(second.id, "superseded", None)]
    (third,) = [output.decision for output in found if isinstance(output, Decided)]
    assert (third.id, third.status) == (second.id + 1, SENT)
