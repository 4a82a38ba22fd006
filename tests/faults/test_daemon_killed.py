"""`kill -9` of the daemon loses nothing that was acknowledged and repeats no decision."""

import math
import random
import threading
import time
from collections import Counter

import pytest
from support.daemon import Daemon, until
from support.training import attach, job, rollbacks, train, train_until

from lrpilot_controller.core.model import DecisionStatus


class Killer(threading.Thread):
    """Kills the daemon again and again, starts it each time, and leaves it running."""

    def __init__(self, daemon: Daemon, times: int) -> None:
        super().__init__()
        self.daemon_process = daemon
        self.times = times
        self.kills = 0
        self.failed: BaseException | None = None

    def run(self) -> None:
        chance = random.Random(0)
        try:
            for _ in range(self.times):
                # From the middle of its start to well within a session.
                time.sleep(chance.uniform(0.0, 0.6))
                self.daemon_process.kill()
                self.kills += 1
                self.daemon_process.start()
        except BaseException as error:
            self.failed = error


@pytest.mark.parametrize("times", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_every_sample_and_every_decision_exactly_once(daemon: Daemon, times: int) -> None:
    daemon.start()
    one = job(50)
    killer = Killer(daemon, times)
    with attach(one, daemon.address, "run") as pilot:
        train(one, pilot, range(20))
        killer.start()
        spoilt = 0
        while killer.is_alive():
            train(one, pilot, range(10), pause_s=0.004)
            # Now and then another blow-up, so that decisions are under way when it is killed.
            if killer.kills >= 5 * (spoilt + 1):
                one.spoil()
                spoilt += 1
        killer.join()
        assert killer.failed is None
        one.spoil()
        before = rollbacks(pilot)
        train_until(one, pilot, lambda: rollbacks(pilot) > before, pause_s=0.004)
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
    assert rollbacks(pilot) >= 2 + spoilt
    statuses = {receipt.receipt.status for receipt in daemon.receipts("run")}
    # While the daemon is away a decision may grow too old; it is then judged anew.
    assert statuses <= {DecisionStatus.APPLIED, DecisionStatus.EXPIRED}
    assert "replay differs" not in daemon.log
    assert "Traceback" not in daemon.log
