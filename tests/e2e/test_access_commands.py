"""The commands as people on other hosts use them: over TCP, with a token from the environment."""

import json
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lrpilot_controller.server.access.tokens import revoke
from support.access import RawSession, SecureDaemon
from support.daemon import cli, environment, until

VIEWER, OPERATOR, TRAINER = "viewer", "operator", "trainer"


@pytest.fixture(scope="module")
def daemon() -> Iterator[SecureDaemon]:
    """One that logs JSON, and had a run `mine/run-1`."""
    folder = Path(tempfile.mkdtemp(prefix="lrp"))
    daemon = SecureDaemon(folder)
    daemon.more += ["--log-format", "json"]
    job = daemon.token("job", TRAINER, "mine")
    daemon.start()
    try:
        with daemon.channel() as channel:
            session = RawSession(channel, job, "mine", "run-1")
            assert session.first() == "welcome"
            session.hang_up()
        yield daemon
    finally:
        daemon.kill()
        shutil.rmtree(folder, ignore_errors=True)


def trust(daemon: SecureDaemon, token: str | None) -> dict[str, str]:
    """The environment of somebody elsewhere, who has none of the daemon's files."""
    elsewhere = str(daemon.storage.parent / "elsewhere")
    return environment(XDG_STATE_HOME=elsewhere, **daemon.trust(token))


@contextmanager
def watching(environ: dict[str, str], *args: str) -> Iterator["subprocess.Popen[str]"]:
    """`lrpilot watch`, in a pipe."""
    command = [sys.executable, "-m", "lrpilot_controller", "watch", *args]
    process = subprocess.Popen(
        command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("args", [(), ("mine/run-1",)])
def test_a_viewer_watches_until_the_token_is_revoked(
    daemon: SecureDaemon, args: tuple[str, ...]
) -> None:
    token = daemon.token("vera", VIEWER, "mine")
    with watching(trust(daemon, token), *args) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["run"] == "mine/run-1"
        revoke(daemon.tokens, "vera")
        _, said = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "token" in said
    assert "Traceback" not in said + daemon.log
    assert token not in said + daemon.log


def test_a_viewer_is_told_whose_token_it_takes(daemon: SecureDaemon) -> None:
    look = daemon.token("vic", VIEWER, "mine")
    refused = cli("freeze", "mine/run-1", env=trust(daemon, look))
    assert refused.returncode == 1
    assert "role operator; 'vic' has role viewer" in refused.stderr
    ask = daemon.token("olga", OPERATOR, "mine")
    done = cli("freeze", "mine/run-1", env=trust(daemon, ask))
    assert "run mine/run-1 has no live session" in done.stderr  # so that far it came


def test_files_that_are_elsewhere_are_said_to_be(daemon: SecureDaemon) -> None:
    for command in (("runs",), ("show", "mine/run-1")):
        done = cli(*command, env=trust(daemon, None))
        assert done.returncode == 1
        assert daemon.address in done.stderr
        assert "lrpilot watch" in done.stderr


def test_doctor_is_content_with_a_trainers_token(daemon: SecureDaemon) -> None:
    job = daemon.token("job-2", TRAINER, "mine")
    done = cli("doctor", "--daemon", env=trust(daemon, job))
    assert done.returncode == 0, done.stdout
    unknown = cli("doctor", "--daemon", env=trust(daemon, "lrp_" + "x" * 43))
    assert unknown.returncode == 1
    assert "not known here" in unknown.stdout
    assert "lrp_x" not in unknown.stdout


def test_a_failed_handshake_leaves_no_line_that_is_not_the_logs(daemon: SecureDaemon) -> None:
    def shake() -> None:
        stranger = ssl.create_default_context()
        with (
            socket.create_connection(("127.0.0.1", daemon.port), 10) as raw,
            pytest.raises(ssl.SSLError),
        ):
            stranger.wrap_socket(raw, server_hostname="127.0.0.1")

    before = len(daemon.log.splitlines())
    shake()
    wrong = cli("freeze", "mine/run-1", env=trust(daemon, "lrp_" + "y" * 43))
    assert wrong.returncode == 1
    until(lambda: len(daemon.log.splitlines()) > before, what="the refusal in the log")
    for line in daemon.log.splitlines():
        assert "message" in json.loads(line)
    told = cli("watch", env=trust(daemon, "lrp_z") | {"LRPILOT_CA": ""})
    assert told.returncode == 1
    assert "is not accepted" in told.stderr
    assert len(told.stderr.splitlines()) == 1
