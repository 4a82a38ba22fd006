"""The journal is older than the run that is under way: put back, or moved away and begun anew.

What it lost is lost. The run keeps its control: no number of a decision is given twice, and there
is a snapshot to go back to.
"""

import logging
import shutil

import pytest

from lrpilot.pilot import Pilot
from support.daemon import Daemon, until
from support.training import Job, attach, job, rollbacks, train, train_until


def blows_up_again(one: Job, pilot: Pilot) -> None:
    """After a while of training, and it is rescued."""
    train_until(one, pilot, lambda: pilot.summary().connected)
    train(one, pilot, range(60), pause_s=0.001)
    before = rollbacks(pilot)
    one.spoil()
    train_until(one, pilot, lambda: rollbacks(pilot) == before + 1)


def check(daemon: Daemon, pilot: Pilot, caplog: pytest.LogCaptureFixture) -> None:
    """What holds at the end of a run whose journal was lost once."""
    story = daemon.story("run")
    assert story["state"] == "finished"
    assert [notice["kind"] for notice in story["notices"]] == ["older_journal"]
    assert caplog.text.count("the daemon's journal is older than this run") == 1
    ids = [decision.id for decision in pilot.decisions]
    assert ids == sorted(set(ids)), "numbers that the trainer knows are not given again"
    rescues = [decision.lrs_after[0] for decision in pilot.decisions if "roll" in decision.action]
    assert rescues == sorted(rescues, reverse=True), "each is a cut of the LR in force"
    assert "Traceback" not in daemon.log, daemon.log


@pytest.mark.slow
def test_it_is_put_back_to_an_older_state(
    daemon: Daemon, reconnect_soon: None, caplog: pytest.LogCaptureFixture
) -> None:
    """As from a backup; a power cut loses the newest commits in the same way."""
    daemon.start()
    one, old = job(), daemon.folder / "old"
    with caplog.at_level(logging.WARNING, "lrpilot"), attach(one, daemon.address, "run") as pilot:
        train_until(one, pilot, lambda: pilot.summary().connected)
        train(one, pilot, range(100), pause_s=0.001)
        daemon.kill()
        shutil.copytree(daemon.storage, old)
        daemon.start()
        blows_up_again(one, pilot)
        train(one, pilot, range(100), pause_s=0.001)
        until(lambda: pilot.summary().connected)
        daemon.kill()
        shutil.rmtree(daemon.storage)
        shutil.copytree(old, daemon.storage)
        daemon.start()
        blows_up_again(one, pilot)
        train(one, pilot, range(50), pause_s=0.001)
    check(daemon, pilot, caplog)


@pytest.mark.slow
def test_it_was_put_back_to_where_a_decision_had_no_answer(
    daemon: Daemon, reconnect_soon: None, caplog: pytest.LogCaptureFixture
) -> None:
    """The trainer's answer is lost: nobody waits for it."""
    daemon.start()
    one, old = job(), daemon.folder / "old"
    with caplog.at_level(logging.WARNING, "lrpilot"), attach(one, daemon.address, "run") as pilot:
        train_until(one, pilot, lambda: pilot.summary().connected)
        train(one, pilot, range(60), pause_s=0.001)
        one.spoil()
        train(one, pilot, range(3))
        until(lambda: daemon.decided("run"))  # the trainer is in front of its next step
        shutil.copytree(daemon.storage, old)
        train_until(one, pilot, lambda: rollbacks(pilot) == 1)
        train_until(one, pilot, lambda: len(daemon.receipts("run")) == len(pilot.decisions))
        daemon.kill()
        shutil.rmtree(daemon.storage)
        shutil.copytree(old, daemon.storage)
        daemon.start()
        blows_up_again(one, pilot)
        train(one, pilot, range(50), pause_s=0.001)
    check(daemon, pilot, caplog)


@pytest.mark.slow
def test_it_was_moved_away(
    daemon: Daemon, reconnect_soon: None, caplog: pytest.LogCaptureFixture
) -> None:
    """As the daemon advises for a damaged one: the run goes on under the new one."""
    daemon.start()
    one = job()
    with caplog.at_level(logging.WARNING, "lrpilot"), attach(one, daemon.address, "run") as pilot:
        for _ in range(3):  # its generation is higher than that of the new one
            train_until(one, pilot, lambda: pilot.summary().connected)
            train(one, pilot, range(60), pause_s=0.001)
            daemon.kill()
            daemon.start()
        blows_up_again(one, pilot)
        daemon.kill()
        daemon.storage.rename(daemon.folder / "damaged")
        daemon.start()
        blows_up_again(one, pilot)
        train(one, pilot, range(50), pause_s=0.001)
    check(daemon, pilot, caplog)
    assert "the journal's was 1: it was put back or moved away" in daemon.log
