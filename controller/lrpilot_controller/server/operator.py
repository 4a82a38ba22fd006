"""The Operator service: what people and scripts ask of the daemon.

A run's story is folded from the journal, off the event loop; this version tells, and does not
take commands yet (the base class answers those UNIMPLEMENTED).
"""

import asyncio

import grpc

from lrpilot_controller.errors import LRPilotError
from lrpilot_controller.journal.base import Journal
from lrpilot_controller.server import tell_wire
from lrpilot_controller.server.codes import code_of
from lrpilot_controller.story import stories, story_of
from lrpilot_proto.v1 import operator_pb2, operator_pb2_grpc


class OperatorServicer(operator_pb2_grpc.OperatorServiceServicer):
    """Answers from the journal."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    async def ListRuns(
        self,
        request: operator_pb2.ListRunsRequest,
        context: grpc.aio.ServicerContext[
            operator_pb2.ListRunsRequest, operator_pb2.ListRunsResponse
        ],
    ) -> operator_pb2.ListRunsResponse:
        """Every run's summary."""
        try:
            told = await asyncio.to_thread(stories, self._journal, request.project)
        except LRPilotError as error:
            await context.abort(code_of(error), str(error))
        return operator_pb2.ListRunsResponse(runs=[tell_wire.summary_to(story) for story in told])

    async def ShowRun(
        self,
        request: operator_pb2.ShowRunRequest,
        context: grpc.aio.ServicerContext[operator_pb2.ShowRunRequest, operator_pb2.RunStory],
    ) -> operator_pb2.RunStory:
        """One run's story."""
        try:
            story = await asyncio.to_thread(story_of, self._journal, request.run)
        except LRPilotError as error:
            await context.abort(code_of(error), str(error))
        return tell_wire.story_to(story)
