"""The daemon or the trainer stands still for longer than it is waited for, and then goes on."""

import json
import logging
import signal
import subprocess
import time

import pytest

from support.daemon import script, until
from support.faults.books import check_run
from support.faults.daemon import FaultyDaemon
from support.training import attach, job, rollbacks, train, train_until

FROZEN_S = 5.0


@pytest.mark.slow
def test_a_daemon(faulty: FaultyDaemon, caplog: pytest.LogCaptureFixture) -> None:
    """It is given up after three seconds; what it was told in the meantime it hears later."""
    faulty.start()
    one = job()
    with (
        caplog.at_level(logging.WARNING, "lrpilot"),
        attach(one, faulty.address, "run") as pilot,
    ):
        train_until(one, pilot, lambda: pilot.summary().connected)
        train(one, pilot, range(60), pause_s=0.001)
        faulty.freeze()
        train_until(one, pilot, lambda: not pilot.summary().connected, pause_s=0.002)
        train(one, pilot, range(1000), pause_s=0.002)  # which goes on
        one.spoil()
        train(one, pilot, range(100), pause_s=0.002)
        assert not pilot.summary().connected
        assert rollbacks(pilot) == 0
        faulty.thaw()
        train_until(one, pilot, lambda: rollbacks(pilot) == 1, pause_s=0.002)
        train(one, pilot, range(50), pause_s=0.001)
        until(lambda: pilot.summary().connected)
    check_run(faulty, "run", pilot, one.loss())
    told = [record.getMessage() for record in caplog.records if "daemon" in record.getMessage()]
    assert ["lost the daemon" in text for text in told] == [True, False]


@pytest.mark.slow
def test_a_trainer(faulty: FaultyDaemon) -> None:
    """Its session is kept, or begun anew; it makes all its steps and tells of each once."""
    faulty.start()
    trainer = script("searching.py", faulty.address, "run", stdout=subprocess.PIPE)
    try:
        until(lambda: faulty.storage.exists() and len(faulty.seqs("run")) > 20)
        trainer.send_signal(signal.SIGSTOP)
        time.sleep(FROZEN_S)
        trainer.send_signal(signal.SIGCONT)
        out, _ = trainer.communicate(timeout=120)
    finally:
        trainer.kill()
        trainer.wait()
        assert trainer.stdout is not None
        trainer.stdout.close()
    steps = json.loads(out)["steps"]
    assert faulty.seqs("run") == list(range(1, steps + 1))
    decided = faulty.decided("run")
    assert [event.receipt.decision_id for event in faulty.receipts("run")] == decided
    story = faulty.story("run")
    assert (story["state"], story["attempts"]) == ("finished", 1)
