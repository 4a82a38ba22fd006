"""Counts the calls of operators, whatever they ask for."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc

from lrpilot_controller.errors import LimitReached
from lrpilot_controller.server.codes import code_of, words_of
from lrpilot_controller.server.identity import current
from lrpilot_controller.server.limits import Door

OPERATORS = "/lrpilot.v1.OperatorService/"


class Turnstile(grpc.aio.ServerInterceptor):
    """Refuses an operator's call that comes too soon after too many others.

    The last of the interceptors: what stands before it says who calls.
    """

    def __init__(self, door: Door) -> None:
        self._door = door

    async def intercept_service(
        self,
        continuation: Callable[[Any], Awaitable[Any]],
        details: grpc.HandlerCallDetails,
    ) -> Any:
        """The method's own handler, with a turnstile before it."""
        handler = await continuation(details)
        if handler is None or not details.method.startswith(OPERATORS):
            return handler
        if handler.unary_unary:
            return handler._replace(unary_unary=self._counted(handler.unary_unary))
        if handler.unary_stream:
            return handler._replace(unary_stream=self._counted_stream(handler.unary_stream))
        return handler

    def _counted(self, answer: Any) -> Any:
        async def counted(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            await self._pass(context)
            return await answer(request, context)

        return counted

    def _counted_stream(self, answer: Any) -> Any:
        async def counted(
            request: Any, context: grpc.aio.ServicerContext[Any, Any]
        ) -> AsyncIterator[Any]:
            await self._pass(context)
            async for message in answer(request, context):
                yield message

        return counted

    async def _pass(self, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        try:
            self._door.call(current.get())
        except LimitReached as error:
            await context.abort(code_of(error), words_of(error))
