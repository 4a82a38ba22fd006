"""A daemon of this version goes on with the journal of an older one."""

import math
import shutil
from pathlib import Path

from lrpilot_controller.core.events import SessionOpened
from lrpilot_controller.journal import RunKey
from support.daemon import Daemon
from support.peer import hello, session, telemetry

OLD = Path(__file__).parents[1] / "controller" / "journal" / "old" / "before_signals.db"
CUT_OFF = RunKey("old", "cut_off")  # its trainer was killed at step 150, five decisions later


def test_a_run_that_was_cut_off_is_resumed_from_its_checkpoint(daemon: Daemon) -> None:
    daemon.storage.mkdir(mode=0o700)
    shutil.copy(OLD, daemon.storage / "journal.db")
    with daemon.journal() as journal:
        (first,) = [r.event for r in journal.records(CUT_OFF, kinds=(SessionOpened,))]
    assert isinstance(first, SessionOpened)
    before = daemon.story(str(CUT_OFF))
    daemon.start()
    greeting = hello("cut_off", "later", resumes=first.attempt.id, start_step=150, branch=5)
    greeting.run.project = CUT_OFF.project
    losses = [1.0, 0.9, 1.1] * 20 + [math.nan] * 3
    with session(daemon.address, greeting) as line:
        line.say(telemetry(1, losses, step=range(150, 213), branch=[5] * 63))
        while (message := line.hear()).WhichOneof("body") != "decision":
            pass
    assert message.generation == 2
    assert message.decision.id == 6  # numbers grow, across versions too
    story = daemon.story(str(CUT_OFF))
    assert (story["attempts"], story["step"]) == (2, 213)
    assert [d["reason"] for d in story["decisions"][:5]] == [
        d["reason"] for d in before["decisions"]
    ]
    assert story["decisions"][5]["id"] == 6
