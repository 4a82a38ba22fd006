"""`lrpilot backup`: a copy made under load, and a daemon that goes on with it."""

import json
import sqlite3
import stat
import threading
from contextlib import closing
from pathlib import Path

import pytest

from lrpilot_controller.core.telemetry import Samples
from lrpilot_controller.journal import RunKey, SqlJournal
from support.daemon import Daemon, cli, until
from support.peer import hello, session, telemetry

RUN = "run"


def received(storage: Path) -> int:
    """Samples in the journal; every number once, from 1 on."""
    journal = SqlJournal.open(storage / "journal.db", readonly=True)
    try:
        found = [r.event for r in journal.records(RunKey("default", RUN), kinds=[Samples])]
    finally:
        journal.close()
    seqs = [s for e in found if isinstance(e, Samples) for s in range(e.first_seq, e.next_seq)]
    assert seqs == list(range(1, len(seqs) + 1))
    return len(seqs)


def test_a_copy_made_under_load_takes_the_storages_place(daemon: Daemon, folder: Path) -> None:
    daemon.start()
    copies = [folder / f"copy{i}" for i in range(2)]
    known: list[int] = []  # acknowledged before each copy was begun
    done = threading.Event()
    acked = [0]

    def copy() -> None:
        for target in copies:
            until(lambda: acked[0] > 1000 * len(known))
            known.append(acked[0])
            made = cli("backup", target, "--storage", daemon.storage, "--json")
            assert made.returncode == 0, made.stderr
            names = [Path(one["path"]).name for one in json.loads(made.stdout)["copied"]]
            assert names[-1] == "journal.db"
        done.set()

    copying = threading.Thread(target=copy)
    copying.start()
    with session(daemon.address, hello(RUN, "a")) as line:
        first = 1
        while not done.is_set() and copying.is_alive():
            line.say(telemetry(first, [1.0 + 0.1 * (k % 7) for k in range(50)]))
            first += 50
            while acked[0] < first - 1:
                acked[0] = line.hear().acked_seq
    copying.join()
    assert done.is_set()
    daemon.terminate()
    for target, least in zip(copies, known, strict=True):
        assert least <= received(target) <= received(daemon.storage)
        assert stat.S_IMODE(target.stat().st_mode) == 0o700
        assert {p.name for p in target.iterdir()} <= {"journal.db", "optuna.db", "artifacts"}
        for path in target.rglob("*.db"):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            with closing(sqlite3.connect(path)) as file:
                assert file.execute("PRAGMA integrity_check").fetchall() == [("ok",)]

    had = received(copies[0])
    daemon.storage = copies[0]
    daemon.start()
    with session(daemon.address, hello(RUN, "a")) as line:
        line.say(telemetry(had + 1, [1.0] * 10))
        until(lambda: line.hear().acked_seq == had + 10)
    assert daemon.story(RUN)["attempts"] == 1
    assert received(copies[0]) == had + 10


@pytest.fixture
def storage(daemon: Daemon) -> Path:
    """A storage that no daemon uses any more, with a run in it."""
    daemon.start()
    with session(daemon.address, hello(RUN, "a")) as line:
        line.say(telemetry(1, [1.0] * 10))
        until(lambda: line.hear().acked_seq == 10)
    daemon.terminate()
    return daemon.storage


def test_a_copy_is_not_written_over_unless_that_is_asked_for(storage: Path, folder: Path) -> None:
    target = folder / "copy"
    assert cli("backup", target, "--storage", storage).returncode == 0
    before = (target / "journal.db").read_bytes()
    with closing(sqlite3.connect(storage / "journal.db")) as file, file:
        file.execute("UPDATE meta SET generation = 7")
    refused = cli("backup", target, "--storage", storage)
    assert refused.returncode == 1
    assert f"{target}/journal.db exists" in refused.stderr
    assert (target / "journal.db").read_bytes() == before
    assert cli("backup", target, "--storage", storage, "--force").returncode == 0
    assert (target / "journal.db").read_bytes() != before


@pytest.mark.parametrize("where", ["store", "file", "nowhere/else"])
def test_where_a_copy_cannot_go(storage: Path, folder: Path, where: str) -> None:
    (folder / "file").touch()
    refused = cli("backup", folder / where, "--storage", storage)
    assert (refused.returncode == 1) == (where != "nowhere/else")
    assert "Traceback" not in refused.stderr


def test_a_damaged_journal_is_told_and_not_copied(storage: Path, folder: Path) -> None:
    file = storage / "journal.db"
    content = bytearray(file.read_bytes())
    content[4096:8192] = b"\xff" * 4096
    file.write_bytes(content)
    refused = cli("backup", folder / "copy", "--storage", storage)
    assert refused.returncode == 1
    assert str(file) in refused.stderr
    assert not list((folder / "copy").glob("journal*"))


def test_there_must_be_a_journal(folder: Path) -> None:
    refused = cli("backup", folder / "copy", "--storage", folder)
    assert refused.returncode == 1
    assert "no journal at" in refused.stderr
