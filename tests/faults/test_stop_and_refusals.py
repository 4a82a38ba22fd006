"""How the daemon ends, and when it does not even start."""

import os
import socket
from contextlib import ExitStack
from pathlib import Path

import pytest

from lrpilot_controller.journal import RunKey, SqlJournal
from support.access import SecureDaemon
from support.daemon import ENOUGH_S, PROJECT, Daemon, cli, until
from support.faults.daemon import FaultyDaemon
from support.peer import hello, session, telemetry
from support.training import attach, job, train, train_until


def test_sigterm_with_sessions_open(daemon: Daemon) -> None:
    """It ends though they stay open; trainers go on, and the next daemon hears the rest."""
    daemon.start()
    jobs = [job(seed=k) for k in range(3)]
    pilots = [attach(one, daemon.address, f"run {k}") for k, one in enumerate(jobs)]
    for one, pilot in zip(jobs, pilots, strict=True):
        train_until(one, pilot, lambda pilot=pilot: pilot.summary().connected)
    assert daemon.terminate() == 0
    assert not daemon.socket.exists()
    for one, pilot in zip(jobs, pilots, strict=True):
        train(one, pilot, range(50))
        until(lambda pilot=pilot: not pilot.summary().connected)
        train(one, pilot, range(50))
    daemon.start()
    for one, pilot in zip(jobs, pilots, strict=True):
        train_until(one, pilot, lambda pilot=pilot: pilot.summary().connected)
        pilot.close()
        run = pilot.summary().run.removeprefix("default/")
        assert daemon.seqs(run) == list(range(1, pilot.step_count + 1))
        assert daemon.story(run)["attempts"] == 1
    assert "Traceback" not in daemon.log, daemon.log
    assert "never retrieved" not in daemon.log, daemon.log


def test_a_daemon_with_a_slow_disk_keeps_the_state_of_each_run_before_it_ends(
    faulty: FaultyDaemon,
) -> None:
    faulty.start()
    runs = [f"run {k}" for k in range(4)]
    with ExitStack() as sessions:
        for run in runs:
            line = sessions.enter_context(session(faulty.address, hello(run)))
            line.say(telemetry(1, [1.0] * 2000))
            line.hear_ack(2000)
        faulty.suffer(slow=1.2)  # longer than a call is given to end
        assert faulty.terminate() == 0
    with faulty.journal() as journal:
        kept = [run for run in runs if journal.checkpoint(RunKey(PROJECT, run)) is not None]
    assert kept == runs


def test_a_daemon_whose_journal_another_one_has_opened_says_so_and_ends(daemon: Daemon) -> None:
    """As one of another host may on a shared disk, where no lock keeps it out."""
    daemon.start()
    with session(daemon.address, hello("run")) as line:
        line.say(telemetry(1, [1.0] * 10))
        line.hear_ack(10)
        SqlJournal.open(daemon.storage / "journal.db").close()
        assert daemon.process is not None
        assert daemon.process.wait(ENOUGH_S) == 1
    (why,) = (text for text in daemon.log.splitlines() if " ERROR " in text)
    assert "stopping: another daemon has opened the journal" in why
    assert "Traceback" not in daemon.log, daemon.log
    daemon.start()
    with session(daemon.address, hello("run")) as line:
        line.say(telemetry(1, [1.0] * 20))
        line.hear_ack(20)
    assert daemon.seqs("run") == list(range(1, 21))


def test_a_stopped_daemon_says_that_its_runs_are_lost(daemon: Daemon) -> None:
    daemon.start()
    one = job()
    with attach(one, daemon.address, "run") as pilot:
        train_until(one, pilot, lambda: pilot.summary().connected)
        assert daemon.terminate() == 0
        assert daemon.story("run")["state"] == "lost"


def test_what_a_killed_daemon_could_not_say_the_next_one_says(daemon: Daemon) -> None:
    daemon.start()
    with session(daemon.address, hello("run")) as line:
        line.say(telemetry(1, [1.0]))
        line.hear_ack(1)
        daemon.kill()
    assert daemon.story("run")["state"] == "tracking"
    daemon.start()
    assert daemon.story("run")["state"] == "lost"


def test_a_second_daemon_on_the_same_socket(daemon: Daemon) -> None:
    daemon.start()
    second = cli("serve", "--listen", daemon.address, "--storage", daemon.folder / "other")
    assert second.returncode != 0
    assert f"another LRPilot daemon (pid {daemon.process.pid})" in second.stderr
    assert str(daemon.socket) in second.stderr
    assert "Traceback" not in second.stderr
    assert daemon.answers()


def test_a_second_daemon_on_the_same_storage(daemon: Daemon) -> None:
    daemon.start()
    second = cli("serve", "--listen", f"unix:{daemon.folder}/e.sock", "--storage", daemon.storage)
    assert second.returncode != 0
    assert f"another LRPilot daemon (pid {daemon.process.pid})" in second.stderr
    assert str(daemon.storage) in second.stderr
    assert "Traceback" not in second.stderr
    with attach(one := job(), daemon.address, "run") as pilot:
        train(one, pilot, range(10))
    assert daemon.story("run")["telemetry"]["received"] == 10, "the first one still writes"


def test_a_second_daemon_on_the_same_port(folder: Path) -> None:
    """Two gRPC servers may share a port without noticing; two daemons must not."""
    daemon = SecureDaemon(folder)
    daemon.token("job", "trainer", "p")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", daemon.port))
        taken.listen()
        second = cli(
            *("serve", "--listen", daemon.address, "--storage", daemon.storage, *daemon.more),
            env=daemon.environment,
        )
    assert second.returncode != 0
    assert f"cannot listen on {daemon.address}" in second.stderr
    assert "Traceback" not in second.stderr


def test_a_storage_that_cannot_be_written(folder: Path) -> None:
    (folder / "file").touch()
    refused = [(folder / "file" / "store", "Not a directory"), (folder / "file", "not a directory")]
    if os.getuid():  # root may write anywhere
        (folder / "locked").mkdir(mode=0o500)
        refused.append((folder / "locked", "not writable"))
    for storage, advice in refused:
        ended = cli("serve", "--listen", f"unix:{folder}/d.sock", "--storage", storage)
        assert ended.returncode != 0
        assert f"--storage {storage}: " in ended.stderr
        assert advice in ended.stderr
        assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[guard]\nfactor = 2", ["guard.factor", "2", "less than 1"]),
        ("[guard]\nfactor = 'a third'", ["guard.factor", "'a third'", "number"]),
        ("[guard]\nfacter = 0.3", ["guard.facter", "factor, max_rollbacks"]),
        ("[gard]\nfactor = 0.3", ["gard", "guard, limits, probation_steps"]),
        ("[limits]\nmax_factor = inf", ["limits.max_factor", "inf", "less than or equal to 1000"]),
        ("[limits]\ncooldown_steps = -1", ["limits.cooldown_steps", "-1", "greater than or equal"]),
        ("[guard\nfactor = 2", ["not valid TOML", "line 1"]),
        (None, ["cannot be read"]),
    ],
)
def test_a_configuration_that_cannot_be(folder: Path, text: str | None, words: list[str]) -> None:
    """The message names the file, the key, the value, and what is allowed."""
    file = folder / "lrpilot.toml"
    if text is not None:
        file.write_text(text)
    listen = f"unix:{folder}/d.sock"
    refused = cli("serve", "--listen", listen, "--storage", folder / "store", "--config", file)
    assert refused.returncode != 0
    for word in [str(file), *words]:
        assert word in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not (folder / "store").exists()
