"""A daemon's runs on a journal on disk, without its server, in the place of an engine."""

import asyncio
import time
from collections.abc import Container, Coroutine, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lrpilot_controller.config import Config
from lrpilot_controller.core.events import (
    Commanded,
    Input,
    Output,
    PriorAnswered,
    SessionLost,
    SessionOpened,
)
from lrpilot_controller.core.findings import Reach
from lrpilot_controller.core.model import Attempt, Decision, Signal
from lrpilot_controller.errors import LRPilotError
from lrpilot_controller.journal import JournalWriter, Record, RunKey, SqlJournal
from lrpilot_controller.server.live import LiveRun
from lrpilot_controller.server.runs import Runs
from lrpilot_controller.server.upkeep import mark_lost


class NoLink:
    """A session whose trainer is told by `Journaled.feed`."""

    def decide(self, decision: Decision) -> None:
        pass

    def prove(self, snapshot: int) -> None:
        pass

    def see(self, signal: Signal) -> None:
        pass

    def end(self, error: LRPilotError) -> None:
        pass


@dataclass
class _Priors:
    """What earlier runs found, where their programs came far."""

    lr: float | None
    deadline_s: float = 1.0

    def ask(self, run: RunKey, attempt: Attempt) -> "Future[PriorAnswered]":
        answer: Future[PriorAnswered] = Future()
        came = () if self.lr is None else (Reach(self.lr, 40, 0.0, 1.0, 1.0),)
        answer.set_result(PriorAnswered(attempt.id, self.lr, "an earlier run", came))
        return answer


class NoPriors(_Priors):
    """No earlier run found anything."""

    def __init__(self) -> None:
        super().__init__(None)


class Journaled:
    """Takes inputs as an engine does, and records them and what follows from them.

    Args:
        storage: the daemon's directory; one run is in it.
        prior: the LR that an earlier run found.
        deaths: the numbers of the inputs, from 1, right after whose recording the daemon dies:
            another one takes over, and the trainer opens its session anew.
    """

    key = RunKey("demo", "run")

    def __init__(
        self, storage: Path, prior: float | None = None, deaths: Container[int] = ()
    ) -> None:
        self.storage, self.prior, self.deaths = storage, prior, deaths
        self._made: list[Output] = []
        self._attempt: Attempt | None = None
        self._fed = 0
        self._loop = asyncio.new_event_loop()
        self._begin()

    def _begin(self) -> None:
        self._journal = SqlJournal.open(self.storage / "journal.db")
        self._writer = JournalWriter(self._journal)
        self._runs = Runs(self._journal, self._writer, Config(), _Priors(self.prior))
        self._runs.listeners.append(self._heard)
        self._run: LiveRun | None = None
        self._link = NoLink()
        self._wait(mark_lost(self._journal, self._writer))

    def feed(self, event: Input) -> list[Output]:
        """Record an input; the outputs that were recorded after it."""
        self._made = []
        self._fed += 1
        if isinstance(event, SessionOpened):
            self._attempt = event.attempt
        if self._fed in self.deaths:
            self._journal.append([(self.key, time.time(), event)])
            self._end()
            self._begin()
            assert self._attempt is not None
            event = SessionOpened(self._attempt)
        self._wait(self._take(event))
        return self._made

    async def _take(self, event: Input) -> None:
        if isinstance(event, SessionOpened):
            self._link = NoLink()
            self._run = await self._runs.open(self.key, event.attempt, self._link)
            return
        assert self._run is not None
        match event:
            case SessionLost():
                await self._runs.close(self._run, self._link)
            case Commanded():
                await self._runs.command(self.key, event)
            case _:
                await self._runs.take(self._run, self._link, event)  # type: ignore[arg-type]

    def close(self) -> None:
        """The daemon ends."""
        self._end()
        self._loop.close()

    def _end(self) -> None:
        self._writer.close()
        self._journal.close()

    def _heard(self, key: RunKey, records: Sequence[Record]) -> None:
        self._made += [r.event for r in records if isinstance(r.event, Output)]

    def _wait(self, work: Coroutine[Any, Any, None]) -> None:
        self._loop.run_until_complete(work)
