"""The real daemon, in which what a file says goes wrong. Arguments: the file, those of `lrpilot`.

The file holds one JSON object, read anew when it changes:
    kill: [point, k]      SIGKILL at the k-th time from now on that it comes to this point
    clock: seconds        the wall clock is that far off
    slow: seconds         each commit takes so much longer
    flaky: [share, seed]  so many of the commits fail, as drawn from the seed
    readonly: true        the database says that it is read-only
    sampler: raises|hangs what proposes factors does that
"""

import functools
import json
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import event

import support.preloaded  # noqa: F401
from lrpilot_controller import cli
from lrpilot_controller.core.events import Decided, ProgramEnded, ReceiptArrived, SessionOpened
from lrpilot_controller.core.telemetry import Samples
from lrpilot_controller.errors import JournalUnavailable
from lrpilot_controller.journal.commits import Commits
from lrpilot_controller.journal.sql import SqlJournal
from lrpilot_controller.journal.sqlite import SqliteFile
from lrpilot_controller.server import runs
from lrpilot_controller.server.runs import Runs
from lrpilot_controller.tuning import advisor

EVENTS = {
    "samples": Samples,
    "decision": Decided,
    "receipt": ReceiptArrived,
    "result": ProgramEnded,
    "session": SessionOpened,
}
_clock = time.time


class Conditions:
    """What the file says, and how far it has come since it said so."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._text = ""
        self._count = 0
        self._lock = threading.Lock()
        self._said: dict[str, Any] = {}
        self.chance = random.Random()
        self.read()
        threading.Thread(target=self._watch, daemon=True).start()

    def __getitem__(self, name: str) -> Any:
        return self._said.get(name)

    def read(self) -> None:
        """Read the file, and say in one beside it what was read."""
        text = self._path.read_text()
        if text == self._text:
            return
        with self._lock:
            self._text, self._said, self._count = text, json.loads(text), 0
            if flaky := self["flaky"]:
                self.chance.seed(flaky[1])
        self._path.with_suffix(f".{os.getpid()}").write_text(text)

    def reached(self, point: str) -> None:
        """Die here if it is the place and the time for it."""
        with self._lock:
            where, when = self["kill"] or (None, 0)
            self._count += where == point
            if where == point and self._count >= when:
                os.kill(os.getpid(), signal.SIGKILL)

    def _watch(self) -> None:
        while True:
            time.sleep(0.01)
            self.read()


def break_it(conditions: Conditions) -> None:
    """Patch what the conditions are about."""
    time.time = lambda: _clock() + (conditions["clock"] or 0.0)
    _break_journal(conditions)
    _break_database(conditions)
    _break_sampler(conditions)
    Runs.take = _around(  # type: ignore[method-assign]
        Runs.take, lambda _self, _run, _link, taken: _reach(conditions, "arrived", [taken])
    )
    runs.load = _around(runs.load, lambda *_: conditions.reached("replaying"))
    Commits.next = _around(  # type: ignore[method-assign]
        Commits.next, lambda *_: conditions.reached("within a transaction")
    )


def _reach(conditions: Conditions, how: str, events: Sequence[Any]) -> None:
    """Points are named `arrived`, `journaling` or `journaled`, and what: `journaled decision`."""
    for name, kind in EVENTS.items():
        if any(isinstance(one, kind) for one in events):
            conditions.reached(f"{how} {name}")


def _around(real: Callable[..., Any], before: Callable[..., None]) -> Callable[..., Any]:
    @functools.wraps(real)
    def patched(*args: Any, **options: Any) -> Any:
        before(*args)
        return real(*args, **options)

    return patched


def _break_journal(conditions: Conditions) -> None:
    real = SqlJournal.append

    def append(journal: SqlJournal, entries: Sequence[Any]) -> list[int]:
        events = [one for _, _, one in entries]
        _reach(conditions, "journaling", events)
        time.sleep(conditions["slow"] or 0.0)
        if (flaky := conditions["flaky"]) and conditions.chance.random() < flaky[0]:
            raise JournalUnavailable("the test says that the disk failed")
        numbers = real(journal, entries)
        _reach(conditions, "journaled", events)
        return numbers

    SqlJournal.append = append  # type: ignore[method-assign]


def _break_database(conditions: Conditions) -> None:
    real = SqliteFile.connect

    def connect(*args: Any, **options: Any) -> Any:
        lines = real(*args, **options)

        @event.listens_for(lines.reader, "checkout")
        def obey(connection: Any, *_: object) -> None:
            connection.execute(f"PRAGMA query_only={int(bool(conditions['readonly']))}")

        return lines

    SqliteFile.connect = connect  # type: ignore[method-assign]


def _break_sampler(conditions: Conditions) -> None:
    real = advisor.propose

    def propose(*args: Any) -> float:
        while conditions["sampler"] == "hangs":
            time.sleep(0.05)
        if conditions["sampler"] == "raises":
            raise ZeroDivisionError("the test says that the sampler has a bug")
        return real(*args)

    advisor.propose = propose


def main(conditions: str, *arguments: str) -> None:
    """Be `lrpilot` with these arguments."""
    break_it(Conditions(Path(conditions)))
    sys.argv[1:] = arguments
    cli.main()
