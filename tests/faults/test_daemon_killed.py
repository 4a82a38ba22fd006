"""`kill -9` of the daemon loses nothing that was acknowledged and repeats no decision."""

import math
import random
import threading
import time
from collections import Counter
from functools import partial

import pytest

from lrpilot.client.timing import Backoff
from lrpilot.pilot import Pilot
from lrpilot_controller.core.model import DecisionStatus
from support.daemon import Daemon, until
from support.training import attach, job, rollbacks, train, train_until


class Killer(threading.Thread):
    """Kills the daemon again and again, starts it each time, and leaves it running."""

    def __init__(self, daemon: Daemon, pilot: Pilot, times: int) -> None:
        super().__init__()
        self.daemon_process = daemon
        self.pilot = pilot
        self.times = times
        self.kills = 0
        self.failed: BaseException | None = None

    def run(self) -> None:
        chance = random.Random(0)
        try:
            for _ in range(self.times):
                # Mostly within a session, sometimes before one has begun.
                if chance.random() < 0.8:
                    until(lambda: self.pilot.summary().connected)
                time.sleep(chance.uniform(0.0, 0.2))
                self.daemon_process.kill()
                self.kills += 1
                self.daemon_process.start()
        except BaseException as error:
            self.failed = error


@pytest.mark.parametrize("times", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_every_sample_and_every_decision_exactly_once(
    daemon: Daemon, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Or most of the test would be waiting to connect.
    monkeypatch.setattr("lrpilot.client.agent.Backoff", partial(Backoff, high_s=0.1))
    daemon.start()
    one = job(50)
    with attach(one, daemon.address, "run") as pilot:
        killer = Killer(daemon, pilot, times)
        train(one, pilot, range(20))
        killer.start()
        spoilt = seen = 0
        while killer.is_alive():
            train(one, pilot, range(10), pause_s=0.004)
            # Now and then another blow-up, so that decisions are under way when it is killed.
            if killer.kills >= 5 * (spoilt + 1) and rollbacks(pilot) > seen:
                one.spoil()
                spoilt, seen = spoilt + 1, rollbacks(pilot)
        killer.join()
        assert killer.failed is None
        train_until(one, pilot, lambda: rollbacks(pilot) > seen, pause_s=0.004)
        train_until(one, pilot, lambda: math.isfinite(one.loss()), pause_s=0.004)
        train(one, pilot, range(100), pause_s=0.001)
        until(lambda: pilot.summary().connected)
        steps = pilot.step_count
        applied = pilot.decisions
        assert not pilot.should_stop

    assert killer.kills == times
    assert math.isfinite(one.loss())
    story = daemon.story("run")
    assert story["state"] == "finished"
    assert story["attempts"] == 1
    assert story["step"] == steps
    assert story["telemetry"] == {"received": steps, "dropped": 0}
    assert daemon.seqs("run") == list(range(1, steps + 1))

    decided = daemon.decided("run")
    assert decided == sorted(set(decided))
    answered = Counter(receipt.receipt.decision_id for receipt in daemon.receipts("run"))
    assert answered == Counter(decided), "one receipt per decision"
    assert [decision.id for decision in applied] == decided, "each reached the trainer once"
    undone = [
        receipt.receipt.branch_after
        for receipt in daemon.receipts("run")
        if receipt.receipt.branch_after != receipt.receipt.branch_before
    ]
    assert undone == list(range(1, rollbacks(pilot) + 1)), "each rollback was made once"
    assert rollbacks(pilot) > spoilt
    statuses = {receipt.receipt.status for receipt in daemon.receipts("run")}
    # While the daemon is away a decision may grow too old; it is then judged anew.
    assert statuses <= {DecisionStatus.APPLIED, DecisionStatus.EXPIRED}
    assert "replay differs" not in daemon.log
    assert "Traceback" not in daemon.log, daemon.log
