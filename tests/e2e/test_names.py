"""One run name, two processes: who has the run, and what the other one is told."""

import logging

import pytest

from support.daemon import Daemon
from support.training import attach, job, same, train, train_until


def test_a_stranger_with_the_name_of_a_live_run_is_refused(
    daemon: Daemon, caplog: pytest.LogCaptureFixture
) -> None:
    daemon.start()
    alone = job(seed=1)
    train(alone, None, range(100))

    one, other = job(), job(seed=1)
    with attach(one, daemon.address, "run") as pilot:
        train_until(one, pilot, lambda: pilot.summary().connected)
        with (
            caplog.at_level(logging.WARNING, "lrpilot"),
            attach(other, daemon.address, "run") as stranger,
        ):
            train(other, stranger, range(50))
            train_until(one, pilot, lambda: stranger.summary().refused)
            train(other, stranger, range(50))
            assert "live session" in (stranger.summary().refused or "")
            assert stranger.step_count == 100
        train(one, pilot, range(50))
        assert pilot.summary().connected
        steps = pilot.step_count

    said = [record for record in caplog.records if record.name == "lrpilot"]
    assert [record.levelname for record in said] == ["ERROR"]
    assert "choose another run name" in said[0].getMessage()
    assert same(other.weights(), alone.weights())
    story = daemon.story("run")
    assert story["attempts"] == 1
    assert story["state"] == "finished"
    assert daemon.seqs("run") == list(range(1, steps + 1))


def test_a_finished_name_opens_a_new_attempt_at_step_0(daemon: Daemon) -> None:
    daemon.start()
    for steps in (80, 30):
        one = job()
        with attach(one, daemon.address, "run") as pilot:
            train(one, pilot, range(steps))
        assert pilot.summary().refused is None
    story = daemon.story("run")
    assert story["attempts"] == 2
    assert story["state"] == "finished"
    assert story["step"] == 30
    assert story["telemetry"]["received"] == 110
