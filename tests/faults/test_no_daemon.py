"""No daemon, or one that comes late: training goes on the same, and the user is told once."""

import logging

import pytest

from support.daemon import Daemon, until
from support.training import attach, job, rollbacks, same, train, train_until


@pytest.mark.timeout(30)  # far below connect_timeout: attach does not sit it out
def test_never_started(daemon: Daemon, caplog: pytest.LogCaptureFixture) -> None:
    alone = job()
    train(alone, None, range(200))

    one = job()
    with (
        caplog.at_level(logging.WARNING, "lrpilot"),
        attach(one, daemon.address, "run", connect_timeout=600) as pilot,
    ):
        train(one, pilot, range(200), pause_s=0.001)
        assert pilot.step_count == 200
        assert not pilot.summary().connected

    assert same(one.weights(), alone.weights())
    assert pilot.decisions == []
    said = [record.getMessage() for record in caplog.records if record.name == "lrpilot"]
    assert len(said) == 1, said
    assert "no daemon" in said[0]
    assert "training goes on" in said[0]


def test_started_late(daemon: Daemon) -> None:
    one = job()
    with attach(one, daemon.address, "run") as pilot:
        train(one, pilot, range(60))
        assert not pilot.summary().connected
        daemon.start()
        train_until(one, pilot, lambda: pilot.summary().connected)
        one.spoil()
        train_until(one, pilot, lambda: rollbacks(pilot) == 1)
        train(one, pilot, range(50))
        steps = pilot.step_count

    assert one.loss() < 1
    assert daemon.seqs("run") == list(range(1, steps + 1)), "the early steps came as well"
    story = daemon.story("run")
    assert story["telemetry"] == {"received": steps, "dropped": 0}
    assert [d["status"] for d in story["decisions"]] == ["applied", "applied"]
    assert [d["action"] for d in story["decisions"]] == ["note", "rollback"]
    assert story["decisions"][1]["applied_step"] > 60
    until(lambda: daemon.story("run")["state"] == "finished")
