import itertools
import json
import logging
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lrpilot.client import Agent, discovery, launcher
from lrpilot.client.address import resolve
from lrpilot.client.discovery import Finder, Finding
from lrpilot_proto import rendezvous

# Stands in for the daemon: notes that it lives, binds the socket a little later, answers.
STUB = """
import json, os, socket, sys, time
folder, path = sys.argv[1], sys.argv[2]
facts = {"pid": os.getpid(), "session": os.getsid(0), "cwd": os.getcwd(),
         "fds": len(os.listdir("/dev/fd")), "path": os.environ.get("PYTHONPATH", "")}
with open(folder + "/lives", "a") as lives:
    lives.write(json.dumps(facts) + "\\n")
print("a word in the log", file=sys.stderr, flush=True)
time.sleep(0.2)
if os.path.exists(path):
    os.unlink(path)
server = socket.socket(socket.AF_UNIX)
server.bind(path)
server.listen()
time.sleep(30)
"""

CALLER = """
import sys
from lrpilot.client import discovery, launcher
discovery.NEEDED = ()
stub, folder = sys.argv[1:]
launcher.command = lambda storage, path: [sys.executable, "-c", stub, folder, str(path)]
print(discovery.Finder("auto").find().value)
"""


class Home:
    """A user's directories of their own, and the lives of the stub daemon in them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "state" / "lrpilot" / "daemon.log"

    @property
    def lives(self) -> list[dict[str, object]]:
        file = self.folder / "lives"
        text = file.read_text() if file.exists() else ""
        return [json.loads(line) for line in text.splitlines()]

    def kill(self) -> None:
        for life in self.lives:
            try:
                os.kill(int(str(life["pid"])), signal.SIGKILL)
            except ProcessLookupError:
                continue
        for process in launcher._started:
            process.wait()


@pytest.fixture
def home(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    monkeypatch.delenv("LRPILOT_ADDRESS", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(folder / "state"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    monkeypatch.setattr(discovery, "NEEDED", ())

    def command(_storage: Path, path: Path) -> list[str]:
        return [sys.executable, "-c", STUB, str(folder), str(path)]

    monkeypatch.setattr(launcher, "command", command)
    home = Home(folder)
    yield home
    home.kill()


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]


# -- addresses


@pytest.mark.parametrize(
    ("address", "target"),
    [
        ("unix:/a/b.sock", "unix:/a/b.sock"),
        ("unix:///a/b.sock", "unix:/a/b.sock"),
        ("unix:/a/x y%.sock", "unix:/a/x%20y%25.sock"),
        ("localhost:50051", "localhost:50051"),
        ("127.0.0.2:1", "127.0.0.2:1"),
        ("[::1]:65535", "[::1]:65535"),
        ("gpu.example.org:50051", "gpu.example.org:50051"),
    ],
)
def test_addresses_that_are_understood(address: str, target: str) -> None:
    assert resolve(address, {}).target == target
    by_environment = resolve("auto", {"LRPILOT_ADDRESS": address})
    assert by_environment.target == target
    assert not by_environment.managed


@pytest.mark.parametrize(
    "address",
    [
        *["", "x", "unix:", "localhost", "localhost:", ":5", "localhost:0", "localhost:65536"],
        *["localhost:x", "http://localhost:5", "tcp:localhost:5", "[::1]", "::1:5"],
        "localhost:\u0665",
    ],
)
def test_malformed_addresses_say_what_is_allowed(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match=r"unix:PATH"):
        resolve(address, {})
    if address:
        monkeypatch.setenv("LRPILOT_ADDRESS", address)
        with pytest.raises(ValueError, match=r"\$LRPILOT_ADDRESS.*unix:PATH"):
            Agent("auto")


def test_a_path_beyond_what_a_socket_can_have_is_refused() -> None:
    with pytest.raises(ValueError, match="at most 103 bytes"):
        resolve("unix:/" + "x" * 200, {})


def test_auto_is_one_socket_per_user_and_storage(home: Home) -> None:
    address = resolve("auto", {"LRPILOT_ADDRESS": " "})
    assert address.managed
    assert address.path == rendezvous.socket_path(home.folder / "state" / "lrpilot")


def test_the_command_that_is_started() -> None:
    assert launcher.command(Path("/s"), Path("/r/x.sock")) == [
        *[sys.executable, "-m", "lrpilot_controller", "serve", "--linger", "60"],
        *["--storage", "/s", "--listen", "unix:/r/x.sock"],
    ]


# -- the daemon that nobody named


def test_the_daemon_is_started_detached_and_found_again(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["here", "/there"]))
    with socket.socket() as ours:
        os.set_inheritable(ours.fileno(), True)
        assert Finder("auto").find() is Finding.ANSWERS
    assert Finder("auto").find() is Finding.ANSWERS
    (life,) = home.lives
    assert life["session"] == life["pid"] != os.getpid()
    assert life["cwd"] == "/"
    assert life["path"] == os.pathsep.join([str(Path("here").absolute()), "/there"])
    assert life["fds"] == 4  # its three standard ones, and the one that lists them
    assert home.log.read_text() == "a word in the log\n"
    assert stat.S_IMODE(home.log.stat().st_mode) == 0o600
    assert stat.S_IMODE(home.log.parent.stat().st_mode) == 0o700


def test_of_many_callers_one_starts_it(home: Home) -> None:
    callers = [
        subprocess.Popen(
            [sys.executable, "-c", CALLER, STUB, str(home.folder)], stdout=subprocess.PIPE
        )
        for _ in range(6)
    ]
    assert [caller.communicate(timeout=30)[0] for caller in callers] == [b"answers\n"] * 6
    assert len(home.lives) == 1


def test_a_daemon_that_died_is_started_again_but_not_too_often(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launcher, "RESTART_GAP_S", 1.0)
    finder = Finder("auto")
    begin = time.monotonic()
    assert finder.find() is Finding.ANSWERS
    home.kill()
    assert finder.find() is Finding.ABSENT
    assert "restarted soon" in finder.why
    while finder.find() is Finding.ABSENT:
        time.sleep(0.02)
    assert time.monotonic() - begin > 1.0
    assert len(home.lives) == 2


def test_a_daemon_that_ends_at_once_is_told_of_with_its_words(
    home: Home, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    home.log.parent.mkdir(parents=True)
    home.log.write_text("of yesterday\n")
    last_words = "import sys; sys.exit('no room')"
    monkeypatch.setattr(launcher, "command", lambda *_: [sys.executable, "-c", last_words])
    for _ in range(2):
        assert Finder("auto").find() is Finding.ABSENT
    (text,) = warnings(caplog)
    assert "exit status 1" in text
    assert text.endswith("says:\nno room")
    agent = Agent("auto")
    agent.start()
    assert not agent.wait_ready(3600)
    agent.close()


def test_giving_up_ends_the_wait(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    sleeper = [sys.executable, "-c", "import time; time.sleep(3600)"]
    monkeypatch.setattr(launcher, "command", lambda *_: sleeper)
    monkeypatch.setattr(launcher, "BOOT_S", 3600)
    asked = itertools.count()
    assert Finder("auto").find(lambda: next(asked) > 10) is Finding.ABSENT
    for process in launcher._started:
        process.kill()


def test_the_controller_not_installed(
    home: Home, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(discovery, "NEEDED", ("os", "no_such_package"))
    for _ in range(2):
        agent = Agent("auto")
        agent.start()
        assert not agent.wait_ready(3600)
        assert "no_such_package" in str(agent.status.refused)
        agent.close()
    (text,) = warnings(caplog)
    assert 'pip install "lrpilot[all]"' in text
    assert home.lives == []


def test_a_forked_child_starts_none(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "_HOME_PID", os.getpid() + 1)
    assert Finder("auto").find() is Finding.ABSENT
    assert home.lives == []


def test_a_directory_that_others_can_enter_is_not_trusted(home: Home) -> None:
    (home.folder / "lrpilot").mkdir(mode=0o755)
    finder = Finder("auto")
    assert finder.find() is Finding.ABSENT
    assert "0700" in finder.why
    assert home.lives == []


def test_a_named_daemon_is_never_started(home: Home, folder: Path) -> None:
    finder = Finder(f"unix:{folder / 'x.sock'}")
    assert finder.find() is Finding.ABSENT
    assert home.lives == []
