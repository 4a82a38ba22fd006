"""Training over TLS with a token, and a person's commands over it."""

import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lrpilot_controller.server.access.tokens import revoke
from support.access import RawSession, SecureDaemon
from support.daemon import cli, environment, script, until
from support.training import attach, job, rollbacks, same, train, train_until


@pytest.fixture
def secure(folder: Path) -> Iterator[SecureDaemon]:
    """A daemon on TCP that was not started yet."""
    daemon = SecureDaemon(folder)
    yield daemon
    daemon.kill()


def trust(monkeypatch: pytest.MonkeyPatch, environ: dict[str, str]) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)


def test_a_run_that_blows_up_is_rolled_back_over_tls(
    secure: SecureDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = secure.token("job", "trainer", "default")
    secure.start()
    trust(monkeypatch, secure.trust())
    one = job(200)
    with attach(one, "auto", "run", token=secret) as pilot:
        train_until(one, pilot, lambda: one.loss() < 0.1)
        train(one, pilot, range(400), pause_s=0.001)
        assert secret not in repr(pilot.state_dict()) + repr(pilot.summary())
    assert one.loss() < 0.5, "it began at 8"
    story = secure.story("run")
    assert sum(d["action"] == "rollback" for d in story["decisions"]) == rollbacks(pilot)
    assert story["state"] == "finished"
    for kept in secure.storage.rglob("*"):
        assert not kept.is_file() or secret.encode() not in kept.read_bytes(), kept
    assert secret not in secure.log


def test_a_revoked_job_trains_on_to_the_same_bits(
    secure: SecureDaemon, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    secret = secure.token("job", "trainer", "default")
    secure.start()
    trust(monkeypatch, secure.trust(secret))
    alone = job()
    train(alone, None, range(300))
    one = job()
    with attach(one, "auto", "run") as pilot:
        train(one, pilot, range(100), pause_s=0.001)
        revoke(secure.tokens, "job")
        until(lambda: pilot.summary().refused)
        train(one, pilot, range(200), pause_s=0.001)
    assert same(one.weights(), alone.weights())
    [text] = [r.getMessage() for r in caplog.records if r.levelname == "ERROR"]
    assert "revoked" in text
    assert "Training goes on" in text


@pytest.mark.slow
def test_workers_that_fork_beside_a_line_with_tls(secure: SecureDaemon) -> None:
    secret = secure.token("job", "trainer", "default")
    secure.start()
    env = environment(**secure.trust(secret))
    process = script("workers.py", secure.address, "run", env=env)
    assert process.wait(120) == 0
    assert secure.story("run")["state"] == "finished"


def test_a_person_asks_over_tcp(secure: SecureDaemon) -> None:
    trainer = secure.token("job", "trainer", "p")
    operator, viewer = secure.token("olga", "operator", "p"), secure.token("vera", "viewer", "p")
    secure.start()
    with secure.channel() as channel:
        session = RawSession(channel, trainer, "p", "run")
        assert session.first() == "welcome"
        done = cli("freeze", "p/run", env=environment(**secure.trust(operator)))
        assert done.returncode == 0, done.stderr
        assert "is frozen" in done.stdout
        for token, words in (
            (viewer, "needs a token of role operator; 'vera' has role viewer"),
            ("wrong", "the token is not known here"),
            (None, "a daemon on TCP needs a token"),
        ):
            asked = cli("release", "p/run", env=environment(**secure.trust(token)))
            assert asked.returncode == 1
            assert words in asked.stderr
            assert "Traceback" not in asked.stderr
        stranger = environment(**secure.trust(operator) | {"LRPILOT_CA": ""})
        asked = cli("release", "p/run", env=stranger)
        assert "LRPILOT_CA names what to trust" in asked.stderr


def test_a_first_try_from_what_is_printed(secure: SecureDaemon) -> None:
    """`lrpilot certificate` prints commands; done as they stand, they work."""
    made = cli("certificate", "localhost", "--client", "me", "--storage", secure.storage)
    assert made.returncode == 0, made.stderr
    # A test stays on this host, and on a port that is free.
    text = made.stdout.replace("0.0.0.0:50051", secure.address).replace(":50051", f":{secure.port}")
    commands = [line for line in text.splitlines() if line.startswith("  ")]
    lines = [shlex.split(line, comments=True) for line in commands]
    [token] = [line[1:] for line in lines if line[1:3] == ["token", "create"]]
    [serve] = [line[2:] for line in lines if line[1:2] == ["serve"]]
    exports = dict(
        word.split("=", 1) for line in lines if line[:1] == ["export"] for word in line[1:]
    )
    named = {"NAME": "job", "PROJECT": "default"}
    exports["LRPILOT_TOKEN"] = cli(*(named.get(word, word) for word in token)).stdout.strip()
    secure.more = serve
    secure.start()
    process = script("auto.py", "run", env=environment(**exports), stdin=subprocess.DEVNULL)
    assert process.wait(120) == 0
    assert secure.story("run")["state"] == "finished"
