"""The real daemon as a process of a test: started, killed, asked for its journal."""

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import URL

from lrpilot_controller.core.events import Decided, ReceiptArrived
from lrpilot_controller.core.model import Decision
from lrpilot_controller.core.telemetry import Samples
from lrpilot_controller.journal.base import Record, RunKey
from lrpilot_controller.journal.sql import SqlJournal
from lrpilot_controller.story import story_of

if TYPE_CHECKING:
    from support.nursery import Child, Nursery

PROJECT = "default"
COMMAND = (sys.executable, "-m", "lrpilot_controller")


ENOUGH_S = 120.0
"""What never comes; far above what anything takes, also on a machine that is very busy."""


def until(condition: Callable[[], Any], timeout_s: float = ENOUGH_S, what: str = "") -> None:
    """Wait for a condition, or fail."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"timed out waiting for {what or condition}"
        time.sleep(0.005)


def cli(*arguments: str | Path, **options: Any) -> "subprocess.CompletedProcess[str]":
    """Run one `lrpilot` command to its end."""
    command = [*COMMAND, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=ENOUGH_S, **options)


class Daemon:
    """One life after another of `lrpilot serve` on one socket and one storage directory.

    Args:
        folder: where all that is its own lies.
        nursery: forks each life, of `scripts/plain_daemon.py`; without one it is a fresh Python.
    """

    first: tuple[str, ...] = ()  # what a nursery's script is told before that
    doomed = False  # whether it may die before it listens

    def __init__(self, folder: Path, nursery: "Nursery | None" = None) -> None:
        self.folder = folder
        self.nursery = nursery
        self.socket = folder / "d.sock"
        self.address = f"unix:{self.socket}"
        self.storage = folder / "store"
        self.database: URL | None = None  # PostgreSQL, in the place of the directory
        self.log_file = folder / "daemon.log"
        self.more: list[str] = []  # further options of each life
        self.environment: dict[str, str] | None = None  # None: this process's own
        self.process: subprocess.Popen[bytes] | Child | None = None

    def start(self, *options: str) -> None:
        """Start it and wait until it accepts connections."""
        where = ("--listen", self.address, "--storage", self.place)
        self.process = process = self._launch("serve", *where, *self.more, *options)
        until(lambda: self.answers() or process.poll() is not None, what="the daemon")
        assert self.answers() or self.doomed, f"the daemon ended at once:\n{self.log}"

    def _launch(self, *arguments: str) -> "subprocess.Popen[bytes] | Child":
        if self.nursery is not None:
            forked = (*self.first, *arguments)
            return self.nursery.start(self.log_file, *forked, environment=self.environment)
        with self.log_file.open("ab") as log:
            return subprocess.Popen([*COMMAND, *arguments], stderr=log, env=self.environment)

    @property
    def place(self) -> str:
        """Its storage as the option says it."""
        if self.database is None:
            return str(self.storage)
        return self.database.render_as_string(hide_password=False)

    def answers(self) -> bool:
        """Whether somebody accepts connections on its socket."""
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(str(self.socket))
            except OSError:
                return False
        return True

    def kill(self) -> None:
        """SIGKILL, and reap; nothing where it does not run."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def terminate(self, timeout_s: float = ENOUGH_S) -> int:
        """SIGTERM; the exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(timeout_s)
        self.process = None
        return status

    @property
    def log(self) -> str:
        """What all its lives wrote to standard error."""
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    # -- what its journal holds; works beside a running daemon

    @contextmanager
    def journal(self) -> Iterator[SqlJournal]:
        """The journal, to read."""
        journal = SqlJournal.open(self.database or self.storage / "journal.db", readonly=True)
        try:
            yield journal
        finally:
            journal.close()

    def story(self, run: str) -> dict[str, Any]:
        """What `lrpilot show RUN --json` prints."""
        with self.journal() as journal:
            return story_of(journal, run).to_json()

    def records(self, run: str, *kinds: type) -> list[Record]:
        """A run's journaled events of some kinds; all where none is named."""
        with self.journal() as journal:
            return list(journal.records(RunKey(PROJECT, run), kinds=kinds or None))

    def seqs(self, run: str) -> list[int]:
        """The number of every telemetry item in the journal, as often as it is there."""
        found = [record.event for record in self.records(run, Samples)]
        return [seq for samples in found for seq in range(samples.first_seq, samples.next_seq)]

    def decisions(self, run: str) -> list[Decision]:
        """Every decision in the journal, as often as it is there."""
        return [record.event.decision for record in self.records(run, Decided)]

    def decided(self, run: str) -> list[int]:
        """Their ids."""
        return [decision.id for decision in self.decisions(run)]

    def receipts(self, run: str) -> list[ReceiptArrived]:
        """Every receipt in the journal."""
        return [record.event for record in self.records(run, ReceiptArrived)]

    def remembers(self, runs: int) -> bool:
        """Whether it has written down what so many whole runs found, for later ones."""
        query = (
            "SELECT count(*) FROM trials JOIN studies USING (study_id) "
            "WHERE study_name = ? AND state = 'COMPLETE'"
        )
        trials = f"file:{self.storage / 'optuna.db'}?mode=ro"
        # There is no file, or no table, before the first run has ended.
        with (
            suppress(sqlite3.OperationalError),
            closing(sqlite3.connect(trials, uri=True)) as file,
        ):
            [count] = file.execute(query, (f"{PROJECT}/runs",)).fetchone()
            return bool(count >= runs)
        return False


def environment(**changes: str | Path) -> dict[str, str]:
    """This process's environment, where no setting of a developer's own is left."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("LRPILOT")}
    return clean | {key: str(value) for key, value in changes.items()}


TESTS = Path(__file__).parents[1]
SCRIPTS = TESTS / "support" / "scripts"


def script(
    name: str,
    *arguments: str | Path,
    python: tuple[str, ...] = (),
    env: dict[str, str] | None = None,
    **options: Any,
) -> "subprocess.Popen[str]":
    """Start a trainer of `support/scripts` as a process of its own."""
    search = str(TESTS)
    if known := os.environ.get("PYTHONPATH"):
        search += os.pathsep + known
    command = [sys.executable, *python, str(SCRIPTS / name), *map(str, arguments)]
    env = (env or environment()) | {"PYTHONPATH": search}
    return subprocess.Popen(command, env=env, text=True, **options)
