"""The daemon or the trainer dies, or freezes, in the middle of a search.

A search is either finished or given up for its fallback, never both; training makes its steps, and
the journal tells each of them, and each decision, once.
"""

import json
import math
import os
import random
import signal
import subprocess
import threading
import time
from collections import Counter
from functools import partial
from pathlib import Path

import pytest

from lrpilot.client.timing import Backoff
from lrpilot.pilot import Pilot
from lrpilot_controller.core.events import FellBack, ReceiptArrived, SearchEnded, SessionOpened
from lrpilot_controller.core.findings import SearchEnd
from lrpilot_controller.core.model import DecisionStatus
from lrpilot_controller.errors import NotFound
from lrpilot_controller.journal.base import JournalMissing
from support.daemon import Daemon, environment, script, until
from support.digits import STEPS, Digits, attach, digits, train
from support.training import rollbacks

pytestmark = pytest.mark.slow

# From 100 times a good LR the search ends at about step 90: some kills come after it.
FACTOR = 100.0
LAST_KILL = 120
# The reference, a response that blows up, and the first one that does not.
FIRST_HEALTHY = 3


@pytest.fixture(autouse=True)
def _reconnect_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or most of a test would be waiting to connect."""
    monkeypatch.setattr("lrpilot.client.agent.Backoff", partial(Backoff, high_s=0.1))


class Killer(threading.Thread):
    """Kills the daemon once, somewhere in the step after `step`; starts it anew where told to.

    Attributes:
        done: set when the daemon was killed and, where it is restarted, listens again.
    """

    def __init__(
        self, daemon: Daemon, pilot: Pilot, step: int, delay_s: float, *, restart: bool
    ) -> None:
        super().__init__()
        self.daemon_process = daemon
        self.pilot = pilot
        self.step = step
        self.delay_s = delay_s
        self.restart = restart
        self.killed = threading.Event()
        self.done = threading.Event()
        self.failed: BaseException | None = None

    def run(self) -> None:
        try:
            until(lambda: self.pilot.step_count >= self.step)
            time.sleep(self.delay_s)
            self.daemon_process.kill()
            self.killed.set()
            if self.restart:
                self.daemon_process.start()
        except BaseException as error:
            self.failed = error
        finally:
            self.done.set()


def _kills(count: int) -> list[tuple[int, float]]:
    """At which step, and how long after it was made: the same for the same count."""
    chance = random.Random(count)
    return [(chance.randint(0, LAST_KILL), chance.uniform(0, 0.02)) for _ in range(count)]


COMES_BACK = ("never", "later", "within the step")
KILLS = [(seed, *kill, back) for seed, kill in enumerate(_kills(20)) for back in COMES_BACK]


@pytest.mark.parametrize(("seed", "step", "delay_s", "comes_back"), KILLS)
def test_the_daemon_is_killed(
    daemon: Daemon, seed: int, step: int, delay_s: float, comes_back: str
) -> None:
    daemon.start()
    one = digits(FACTOR, seed=seed)
    with attach(one, daemon.address, "run") as pilot:
        killer = Killer(daemon, pilot, step, delay_s, restart=comes_back != "never")
        killer.start()

        def after_step(made: int) -> None:
            if comes_back == "within the step" and killer.killed.is_set():
                killer.done.wait()
                until(lambda: pilot.summary().connected)
            if made == STEPS - 100 and comes_back != "never":
                until(lambda: pilot.summary().connected)

        train(one, pilot, pause_s=0.004, after_step=after_step)
        killer.join()
        assert killer.failed is None
        # At 100 times a good LR the guard may find nothing left to save, but only ever at that.
        assert pilot.step_count == STEPS or pilot.should_stop
        assert not pilot.searching
        waits = pilot.summary().wait_seconds
    assert waits < 30 + 2.5
    _check_record(daemon, one, pilot, whole=comes_back != "never")


def _check_record(daemon: Daemon, one: Digits, pilot: Pilot, *, whole: bool) -> None:
    """The journal of a run: `whole` where a daemon was there at its end."""
    seqs = daemon.seqs("run")
    assert seqs == list(range(1, len(seqs) + 1))
    decided = daemon.decided("run")
    assert decided == sorted(set(decided)), "no decision twice"
    receipts = [event.receipt for event in daemon.receipts("run")]
    answered = Counter(receipt.decision_id for receipt in receipts)
    assert set(answered.values()) <= {1}
    assert [d.id for d in pilot.decisions] == sorted({d.id for d in pilot.decisions})

    fell_back = [record.event for record in daemon.records("run", FellBack)]
    ended = [record.event.result for record in daemon.records("run", SearchEnded)]
    assert len(fell_back) <= 1
    assert len(ended) <= 1
    if fell_back:
        assert [result.end for result in ended] == [SearchEnd.FELL_BACK]
    _check_no_program_after_fallback(daemon)

    if whole:
        steps = pilot.step_count
        assert len(seqs) == steps, "telemetry is complete"
        story = daemon.story("run")
        end = "stopped" if pilot.should_stop else "finished"
        assert (story["state"], story["step"], story["attempts"]) == (end, steps, 1)
        assert story["telemetry"] == {"received": steps, "dropped": 0}
        unanswered = [d for d in daemon.decisions("run") if d.id not in answered]
        assert [d.id for d in pilot.decisions] == sorted(answered), "one receipt per decision"
        # One may be made as the loop ends, and finds nobody; a busy daemon is some steps late.
        assert [d.id for d in unanswered if d.step < steps - 100] == []
        assert len(unanswered) <= 1
        assert len(ended) == 1
        assert story["search"]["end"] in ("found", "fell_back")
        assert story["cost"]["probe_steps"] == story["search"]["steps"]
    # Without a daemon, a run whose first healthy program had not ended yet trains at its native LR.
    native = [event for event in fell_back if event.program <= FIRST_HEALTHY]
    assert native or not pilot.should_stop
    if not native or (whole and not pilot.should_stop):
        assert math.isfinite(one.loss())
    assert "replay differs" not in daemon.log
    assert "Traceback" not in daemon.log, daemon.log


def _check_no_program_after_fallback(daemon: Daemon) -> None:
    over = False
    for record in daemon.records("run", FellBack, ReceiptArrived):
        if isinstance(record.event, FellBack):
            over = True
            continue
        receipt = record.event.receipt
        decision = next(d for d in daemon.decisions("run") if d.id == receipt.decision_id)
        if decision.program is not None:
            assert not (over and receipt.status is DecisionStatus.APPLIED)


@pytest.mark.alone  # how long training waited
@pytest.mark.parametrize("step", [30, 50])
def test_the_daemon_freezes(daemon: Daemon, step: int) -> None:
    """Training does not wait longer than it may, and no decision of a search is followed after."""
    daemon.start()
    assert daemon.process is not None
    one = digits(FACTOR)
    thaw = threading.Timer(3.0, daemon.process.send_signal, [signal.SIGCONT])
    waits: list[float] = []

    def after_step(made: int) -> None:
        if made == step:
            waits.append(pilot.summary().wait_seconds)
            daemon.process.send_signal(signal.SIGSTOP)  # type: ignore[union-attr]
            thaw.start()
        if made == STEPS - 200:
            waits.append(pilot.summary().wait_seconds)
            assert not pilot.searching
            thaw.join()
            until(lambda: pilot.summary().connected)

    with attach(one, daemon.address, "run") as pilot:
        train(one, pilot, pause_s=0.002, after_step=after_step)
        assert pilot.step_count == STEPS
    assert waits[1] - waits[0] < 0.5, "at most one boundary of 250 ms was waited for in vain"
    [fallback] = [record.event for record in daemon.records("run", FellBack)]
    assert fallback.step < STEPS - 200
    _check_record(daemon, one, pilot, whole=True)
    late = [d for d in pilot.decisions if d.action == "program" and d.applied_step > fallback.step]
    assert [d.status for d in late] == ["stale"]


def test_a_run_that_fell_back_to_its_native_lr_is_rescued(daemon: Daemon) -> None:
    """No LR was proven healthy yet: the daemon that comes back finds a run that blows up."""
    daemon.start()
    one = digits(FACTOR)
    native = one.optimizer.defaults["lr"]

    def after_step(made: int) -> None:
        if made == 10:
            daemon.kill()
        if made == 20:
            assert not pilot.searching
            assert pilot.lrs == [native]
            daemon.start()
            until(lambda: pilot.summary().connected)

    with attach(one, daemon.address, "run") as pilot:
        train(one, pilot, pause_s=0.002, after_step=after_step)
    assert rollbacks(pilot) > 0
    assert pilot.lrs[0] < native / 2
    _check_record(daemon, one, pilot, whole=True)
    [ended] = [record.event.result for record in daemon.records("run", SearchEnded)]
    assert ended.lr == native, "what is told is what was trained at"


def test_an_attempt_after_a_killed_trainer_has_a_search_of_its_own(daemon: Daemon) -> None:
    daemon.start()
    trainer = script("searching.py", daemon.address, "run", stdout=subprocess.PIPE)
    try:
        until(lambda: _searching(daemon), what="a search")
    finally:
        trainer.kill()
        trainer.communicate()
    until(lambda: daemon.story("run")["state"] == "lost")
    first = daemon.decided("run")

    one = digits(FACTOR)
    with attach(one, daemon.address, "run") as pilot:
        train(one, pilot)
    assert one.loss() < 0.5
    story = daemon.story("run")
    assert (story["state"], story["attempts"], story["step"]) == ("finished", 2, STEPS)
    assert story["search"]["end"] == "found"
    opened = [record.event.attempt.id for record in daemon.records("run", SessionOpened)]
    ended = [record.event for record in daemon.records("run", SearchEnded)]
    told = [(opened.index(event.attempt), event.result.end) for event in ended]
    assert [end for _, end in told] == [SearchEnd.ABANDONED, SearchEnd.FOUND]
    new = [decision.id for decision in pilot.decisions]
    assert daemon.decided("run") == first + new, "no decision of the dead one reached the new one"


def _searching(daemon: Daemon) -> bool:
    try:
        story = daemon.story("run")
    except (JournalMissing, NotFound):  # nothing was written yet
        return False
    # By then an LR is known to be healthy, and it is not yet over.
    return bool(story["state"] == "searching" and story["step"] >= 20)


def test_a_daemon_that_the_trainer_started_itself_is_killed(folder: Path) -> None:
    """The trainer starts another one, which rescues it."""
    env = environment(XDG_STATE_HOME=folder / "state", XDG_RUNTIME_DIR=folder / "runtime")
    (folder / "runtime").mkdir(mode=0o700)
    daemon = Daemon(folder)
    daemon.storage = folder / "state" / "lrpilot"
    daemon.log_file = daemon.storage / "daemon.log"
    lock = daemon.storage / "daemon.lock"
    trainer = script("searching.py", "auto", "run", env=env, stdout=subprocess.PIPE)
    try:
        until(lambda: _searching(daemon), what="a search")
        killed = int(lock.read_text())
        os.kill(killed, signal.SIGKILL)
        out, _ = trainer.communicate(timeout=120)
        assert trainer.returncode == 0
        assert int(lock.read_text()) != killed
    finally:
        trainer.kill()
        trainer.wait()
        assert trainer.stdout is not None
        trainer.stdout.close()
        if lock.exists():
            os.kill(int(lock.read_text()), signal.SIGKILL)
    told = json.loads(out)
    assert told["steps"] == STEPS
    assert math.isfinite(told["loss"])
    story = daemon.story("run")
    assert (story["state"], story["step"], story["attempts"]) == ("finished", STEPS, 1)
    assert story["telemetry"] == {"received": STEPS, "dropped": 0}
    assert len(daemon.records("run", SearchEnded)) == 1
    _check_no_program_after_fallback(daemon)
