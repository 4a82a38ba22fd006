"""`kill -9` of the trainer, and its next attempt from its checkpoint."""

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from lrpilot_controller.core.events import SearchEnded
from lrpilot_controller.core.findings import SearchEnd
from lrpilot_controller.journal import RunKey
from lrpilot_controller.story import story_of
from lrpilot_controller.story.replay import check
from support import digits
from support.daemon import PROJECT, Daemon, script, until
from support.training import attach, job, rollbacks, train, train_until


def load(checkpoint: Path) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(checkpoint)
    return state


def test_the_next_attempt_goes_on_from_the_checkpoint(daemon: Daemon) -> None:
    daemon.start()
    checkpoint = daemon.folder / "checkpoint.pt"
    trainer = script("checkpointing.py", daemon.address, "run", checkpoint)
    try:
        until(checkpoint.exists)
        until(lambda: load(checkpoint)["pilot"]["plan"], what="a cut in the checkpoint")
        until(lambda: load(checkpoint)["pilot"]["step"] >= 400, what="some healthy steps")
    finally:
        trainer.kill()
        trainer.wait()
    until(lambda: daemon.story("run")["state"] == "lost")
    first = daemon.story("run")
    known = len(daemon.seqs("run"))

    state = load(checkpoint)
    cut = state["optimizer"]["param_groups"][0]["lr"]
    one = job(50)
    with attach(one, daemon.address, "run") as pilot:
        one.model.load_state_dict(state["model"])
        one.optimizer.load_state_dict(state["optimizer"])
        pilot.load_state_dict(state["pilot"])
        assert pilot.step_count == state["pilot"]["step"]
        train(one, pilot, range(100), pause_s=0.001)
        assert pilot.lrs == [cut], "the plan survived"
        assert cut < one.optimizer.defaults["lr"] / 2
        one.spoil()
        train_until(one, pilot, lambda: rollbacks(pilot) == 1)
        assert pilot.lrs[0] < cut
        train(one, pilot, range(50))
        steps = pilot.step_count
        new = [decision.id for decision in pilot.decisions]

    story = daemon.story("run")
    assert story["run"] == "default/run"
    assert story["attempts"] == 2
    assert story["state"] == "finished"
    assert story["step"] == steps
    assert story["telemetry"]["received"] == known + steps - state["pilot"]["step"]
    old = [decision["id"] for decision in first["decisions"]]
    assert old
    assert new
    assert daemon.decided("run") == old + new == sorted({*old, *new}), "ids go on growing"


def test_steps_beyond_the_checkpoint_are_made_again(daemon: Daemon) -> None:
    """What the dead attempt reported beyond its checkpoint does not count as progress."""
    daemon.start()
    with attach(one := job(), daemon.address, "run") as pilot:
        train(one, pilot, range(50))
        state = {"model": one.model.state_dict(), "optimizer": one.optimizer.state_dict()}
        state = {**copy.deepcopy(state), "pilot": pilot.state_dict()}
        train(one, pilot, range(50))
    assert daemon.story("run")["step"] == 100

    with attach(one := job(), daemon.address, "run") as pilot:
        one.model.load_state_dict(state["model"])
        one.optimizer.load_state_dict(state["optimizer"])
        pilot.load_state_dict(state["pilot"])
        train(one, pilot, range(10))
    story = daemon.story("run")
    assert story["attempts"] == 2
    assert story["step"] == 60
    assert story["telemetry"]["received"] == 110
    with daemon.journal() as journal:
        points = story_of(journal, "run").points
    assert {point.left for point in points if point.step < 50} == {False}
    assert {point.left for point in points if point.step >= 60} == {True}


@pytest.mark.slow
def test_the_next_attempt_goes_on_from_before_the_end_of_a_search(daemon: Daemon) -> None:
    """The search is over with the process that it was in; the run is guarded from there on."""
    daemon.start()
    checkpoint = daemon.folder / "checkpoint.pt"
    trainer = script("searching.py", daemon.address, "run", checkpoint)
    try:
        until(checkpoint.exists)
        until(lambda: len(daemon.seqs("run")) > 2 * load(checkpoint)["pilot"]["step"])
        assert daemon.story("run")["state"] == "searching"
    finally:
        trainer.kill()
        trainer.wait()
    known, old = len(daemon.seqs("run")), daemon.decided("run")

    state = load(checkpoint)
    one = digits.digits(100.0)
    with digits.attach(one, daemon.address, "run", search=False) as pilot:
        one.task.model.load_state_dict(state["model"])
        one.optimizer.load_state_dict(state["optimizer"])
        pilot.load_state_dict(state["pilot"])
        digits.train(one, pilot, 150, pause_s=0.003)
        with torch.no_grad():
            next(one.task.model.parameters()).fill_(math.nan)
        digits.train(one, pilot, 150, pause_s=0.01)
        assert rollbacks(pilot) == 1, f"LR {pilot.lrs}"
        until(lambda: pilot.summary().connected)
        made = pilot.step_count - state["pilot"]["step"]
        new = [decision.id for decision in pilot.decisions]
    assert math.isfinite(one.loss())
    ends = [record.event.result.end for record in daemon.records("run", SearchEnded)]
    assert ends == [SearchEnd.ABANDONED]
    story = daemon.story("run")
    assert (story["state"], story["attempts"]) == ("finished", 2)
    assert len(daemon.seqs("run")) == known + made
    assert daemon.decided("run") == old + new == sorted({*old, *new})
    assert check(RunKey(PROJECT, "run"), daemon.records("run")).difference is None
