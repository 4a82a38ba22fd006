"""A journal that was cut off or scribbled over: told of, left as it is, and never believed."""

from pathlib import Path

import pytest

from support.daemon import Daemon, cli
from support.faults.disk import scribble
from support.training import attach, job, rollbacks, train, train_until

pytestmark = pytest.mark.slow

HEADER = 100
PAGE = 4096


@pytest.fixture
def recorded(daemon: Daemon) -> Daemon:
    """A daemon that was killed; its journal holds a run."""
    daemon.start()
    one = job()
    with attach(one, daemon.address, "run") as pilot:
        train_until(one, pilot, lambda: pilot.summary().connected)
        train(one, pilot, range(300), pause_s=0.001)
        one.spoil()
        train_until(one, pilot, lambda: rollbacks(pilot) == 1)
        train(one, pilot, range(50), pause_s=0.001)
    daemon.kill()
    return daemon


def journal_files(daemon: Daemon) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(daemon.storage.glob("journal.db*"))}


def settled(daemon: Daemon) -> Path:
    """The journal as one file."""
    daemon.start()
    daemon.terminate()
    return daemon.storage / "journal.db"


@pytest.mark.parametrize("where", ["its header", "its first pages", "cut to half a page"])
def test_a_journal_that_cannot_be_opened(recorded: Daemon, where: str) -> None:
    """The daemon says which file, and what to do; it changes nothing."""
    file = settled(recorded)
    if where == "its header":
        scribble(file, 0, size=HEADER)
    elif where == "its first pages":
        scribble(file, 0, start=HEADER, size=3 * PAGE)
    else:
        with file.open("r+b") as into:
            into.truncate(PAGE // 2)
    before = journal_files(recorded)
    refused = cli("serve", "--listen", recorded.address, "--storage", recorded.storage)
    assert refused.returncode == 1
    assert str(file) in refused.stderr
    assert "choose another --storage directory" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert journal_files(recorded)["journal.db"] == before["journal.db"]


@pytest.mark.parametrize("damage", ["cut off", "scribbled over"])
def test_the_tail_of_a_write_ahead_log(recorded: Daemon, damage: str) -> None:
    """As after a power cut: the records before it are whole, and the run can go on."""
    log = recorded.storage / "journal.db-wal"
    whole = recorded.seqs("run")
    size = log.stat().st_size
    assert size > 4 * PAGE
    if damage == "cut off":
        with log.open("r+b") as into:
            into.truncate(size - size // 3 - 100)
    else:
        scribble(log, 0, start=size - size // 3 - 100)
    recorded.start()
    known = recorded.seqs("run")
    assert known == whole[: len(known)]
    one = job()
    with attach(one, recorded.address, "run") as pilot:
        train_until(one, pilot, lambda: pilot.summary().connected)
        train(one, pilot, range(60), pause_s=0.001)
        one.spoil()
        train_until(one, pilot, lambda: rollbacks(pilot) == 1)
        train(one, pilot, range(20), pause_s=0.001)
    assert recorded.story("run")["state"] == "finished"
    assert "Traceback" not in recorded.log, recorded.log
