"""Eight hours of a job that starts anew every minute: one story, and nothing that adds up."""

import threading
from pathlib import Path
from typing import Any

import pytest

from lrpilot_proto.v1 import session_pb2
from support.daemon import Daemon, until
from support.peer import hello, session, telemetry
from support.training import attach, job, train

MINUTES = 480
STEPS = 60  # of a minute
SETTLED = 60  # minutes after which nothing may grow any more

Held = dict[str, int]


def held_by(process: str | int) -> Held:
    """What a process has open."""
    proc = Path("/proc") / str(process)
    status = dict(line.split(":", 1) for line in (proc / "status").read_text().splitlines())
    return {
        "threads": len(list((proc / "task").iterdir())),
        "files": len(list((proc / "fd").iterdir())),
        "rss_kib": int(status["VmRSS"].split()[0]),
    }


def killed(daemon: Daemon, minute: int, state: dict[str, Any] | None) -> None:
    """A job that goes on from `state`, and dies before it writes a state of its own."""
    started = {"resumes": state["attempt"], "start_step": state["step"]} if state else {}
    first = state["step"] if state else 0
    with session(daemon.address, hello("night", f"dies-{minute}", **started)) as line:
        steps = range(first, first + STEPS)
        line.say(telemetry(1, [1.0 + 0.1 * (k % 7) for k in steps], step=steps))
        line.say(session_pb2.Report(report_seq=1, snapshot=session_pb2.SnapshotTaken(
            id=1, step=first, proven=True)))  # fmt: skip
        until(lambda: line.hear().acked_report == 1)


def lives(daemon: Daemon, state: dict[str, Any] | None) -> dict[str, Any]:
    """A job that trains for a minute from `state`, and is told to end; its new state."""
    one = job()
    pilot = attach(one, daemon.address, "night")
    try:
        if state is not None:
            pilot.load_state_dict(state)
        train(one, pilot, range(STEPS))
        return pilot.state_dict()
    finally:
        pilot.close()


@pytest.mark.slow
def test_eight_hours_with_a_restart_every_minute(daemon: Daemon) -> None:
    """Every second job dies, and takes with it what it did since the state that it began from."""
    daemon.start()
    assert daemon.process is not None
    pid = daemon.process.pid
    before: tuple[Held, Held] | None = None
    state: dict[str, Any] | None = None
    for minute in range(MINUTES):
        if minute == SETTLED:
            before = held_by(pid), held_by("self")
        if minute % 2:
            state = lives(daemon, state)
        else:
            killed(daemon, minute, state)
    assert state is not None
    assert before is not None
    until(lambda: daemon.story("night")["state"] != "tracking")
    after = held_by(pid), held_by("self")

    story = daemon.story("night")
    assert story["run"] == "default/night"
    assert story["attempts"] == MINUTES
    assert story["step"] == state["step"] == STEPS * MINUTES // 2
    assert story["telemetry"] == {"received": STEPS * MINUTES, "dropped": 0}
    for then, now in zip(before, after, strict=True):
        assert now["threads"] <= then["threads"] + 1
        assert now["files"] <= then["files"] + 2
    assert after[0]["rss_kib"] <= 1.05 * before[0]["rss_kib"]
    assert not [t.name for t in threading.enumerate() if t.name.startswith("lrpilot")]
