"""The Operator service: what people and scripts ask of the daemon.

A run's story is folded from the journal, off the event loop, and only from the projects of who asks
(`identity.current`, which the gate has set). A command that this version does not know is answered
UNIMPLEMENTED by the base class.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

import grpc

from lrpilot_controller.core.events import Commanded
from lrpilot_controller.errors import LRPilotError
from lrpilot_controller.journal.base import Journal, Reader, RunKey
from lrpilot_controller.server import tell_wire
from lrpilot_controller.server.access.visible import Visible
from lrpilot_controller.server.codes import code_of, words_of
from lrpilot_controller.server.identity import Role, current
from lrpilot_controller.server.runs import Runs
from lrpilot_controller.server.verdicts import MAX_TEXT, find_decision, verdict_on, verdict_told
from lrpilot_controller.server.watching import Watching
from lrpilot_controller.story import find_run, story_of, summaries
from lrpilot_proto.v1 import operator_pb2, operator_pb2_grpc


def signed(claimed: str) -> str:
    """Who asks: the owner is whoever they say they are; a token's name is beyond its holder."""
    identity, claimed = current.get(), claimed[:MAX_TEXT]
    if identity.role is Role.LOCAL:
        return claimed
    return f"{identity.name} (says {claimed})" if claimed else identity.name


class OperatorServicer(operator_pb2_grpc.OperatorServiceServicer):
    """Answers from the journal, and takes commands to the runs."""

    def __init__(
        self,
        journal: Journal,
        runs: Runs,
        watching: Watching,
        status: Callable[[], operator_pb2.DaemonStatus],
    ) -> None:
        self._journal = journal
        self._runs = runs
        self._watching = watching
        self._status = status

    @property
    def _visible(self) -> Reader:
        """The journal, for who asks."""
        return Visible(self._journal, current.get())

    async def ListRuns(
        self,
        request: operator_pb2.ListRunsRequest,
        context: grpc.aio.ServicerContext[
            operator_pb2.ListRunsRequest, operator_pb2.ListRunsResponse
        ],
    ) -> operator_pb2.ListRunsResponse:
        """Every run's summary."""
        try:
            told = await asyncio.to_thread(summaries, self._visible, request.project)
        except LRPilotError as error:
            await context.abort(code_of(error), words_of(error))
        return operator_pb2.ListRunsResponse(runs=[tell_wire.summary_to(story) for story in told])

    async def ShowRun(
        self,
        request: operator_pb2.ShowRunRequest,
        context: grpc.aio.ServicerContext[operator_pb2.ShowRunRequest, operator_pb2.RunStory],
    ) -> operator_pb2.RunStory:
        """One run's story."""
        try:
            story = await asyncio.to_thread(story_of, self._visible, request.run)
        except LRPilotError as error:
            await context.abort(code_of(error), words_of(error))
        return tell_wire.story_to(story)

    async def WatchRun(
        self,
        request: operator_pb2.WatchRunRequest,
        context: grpc.aio.ServicerContext[operator_pb2.WatchRunRequest, operator_pb2.RunStory],
    ) -> AsyncIterator[operator_pb2.RunStory]:
        """One run's story, now and after each change."""
        try:
            key = await asyncio.to_thread(find_run, self._visible, request.run)
            async with aclosing(self._watching.run(key)) as told:
                async for story in told:
                    yield story
        except LRPilotError as error:
            await context.abort(code_of(error), words_of(error))

    async def WatchRuns(
        self,
        request: operator_pb2.ListRunsRequest,
        context: grpc.aio.ServicerContext[
            operator_pb2.ListRunsRequest, operator_pb2.ListRunsResponse
        ],
    ) -> AsyncIterator[operator_pb2.ListRunsResponse]:
        """Every run's summary, then those that changed."""

        asks = current.get()

        def wanted(run: RunKey) -> bool:
            return request.project in ("", run.project) and asks.may_see(run.project)

        try:
            async with aclosing(self._watching.all(wanted)) as lists:
                async for runs in lists:
                    yield runs
        except LRPilotError as error:
            await context.abort(code_of(error), words_of(error))

    async def Status(
        self,
        request: operator_pb2.StatusRequest,
        context: grpc.aio.ServicerContext[operator_pb2.StatusRequest, operator_pb2.DaemonStatus],
    ) -> operator_pb2.DaemonStatus:
        """The daemon, as it stands."""
        return self._status()

    async def Search(
        self,
        request: operator_pb2.OperatorCommand,
        context: grpc.aio.ServicerContext[operator_pb2.OperatorCommand, operator_pb2.CommandResult],
    ) -> operator_pb2.CommandResult:
        """Begin a search in a run that is training now."""
        return await self._command("search", request, context)

    async def Freeze(
        self,
        request: operator_pb2.OperatorCommand,
        context: grpc.aio.ServicerContext[operator_pb2.OperatorCommand, operator_pb2.CommandResult],
    ) -> operator_pb2.CommandResult:
        """Decide nothing for a run."""
        return await self._command("freeze", request, context)

    async def Release(
        self,
        request: operator_pb2.OperatorCommand,
        context: grpc.aio.ServicerContext[operator_pb2.OperatorCommand, operator_pb2.CommandResult],
    ) -> operator_pb2.CommandResult:
        """Lift a freeze, and lead back to the native LR."""
        return await self._command("release", request, context)

    async def Stop(
        self,
        request: operator_pb2.OperatorCommand,
        context: grpc.aio.ServicerContext[operator_pb2.OperatorCommand, operator_pb2.CommandResult],
    ) -> operator_pb2.CommandResult:
        """Ask a training loop to end."""
        return await self._command("stop", request, context)

    async def SetLr(
        self,
        request: operator_pb2.SetLrRequest,
        context: grpc.aio.ServicerContext[operator_pb2.SetLrRequest, operator_pb2.CommandResult],
    ) -> operator_pb2.CommandResult:
        """Set a run's LR."""
        return await self._command("set_lr", request.command, context, lr=request.lr)

    async def Approve(
        self,
        request: operator_pb2.ApproveRequest,
        context: grpc.aio.ServicerContext[operator_pb2.ApproveRequest, operator_pb2.CommandResult],
    ) -> operator_pb2.CommandResult:
        """Send a decision that waits."""
        decision = request.decision_id
        return await self._command("approve", request.command, context, decision_id=decision)

    async def Judge(
        self,
        request: operator_pb2.JudgeRequest,
        context: grpc.aio.ServicerContext[operator_pb2.JudgeRequest, operator_pb2.CommandResult],
    ) -> operator_pb2.CommandResult:
        """Record what a person thinks of a decision."""
        asked, number = request.command, request.decision_id
        try:
            key = await asyncio.to_thread(find_run, self._visible, asked.run)
            await asyncio.to_thread(find_decision, self._visible, key, number)
            command = verdict_on(number, request.good, signed(asked.who), asked.why)
            await self._runs.judge(key, command)
        except LRPilotError as error:
            await context.abort(code_of(error), words_of(error))
        return operator_pb2.CommandResult(message=verdict_told(key, command))

    async def _command(
        self,
        kind: str,
        asked: operator_pb2.OperatorCommand,
        context: grpc.aio.ServicerContext[Any, operator_pb2.CommandResult],
        **more: Any,
    ) -> operator_pb2.CommandResult:
        try:
            key = await asyncio.to_thread(find_run, self._visible, asked.run)
            command = Commanded(kind, signed(asked.who), asked.why[:MAX_TEXT], **more)
            message = await self._runs.command(key, command)
        except LRPilotError as error:
            await context.abort(code_of(error), words_of(error))
        return operator_pb2.CommandResult(message=message)
