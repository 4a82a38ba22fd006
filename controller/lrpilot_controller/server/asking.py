"""Questions of the engines, put to earlier interventions while training goes on.

No decision waits here: a question is asked long before the signal that it is about, and its answer
is recorded when it comes, as an input like any other.
"""

import asyncio
import logging
from collections.abc import Sequence
from concurrent.futures import Future
from functools import partial
from typing import Protocol

from lrpilot_controller.core.events import (
    Answered,
    Asked,
    SaidGoodbye,
    SessionLost,
    SessionOpened,
)
from lrpilot_controller.core.model import Attempt, Question
from lrpilot_controller.errors import LRPilotError
from lrpilot_controller.journal.base import Record, RunKey
from lrpilot_controller.server.runs import Runs

log = logging.getLogger(__name__)

_Name = tuple[RunKey, str, int]  # a question's: its run, attempt and id

DEADLINE_S = 10.0
"""Longer than Optuna needs to load; a sampler that takes longer hangs."""


class Advisor(Protocol):
    """Remembers what interventions did. Called by the event loop."""

    def advise(self, run: RunKey, attempt: Attempt, question: Question) -> "Future[Answered]":
        """What earlier interventions of the project say to a question.

        Returns at once; the future may fail, and may be cancelled.
        """
        ...


class Asking:
    """Puts the open questions of runs with a session to an advisor.

    Args:
        advisor: answers them.
        runs: whose questions they are.
    """

    def __init__(self, advisor: Advisor, runs: Runs) -> None:
        self._advisor = advisor
        self._runs = runs
        self._under_way: dict[_Name, asyncio.Task[None]] = {}

    def record(self, run: RunKey, records: Sequence[Record]) -> None:
        """These records were journaled: asks what is open now, or no more. Returns at once."""
        events = [record.event for record in records]
        if any(isinstance(event, SessionLost | SaidGoodbye) for event in events):
            for name in [name for name in self._under_way if name[0] == run]:
                self._under_way.pop(name).cancel()
        if any(isinstance(event, Asked | SessionOpened) for event in events):
            # Its engine is fed after this.
            asyncio.get_running_loop().call_soon(self._ask, run)

    def _ask(self, key: RunKey) -> None:
        attempt, questions = self._runs.questions(key)
        if attempt is None:
            return
        for question in questions:
            name = key, attempt.id, question.id
            if name not in self._under_way:
                task = asyncio.create_task(self._one(key, attempt, question))
                self._under_way[name] = task
                task.add_done_callback(partial(self._done, name))

    def _done(self, name: "_Name", task: "asyncio.Task[None]") -> None:
        if self._under_way.get(name) is task:
            del self._under_way[name]

    async def _one(self, key: RunKey, attempt: Attempt, question: Question) -> None:
        try:
            answer = await self._answer(key, attempt, question)
            await self._runs.answer(key, answer)
        except LRPilotError as error:
            log.info("run %s: question %d is not answered: %s", key, question.id, error)

    async def _answer(self, key: RunKey, attempt: Attempt, question: Question) -> Answered:
        try:
            future = asyncio.wrap_future(self._advisor.advise(key, attempt, question))
            return await asyncio.wait_for(future, DEADLINE_S)
        except TimeoutError:
            reason = f"it did not come within {DEADLINE_S:g} s"
        except Exception as error:
            # Whatever is wrong with the memory of earlier interventions, the rule decides.
            reason = str(error) or type(error).__name__
        return Answered(attempt.id, question.id, None, f"no answer: {reason}")
