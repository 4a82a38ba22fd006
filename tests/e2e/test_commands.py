"""What people ask of a run that trains, with a real daemon, a real trainer and the CLI."""

import itertools
import json
import math
import subprocess
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from lrpilot.pilot import Pilot
from lrpilot_controller.core.events import SearchEnded
from support.daemon import Daemon, cli, environment, until
from support.digits import attach as attach_digits
from support.digits import digits
from support.training import GOOD_LR, Job, attach, job, rollbacks, train, train_until

Done = subprocess.CompletedProcess[str]


class Desk:
    """A person at a terminal, while the run trains on."""

    def __init__(self, daemon: Daemon, one: Job, pilot: Pilot) -> None:
        self.daemon = daemon
        self._one = one
        self._pilot = pilot

    def ask(self, *arguments: str) -> Done:
        """Run a command to its end."""
        env = environment(LRPILOT_ADDRESS=self.daemon.address)
        who = () if arguments[0] == "show" else ("--who", "ann")
        with ThreadPoolExecutor(1) as pool:
            future = pool.submit(cli, *arguments, *who, env=env)
            train_until(self._one, self._pilot, future.done)
            return future.result()

    def done(self, *arguments: str) -> str:
        """What it printed; it succeeded."""
        result = self.ask(*arguments)
        assert result.returncode == 0, result.stderr
        return result.stdout

    def refused(self, *arguments: str) -> str:
        """Why it was refused."""
        result = self.ask(*arguments)
        assert result.returncode == 1, result.stdout
        return result.stderr

    def decisions(self) -> list[dict[str, Any]]:
        """As `lrpilot show --json` lists them."""
        found: list[dict[str, Any]] = self.daemon.story("run")["decisions"]
        return found


def test_a_person_sets_the_lr_freezes_releases_and_stops_a_run(daemon: Daemon) -> None:
    daemon.start()
    one = job()
    native = one.optimizer.defaults["lr"]
    with attach(one, daemon.address, "run") as pilot:
        desk = Desk(daemon, one, pilot)
        train_until(one, pilot, lambda: pilot.summary().connected)
        train(one, pilot, range(200), pause_s=0.001)

        assert "decision 1 was sent" in desk.done("set-lr", "run", str(GOOD_LR / 2), "--why", "eh")
        train_until(one, pilot, lambda: pilot.lrs == [GOOD_LR / 2])
        assert f"above max_lr {native:g}" in desk.refused("set-lr", "run", "1.0")
        assert pilot.lrs == [GOOD_LR / 2]

        assert "frozen" in desk.done("freeze", "run", "--why", "mine")
        for _ in range(10):  # a blow-up, as far as the daemon can tell
            one.update()
            pilot.step(math.nan)
        train_until(one, pilot, lambda: daemon.story("run")["signals"])
        assert daemon.story("run")["state"] == "frozen"
        assert len(pilot.decisions) == 1

        daemon.kill()
        daemon.start()
        train_until(one, pilot, lambda: daemon.story("run")["state"] == "frozen")
        train_until(one, pilot, lambda: desk.ask("release", "run").returncode == 0)
        train_until(one, pilot, lambda: pilot.lrs == [native])
        assert daemon.story("run")["state"] == "tracking"
        assert "nothing to release" in desk.refused("release", "run")

        desk.ask("stop", "run", "--why", "enough")
        until(lambda: pilot.should_stop or train_until(one, pilot, lambda: pilot.should_stop) < 0)
    story = daemon.story("run")
    assert story["state"] == "stopped"
    told = [(d["action"], d["status"], d["who"]) for d in story["decisions"]]
    assert told == [(action, "applied", "ann") for action in ("plan", "release", "stop")]
    assert "ann stops the run: enough" in story["decisions"][-1]["reason"]
    kinds = [command["kind"] for command in story["commands"]]
    assert (kinds[0], kinds[1], kinds[-1]) == ("set_lr", "freeze", "stop")
    shown = cli("show", "run", "--storage", daemon.storage).stdout
    assert "ann sets the LR to 0.025: eh" in shown
    assert "ann asked at step" in shown
    refused = cli("freeze", "run", env=environment(LRPILOT_ADDRESS=daemon.address))
    assert "no live session" in refused.stderr


def test_in_mode_advise_nothing_is_done_until_a_person_approves_it(daemon: Daemon) -> None:
    daemon.start()
    one = job(200)
    native = one.optimizer.defaults["lr"]
    # A decision waits for ten fiftieths of the run.
    with attach(one, daemon.address, "run", mode="advise", total_steps=200_000) as pilot:
        desk = Desk(daemon, one, pilot)

        def waiting() -> list[int]:
            return [d["id"] for d in desk.decisions() if d["status"] == "proposed"]

        train_until(one, pilot, lambda: pilot.summary().connected)
        train_until(one, pilot, waiting)
        train(one, pilot, range(100), pause_s=0.001)
        until(waiting)
        [number] = waiting()
        assert pilot.lrs == [native]
        assert pilot.decisions == []
        assert f"lrpilot approve RUN {number}" in desk.done(
            "show", "run", "--storage", str(daemon.storage)
        )
        assert "does not wait for approval" in desk.refused("approve", "run", "99")

        assert f"decision {number} was sent" in desk.done("approve", "run", str(number))
        train_until(one, pilot, lambda: rollbacks(pilot))
        assert pilot.lrs == pytest.approx([native / 3])
        assert [d.id for d in pilot.decisions] == [number]
    told = next(d for d in daemon.story("run")["decisions"] if d["id"] == number)
    assert (told["action"], told["status"], told["who"]) == ("rollback", "applied", "ann")


def test_in_mode_advise_a_search_begins_when_a_person_approves_it(daemon: Daemon) -> None:
    daemon.start()
    one = digits(1e-2)
    approving = None
    with (
        attach_digits(one, daemon.address, "run", total_steps=4000, mode="advise") as pilot,
        ThreadPoolExecutor(1) as pool,
    ):
        for k, batch in enumerate(itertools.islice(pilot.batches(one.batches()), 4000)):
            pilot.step(one.step(batch))
            if approving is None:
                assert not pilot.searching
                if k % 20 == 0 and daemon.decided("run") == [1]:
                    env = environment(LRPILOT_ADDRESS=daemon.address)
                    approving = pool.submit(cli, "approve", "run", "1", env=env)
            elif k % 20 == 0 and daemon.records("run", SearchEnded):
                break
        assert approving is not None
        assert approving.result().returncode == 0, approving.result().stderr
    story = json.loads(cli("show", "run", "--json", "--storage", daemon.storage).stdout)
    assert story["search"]["end"] == "found"
    assert 0.1 < story["search"]["lr"] / one.task.lr_scale < 10
    assert story["decisions"][0]["status"] == "applied"
