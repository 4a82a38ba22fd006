"""The Session service: lets sessions in, counts them, and tells a trainer why one was refused."""

import asyncio
import logging
from collections.abc import AsyncIterator

import grpc
from google.protobuf.message import DecodeError

from lrpilot_controller.errors import LRPilotError, Stopping
from lrpilot_controller.server.codes import code_of, words_of
from lrpilot_controller.server.identity import current
from lrpilot_controller.server.limits import Door
from lrpilot_controller.server.pace import FlushPace
from lrpilot_controller.server.runs import Runs
from lrpilot_controller.server.seldom import Seldom
from lrpilot_controller.server.session import Context, TrainerSession
from lrpilot_proto.v1 import session_pb2, session_pb2_grpc

log = logging.getLogger(__name__)


class SessionServicer(session_pb2_grpc.SessionServiceServicer):
    """Serves trainers.

    `active` counts open sessions and `opened` all so far; `idle` is set while none is open.
    """

    def __init__(self, runs: Runs, door: Door, pace: FlushPace) -> None:
        self._runs = runs
        self._door = door
        self._pace = pace
        self._refusals = Seldom(log)
        self.active = 0
        self.opened = 0
        self.idle = asyncio.Event()
        self.idle.set()
        self._sessions: set[TrainerSession] = set()
        self._stopping = False

    async def Session(
        self, request_iterator: AsyncIterator[session_pb2.TrainerMessage], context: Context
    ) -> None:
        """Carry one session to its end."""
        if refusal := await self._refusal(request_iterator, context):
            # Not where the session and its error are at hand: gRPC keeps the frames of an aborted
            # call until a full garbage collection, and all that they hold.
            await context.abort(*refusal)

    async def _refusal(
        self, requests: AsyncIterator[session_pb2.TrainerMessage], context: Context
    ) -> tuple[grpc.StatusCode, str] | None:
        """Carry one session to its end; why it was refused, if it was."""
        who, name = current.get(), "?"
        try:
            with self._door.session(who) as meter:
                session = TrainerSession(self._runs, context, meter, self._pace)
                try:
                    await self._carry(session, requests)
                finally:
                    name = session.name
        except (LRPilotError, DecodeError) as error:
            code, words = code_of(error), words_of(error)
            self._runs.tally.sessions_refused[code.name] += 1
            text = f"session of {name} ({who.name}) refused: {words}"
            self._refusals.info(f"{who.name} {code}", text)
            error.__traceback__ = None  # its frames hold the session's tasks, and these hold it
            return code, words
        except grpc.aio.InternalError:
            return None  # gRPC could not write: the peer is gone, and nobody is left to be told
        except Exception as error:
            text = f"session of {name} ({who.name}) failed"
            self._refusals.error(f"{who.name} {type(error).__name__}", text, error)
            self._runs.tally.sessions_refused["INTERNAL"] += 1
            error.__traceback__ = None
            words = f"a fault of the daemon ({type(error).__name__}); its log says where"
            return grpc.StatusCode.INTERNAL, words
        return None

    async def _carry(
        self, session: TrainerSession, requests: AsyncIterator[session_pb2.TrainerMessage]
    ) -> None:
        self.active += 1
        self.opened += 1
        self._pace.sessions = self.active
        self._pace.opened()
        self.idle.clear()
        self._sessions.add(session)
        if self._stopping:  # gRPC had let it in before
            session.end(Stopping("the daemon is stopping"))
        try:
            await session.serve(requests)
        finally:
            self._sessions.discard(session)
            self.active -= 1
            self._pace.sessions = self.active
            if not self.active:
                self.idle.set()

    def end(self) -> None:
        """End every session, with the same words to each trainer, and each that still comes."""
        self._stopping = True
        for session in self._sessions:
            session.end(Stopping("the daemon is stopping"))
