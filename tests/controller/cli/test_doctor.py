"""`lrpilot doctor`: each check, made to fail for real, and the whole of it."""

import contextlib
import json
import os
import socket
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lrpilot_controller.cli import checkup
from lrpilot_controller.cli.checkup import NOTE, OK, WRONG
from lrpilot_controller.journal import SqlJournal
from lrpilot_controller.server.address import Address
from lrpilot_controller.storage import Storage
from lrpilot_controller.tuning.file import TrialsFile
from support.daemon import Daemon, cli, environment


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    """A directory as a daemon leaves it."""
    made = tmp_path / "store"
    made.mkdir(mode=0o700)
    SqlJournal.open(made / "journal.db").close()
    return made


@pytest.fixture
def folder() -> Iterator[Path]:
    """A private one, whose path is short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="lrp") as made:
        yield Path(made)


def test_this_python_and_its_packages_are_right() -> None:
    assert checkup.python().level == OK
    found = checkup.packages()
    assert found.level == OK
    assert "grpcio" in found.says


def test_another_python_is_wrong() -> None:
    assert checkup.python(">=99").level == WRONG


def test_a_package_out_of_its_range_or_missing_is_wrong() -> None:
    found = checkup.packages(["grpcio>=999"])
    assert (found.level, "grpcio" in found.says) == (WRONG, True)
    assert "pip install" in found.todo
    assert checkup.packages(["no-such-package-of-ours"]).level == WRONG
    assert checkup.packages(["no-such-package-of-ours; extra == 'torch'"]).level == OK


def test_a_storage_that_others_can_enter_is_wrong(storage: Path) -> None:
    assert checkup.directory(storage).level == OK
    storage.chmod(0o755)
    found = checkup.directory(storage)
    assert (found.level, found.todo) == (WRONG, f"chmod 700 {storage}")


def test_a_storage_that_is_a_file_is_wrong_and_none_is_not(tmp_path: Path) -> None:
    assert checkup.directory(tmp_path / "none").level == NOTE
    (tmp_path / "file").touch()
    assert checkup.directory(tmp_path / "file").level == WRONG


def test_a_full_disk_is_wrong(storage: Path) -> None:
    assert checkup.free_space(storage, least_mib=0).level == OK
    assert checkup.free_space(storage / "not" / "there", least_mib=1 << 40).level == WRONG


def test_a_slow_disk_is_wrong(storage: Path) -> None:
    assert checkup.disk_speed(storage, slow_s=60).level == OK
    assert checkup.disk_speed(storage, slow_s=0).level == WRONG
    assert [path.name for path in storage.iterdir()] == ["journal.db"]


def test_a_journal_is_looked_through(storage: Path, tmp_path: Path) -> None:
    assert checkup.journal(tmp_path).level == NOTE
    assert checkup.journal(storage).level == OK


def test_a_journal_of_a_newer_version_is_wrong(storage: Path) -> None:
    with sqlite3.connect(storage / "journal.db") as file:
        file.execute("UPDATE meta SET schema_version = 999")
    file.close()
    found = checkup.journal(storage)
    assert found.level == WRONG
    assert "upgrade" in found.says


@pytest.mark.parametrize(
    ("tables", "todo"),
    [("v99.0.0.a", "pip install -U optuna"), ("v3.0.0.a", "optuna storage upgrade")],
)
def test_trials_of_another_optuna_are_wrong(storage: Path, tables: str, todo: str) -> None:
    path = storage / "optuna.db"
    TrialsFile(path).open(5, create=True).engine.dispose()
    assert checkup.trials(storage).level == OK
    with contextlib.closing(sqlite3.connect(path)) as file, file:
        file.execute("UPDATE alembic_version SET version_num = ?", (tables,))
    found = checkup.trials(storage)
    assert found.level == WRONG
    assert f"another version of Optuna (its tables are {tables}" in found.says
    assert todo in found.says


@pytest.mark.parametrize("name", ["journal", "trials"])
def test_a_damaged_file_is_wrong(storage: Path, name: str) -> None:
    path = storage / {"journal": "journal.db", "trials": "optuna.db"}[name]
    if name == "trials":
        with sqlite3.connect(path) as file:
            file.execute("CREATE TABLE trials (number INTEGER)")
            file.executemany("INSERT INTO trials VALUES (?)", [(n,) for n in range(5000)])
        file.close()
        assert checkup.trials(storage).level == OK
    content = bytearray(path.read_bytes())
    content[8192:12288] = b"\xff" * 4096
    path.write_bytes(content)
    found = getattr(checkup, name)(storage)
    assert found.level == WRONG
    assert str(path) in found.says + found.todo


def test_a_socket_is_looked_at(folder: Path) -> None:
    path = folder / "d.sock"
    assert checkup.daemon_socket(Address(path=path)).level == NOTE
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        path.chmod(0o600)
        stale = checkup.daemon_socket(Address(path=path))
        assert (stale.level, stale.todo) == (NOTE, f"rm {path}")
        listening.listen()
        assert checkup.daemon_socket(Address(path=path)).level == OK
        path.chmod(0o666)
        found = checkup.daemon_socket(Address(path=path))
        assert (found.level, found.todo) == (WRONG, f"chmod 600 {path}")


def test_a_clock_that_went_back_is_wrong(storage: Path) -> None:
    assert checkup.clock(storage).level == OK
    ahead = time.time() + 3600
    os.utime(storage / "journal.db", (ahead, ahead))
    assert "in the future" in checkup.clock(storage).says
    assert checkup.clock(storage).level == WRONG
    assert checkup.clock(storage, now=lambda: 0.0).level == WRONG


@pytest.mark.parametrize(
    ("variables", "level"),
    [
        ({}, OK),
        ({"LRPILOT_ADDRESS": "unix:/tmp/d.sock", "LRPILOT_TOKEN": "sesame"}, OK),
        ({"LRPILOT": "off"}, NOTE),
        ({"LRPILOT_ADDRESS": "nowhere"}, WRONG),
        ({"LRPILOT_ADRESS": "unix:/tmp/d.sock"}, WRONG),
        ({"LRPILOT_CA": "/no/such/file"}, WRONG),
        # Kubernetes sets these where a service is named lrpilot.
        ({"LRPILOT_SERVICE_HOST": "10.0.0.7", "LRPILOT_PORT": "tcp://10.0.0.7:50051"}, OK),
        ({"LRPILOT_IMAGE": "registry.example/lrpilot"}, OK),
    ],
)
def test_the_environment_is_read_and_no_token_is_told(
    variables: dict[str, str], level: str
) -> None:
    found = checkup.environment({"HOME": "/root", **variables})
    assert found.level == level
    assert "sesame" not in found.says + found.todo


def test_a_daemon_that_must_answer_and_does_not_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LRPILOT_ADDRESS", raising=False)
    assert checkup.answers(Storage(tmp_path)).level == NOTE
    assert checkup.answers(Storage(tmp_path), needed=True).level == WRONG
    monkeypatch.setenv("LRPILOT_ADDRESS", f"unix:{tmp_path}/none.sock")
    assert checkup.answers(None).level == WRONG  # training starts none there
    assert checkup.answers(Storage(tmp_path)).level == NOTE


def test_a_daemon_of_another_version_is_wrong(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon = Daemon(folder)
    daemon.start()
    monkeypatch.setenv("LRPILOT_ADDRESS", daemon.address)
    assert checkup.answers(None, needed=True).level == OK
    monkeypatch.setattr(checkup, "VERSION", "99.0")
    assert "99.0" in checkup.answers(None).says
    assert checkup.answers(None).level == WRONG
    env = environment(LRPILOT_ADDRESS=daemon.address, LRPILOT_TOKEN="sesame")
    done = cli("doctor", "--daemon", "--json", env=env)
    told = {finding["check"]: finding for finding in json.loads(done.stdout)}
    assert told["daemon"]["level"] == told["socket"]["level"] == OK
    assert set(told) == {"daemon", "socket"}  # a probe is not about the disk
    assert "sesame" not in done.stdout + done.stderr
    daemon.kill()


def test_the_command_says_what_to_do_and_its_status_says_whether_anything_is_wrong(
    storage: Path,
) -> None:
    env = environment(XDG_RUNTIME_DIR=storage.parent)
    well = cli("doctor", "--storage", storage, env=env)
    assert well.returncode == 0, well.stdout + well.stderr
    ill = cli("doctor", "--storage", storage, env=env | {"LRPILOT_ADDRESS": "nowhere"})
    assert ill.returncode == 1
    assert "!! environment:" in ill.stdout
    assert "-> unset it, or give unix:PATH or HOST:PORT" in ill.stdout
