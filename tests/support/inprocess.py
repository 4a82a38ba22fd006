"""The real session service on a journal in memory, without a socket: bytes in, answers out."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

import grpc

from lrpilot_controller.config import Config
from lrpilot_controller.core.events import PriorAnswered
from lrpilot_controller.core.model import Attempt
from lrpilot_controller.journal import MemoryJournal, RunKey
from lrpilot_controller.journal.writer import JournalWriter
from lrpilot_controller.server.identity import LOCAL, current
from lrpilot_controller.server.limits import Door, ServerLimits
from lrpilot_controller.server.pace import FlushPace
from lrpilot_controller.server.runs import Runs
from lrpilot_controller.server.sessions import SessionServicer
from lrpilot_proto.v1 import session_pb2

LIMITS = ServerLimits(new_sessions_per_minute=10**9, samples_per_second=10**9)

Hear = Callable[[session_pb2.ControllerMessage], None]


class Aborted(Exception):
    """How a call ends that the service refuses."""


class Context:
    """What a call's context does for the service."""

    def __init__(self, hear: Hear | None) -> None:
        self.hello = session_pb2.Hello()  # what the session began with, if it did
        self._hear = hear
        self.heard: list[session_pb2.ControllerMessage] = []
        self.code, self.words = "OK", ""

    async def write(self, message: session_pb2.ControllerMessage) -> None:
        copy = session_pb2.ControllerMessage.FromString(message.SerializeToString())
        self.heard.append(copy)
        if self._hear is not None:
            self._hear(copy)

    async def abort(self, code: grpc.StatusCode, words: str) -> None:
        self.code, self.words = code.name, words
        raise Aborted


class Writer(JournalWriter):
    """Writes at once, without the pause between two transactions."""

    def _next(self) -> Any:
        self._due = 0.0
        return super()._next()


class Priors:
    """Remembers one LR of every job."""

    deadline_s = 1.0

    def ask(self, run: RunKey, attempt: Attempt) -> "Future[PriorAnswered]":
        done: Future[PriorAnswered] = Future()
        done.set_result(PriorAnswered(attempt.id, 0.05 if attempt.job else None, "as told"))
        return done


class House:
    """A daemon's session service and what its journal holds."""

    def __init__(self) -> None:
        self.journal = MemoryJournal()
        self._writer = Writer(self.journal)
        self.restart()

    def close(self) -> None:
        """End the writer's thread."""
        self._writer.close()

    def restart(self) -> None:
        """Another daemon on the same journal."""
        runs = Runs(self.journal, self._writer, Config(), Priors())
        self.service = SessionServicer(runs, Door(LIMITS), FlushPace())

    async def hold(self, messages: Iterable[bytes], hear: Hear | None = None) -> Context:
        """Hold one session with these messages, to its end.

        Whatever the service raises but does not turn into a refusal is raised here.
        """
        context = Context(hear)
        current.set(LOCAL)
        with suppress(Aborted):
            await self.service.Session(_requests(messages, context), context)  # type: ignore[arg-type]
        return context


async def _requests(
    messages: Iterable[bytes], context: Context
) -> AsyncIterator[session_pb2.TrainerMessage]:
    for i, raw in enumerate(messages):
        for _ in range(3):
            await asyncio.sleep(0)  # let the answer to the last one be written
        message = session_pb2.TrainerMessage.FromString(raw)
        if not i:
            context.hello = message.hello
        yield message
