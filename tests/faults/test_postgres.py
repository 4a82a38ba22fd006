"""The daemon keeps its books on a PostgreSQL server, which is restarted, cut off, taken away."""

import contextlib
import json
import logging
import math
import os
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from lrpilot_controller.core.events import Answered
from lrpilot_controller.core.model import SignalKind
from lrpilot_controller.core.telemetry import Thinned
from lrpilot_controller.journal import SqlJournal
from lrpilot_controller.storage import Storage
from lrpilot_controller.tuning.interventions import interventions_study
from lrpilot_controller.tuning.reading import TrialReader
from support.daemon import ENOUGH_S, Daemon, cli, environment, until
from support.faults.books import check_run
from support.faults.daemon import FaultyDaemon
from support.peer import Line, hello, telemetry
from support.postgres import SECRET, Postgres, running
from support.training import attach, job, rollbacks, train, train_until


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    """One that may be stopped."""
    with running() as one:
        yield one


@pytest.fixture
def stored(faulty: FaultyDaemon, server: Postgres, folder: Path) -> Iterator[FaultyDaemon]:
    """A daemon on a database of that server; its folder is the test's."""
    with server.database() as url:
        faulty.database = url
        faulty.environment = environment(XDG_STATE_HOME=folder / "state")
        yield faulty
        faulty.kill()


@pytest.mark.slow
def test_a_daemon_that_is_killed_loses_nothing_and_repeats_nothing(
    stored: FaultyDaemon, reconnect_soon: None
) -> None:
    stored.start()
    one = job(50)
    with attach(one, stored.address, "run") as pilot:
        for _ in range(3):
            train_until(one, pilot, lambda: pilot.summary().connected, pause_s=0.002)
            train(one, pilot, range(40), pause_s=0.002)
            stored.kill()
            stored.start()
        train_until(one, pilot, lambda: rollbacks(pilot) > 0, pause_s=0.002)
        train_until(one, pilot, lambda: math.isfinite(one.loss()), pause_s=0.002)
        train(one, pilot, range(50), pause_s=0.001)
        until(lambda: pilot.summary().connected)
    check_run(stored, "run", pilot, one.loss())


def test_a_server_that_is_restarted_under_it(
    stored: FaultyDaemon,
    server: Postgres,
    reconnect_soon: None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    stored.start()
    one = job()
    with caplog.at_level(logging.WARNING, "lrpilot"):
        with attach(one, stored.address, "run") as pilot:
            train_until(one, pilot, lambda: pilot.summary().connected)
            train(one, pilot, range(60), pause_s=0.001)
            server.stop()
            train_until(one, pilot, lambda: not pilot.summary().connected, pause_s=0.001)
            train(one, pilot, range(100), pause_s=0.001)
            one.spoil()
            train(one, pilot, range(50), pause_s=0.001)
            assert rollbacks(pilot) == 0
            server.start()
            train_until(one, pilot, lambda: rollbacks(pilot) == 1, pause_s=0.002)
            train(one, pilot, range(100), pause_s=0.001)
            until(lambda: pilot.summary().connected)
        check_run(stored, "run", pilot, one.loss())
    told = [text for text in caplog.messages if "the journal" in text]
    assert told
    assert all("is the server up" in text or "shutting down" in text for text in told)
    assert SECRET not in f"{stored.log} {caplog.text}"


def test_connections_that_break_are_not_even_noticed(
    stored: FaultyDaemon, server: Postgres
) -> None:
    stored.start()
    one = job()
    with attach(one, stored.address, "run") as pilot:
        train_until(one, pilot, lambda: pilot.summary().connected)
        for _ in range(3):
            train(one, pilot, range(100), pause_s=0.001)
            assert stored.database is not None
            server.end_sessions(stored.database)
        before = rollbacks(pilot)
        one.spoil()
        train_until(one, pilot, lambda: rollbacks(pilot) > before, pause_s=0.002)
        train(one, pilot, range(100), pause_s=0.001)
        until(lambda: pilot.summary().connected)
    check_run(stored, "run", pilot, one.loss())


def test_a_daemon_of_another_host_takes_over(
    stored: FaultyDaemon, server: Postgres, folder: Path, reconnect_soon: None
) -> None:
    """It says why it ends, and the trainer goes on with the one that answers in its place."""
    assert stored.database is not None
    (other_host := folder / "other").mkdir()
    newer = Daemon(other_host)
    newer.database = stored.database
    newer.environment = environment(XDG_STATE_HOME=other_host / "state")
    stored.start()
    address = folder / "name"  # as a name of a network leads to the one or the other
    address.symlink_to(stored.socket)
    one = job()
    try:
        with attach(one, f"unix:{address}", "run") as pilot:
            train_until(one, pilot, lambda: pilot.summary().connected)
            train(one, pilot, range(60), pause_s=0.001)
            stored.freeze()  # its host is cut off, and the server lets go of its sessions
            server.end_sessions(stored.database)
            newer.start()
            stored.thaw()
            assert stored.process is not None
            train_until(one, pilot, lambda: stored.process.poll() is not None, pause_s=0.002)
            assert stored.process.returncode == 1
            address.unlink()
            address.symlink_to(newer.socket)
            one.spoil()
            train_until(one, pilot, lambda: rollbacks(pilot) == 1, pause_s=0.002)
            train(one, pilot, range(100), pause_s=0.001)
            until(lambda: pilot.summary().connected)
        check_run(newer, "run", pilot, one.loss())
    finally:
        newer.kill()
    (why,) = (line for line in stored.log.splitlines() if " ERROR " in line)
    assert "stopping: " in why
    assert "held by another daemon now" in why
    assert "Traceback" not in stored.log, stored.log


def test_a_daemon_that_nobody_needs_ends_too_when_another_takes_over(
    stored: FaultyDaemon, server: Postgres, folder: Path
) -> None:
    assert stored.database is not None
    stored.start()
    stored.freeze()
    server.end_sessions(stored.database)
    with contextlib.closing(SqlJournal.open(stored.database)):
        stored.thaw()
        assert stored.process is not None
        assert stored.process.wait(ENOUGH_S) == 1
    assert stored.log.count("held by another daemon now") == 1


@pytest.mark.slow
def test_its_size_is_limited_as_a_files(stored: FaultyDaemon, folder: Path) -> None:
    """Near the limit runs that are over are thinned, so that there is room for new ones."""
    config = folder / "lrpilot.toml"
    config.write_text("[server]\nmax_journal_mib = 2\n")
    stored.start("--config", str(config))
    losses = [((k + 1) * 0.6180339887) % 1.0 for k in range(2000)]

    def recorded(name: str) -> bool:
        """Whether the daemon took all of a run of a quarter of a MiB."""
        with Line(stored.address) as line:
            line.say(hello(name))
            for i in range(10):
                line.say(telemetry(1 + 2000 * i, losses, lrs=losses))
            try:
                line.hear_ack(20_000)
            except grpc.RpcError:
                return False
        return True

    for number in range(13):
        until(lambda name=f"run {number}": recorded(name), what="room for a run")
    with stored.journal() as journal:
        until(lambda: journal.size() < 2 << 20)
        runs = journal.runs()
        thinned = [run for run in runs if any(journal.records(run, kinds=[Thinned]))]
    assert len(runs) == 13
    assert thinned == runs[: len(thinned)], "those that were seen the longest ago"
    assert len(thinned) >= 4
    assert stored.story("run 0")["telemetry"]["received"] == 20_000


@pytest.mark.slow
def test_a_project_is_forgotten_beside_it_and_a_run_under_way_goes_on(
    stored: FaultyDaemon, folder: Path
) -> None:
    config = folder / "lrpilot.toml"
    config.write_text("[tune]\nfactors = true\n")
    stored.start("--config", str(config))
    trials = TrialReader(Storage.of(stored.database or pytest.fail("no database")))

    def earned_by() -> set[str]:
        parts = trials.newest(interventions_study("default", SignalKind.TOO_HIGH, "SGD"))
        parts += trials.newest(interventions_study("default", SignalKind.NONFINITE, "SGD"))
        parts += trials.newest(interventions_study("default", SignalKind.DIVERGENCE, "SGD"))
        return {t.user_attrs["run"] for part in parts for t in part.trials if t.value is not None}

    def blow_up(name: str) -> None:
        one = job(200)
        with attach(one, stored.address, name) as pilot:
            train_until(one, pilot, lambda: one.loss() < 0.1)

    def first_answers(name: str) -> set[str]:
        answers = [record.event for record in stored.records(name, Answered)][:4]
        return {event.reason.partition(" interventions")[0] for event in answers}

    blow_up("first")
    until(lambda: earned_by() == {"default/first"})
    going_on = job()
    with attach(going_on, stored.address, "under-way") as pilot:
        train_until(going_on, pilot, lambda: pilot.summary().connected)
        forgotten = cli("forget", "default", "--yes", "--storage", stored.place)
        assert forgotten.returncode == 0, forgotten.stderr
        assert "forgotten of project default: " in forgotten.stdout
        assert earned_by() == set()
        blow_up("second")
        assert first_answers("second") == {"quadratic on 0 earlier"}
        until(lambda: earned_by() == {"default/second"})
        train(going_on, pilot, range(60), pause_s=0.001)
        going_on.spoil()
        train_until(going_on, pilot, lambda: rollbacks(pilot) == 1, pause_s=0.002)
        train(going_on, pilot, range(200), pause_s=0.001)
    until(lambda: earned_by() == {"default/second", "default/under-way"})
    trials.close()


@pytest.mark.slow
def test_one_daemon_has_it_and_all_commands_read_it(stored: FaultyDaemon, folder: Path) -> None:
    stored.start()
    one = job(50)
    with attach(one, stored.address, "run") as pilot:
        train_until(one, pilot, lambda: rollbacks(pilot) > 0, pause_s=0.002)
        train(one, pilot, range(100), pause_s=0.001)
    env = stored.environment
    where = ("--storage", stored.place)
    second = cli("serve", "--listen", f"unix:{folder}/e.sock", *where, env=env)
    assert second.returncode == 1
    assert "held by another LRPilot daemon" in second.stderr
    said = [second.stderr, stored.log]
    for alive in (True, False):
        if not alive:
            assert stored.terminate() == 0
        shown = cli("show", "run", *where, "--json", env=env)
        assert json.loads(shown.stdout)["state"] == "finished"
        review = cli("review", "run", *where, "--no-serve", env=env)
        assert "default/run decision" in review.stdout
        doctor = cli("doctor", *where, env=env)
        assert "PostgreSQL 18" in doctor.stdout
        assert "1 runs" in doctor.stdout
        verdict = cli("verdict", "run", "1", "good", *where, env=env)
        assert alive or verdict.returncode == 0, verdict.stderr
        said += [f"{done.stdout} {done.stderr}" for done in (shown, review, doctor, verdict)]
    copied = cli("backup", folder / "copy", *where, env=env)
    assert copied.returncode == 1
    assert "pg_dump --schema='lrpilot_*'" in copied.stderr
    said.append(copied.stderr)
    assert not [text for text in said if SECRET in text]


def test_the_password_is_in_no_file_and_no_childs_arguments(
    stored: FaultyDaemon, folder: Path
) -> None:
    stored.start()
    one = job(50)
    with attach(one, stored.address, "run") as pilot:
        train_until(one, pilot, lambda: rollbacks(pilot) > 0, pause_s=0.002)
        assert not [line for line in _arguments_of_others(stored) if SECRET in line]
    stored.terminate()
    for path in folder.rglob("*"):
        if path.is_file():
            assert SECRET.encode() not in path.read_bytes(), path


def _arguments_of_others(daemon: Daemon) -> list[str]:
    """What `ps` shows of every process but the daemon, to which a person gave the URL."""
    assert daemon.process is not None
    found = []
    for one in Path("/proc").iterdir():
        if one.name.isdigit() and int(one.name) not in (daemon.process.pid, os.getpid()):
            try:
                found.append((one / "cmdline").read_text(errors="replace"))
            except OSError:  # it ended
                continue
    return found
