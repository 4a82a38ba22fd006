"""The gate: every call passes it, on every address, or is refused with what to do.

Whoever opens the daemon's own unix socket is its owner. All others show a token; what its role
may call is one table, and a call that is not in the table is refused to everybody.
"""

import asyncio
import inspect
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, NoReturn

import grpc

from lrpilot_controller.server.access.tokens import Entry, Tokens
from lrpilot_controller.server.identity import LOCAL, Identity, Role, current
from lrpilot_controller.server.seldom import Seldom
from lrpilot_proto.access import HEADER, SCHEME

log = logging.getLogger(__name__)

_TRAIN = frozenset({Role.TRAINER, Role.LOCAL})
_LOOK = frozenset({Role.VIEWER, Role.OPERATOR, Role.LOCAL})
_ASK = frozenset({Role.OPERATOR, Role.LOCAL})
RIGHTS: dict[str, frozenset[Role]] = {
    "/lrpilot.v1.SessionService/Session": _TRAIN,
    "/lrpilot.v1.OperatorService/ListRuns": _LOOK,
    "/lrpilot.v1.OperatorService/ShowRun": _LOOK,
    "/lrpilot.v1.OperatorService/WatchRun": _LOOK,
    "/lrpilot.v1.OperatorService/WatchRuns": _LOOK,
    "/lrpilot.v1.OperatorService/Status": _LOOK,
    "/lrpilot.v1.OperatorService/Freeze": _ASK,
    "/lrpilot.v1.OperatorService/Release": _ASK,
    "/lrpilot.v1.OperatorService/SetLr": _ASK,
    "/lrpilot.v1.OperatorService/Approve": _ASK,
    "/lrpilot.v1.OperatorService/Search": _ASK,
    "/lrpilot.v1.OperatorService/Stop": _ASK,
    "/lrpilot.v1.OperatorService/Judge": _ASK,
}
"""Which roles may call what; of which projects, the services ask of `identity.current`."""

CHECK_S = 1.0

Context = grpc.aio.ServicerContext[Any, Any]
_HANDLERS = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}


@dataclass(frozen=True, slots=True)
class Refusal:
    """The answer to a call that may not be made."""

    code: grpc.StatusCode
    words: str


@dataclass(frozen=True, slots=True, eq=False)
class Guest:
    """A stream that is open, and on what grounds.

    Attributes:
        leave: is set when it must end.
    """

    entry: Entry
    leave: "asyncio.Future[Refusal]"


class Gate(grpc.aio.ServerInterceptor):
    """Lets in whom it knows, and ends the streams of those whose rights were taken back.

    Args:
        tokens: None: there is no TCP address, so that nobody needs one.
    """

    def __init__(self, tokens: Tokens | None) -> None:
        self._tokens = tokens
        self._guests: set[Guest] = set()
        self._refusals = Seldom(log)

    async def watch(self) -> None:
        """End, within seconds, what a changed token file or the time no longer allows."""
        while self._tokens is not None:
            await asyncio.sleep(CHECK_S)
            await asyncio.to_thread(self._tokens.refresh)
            for guest in self._guests:
                refusal = _changed(guest.entry, self._tokens.by_hash(guest.entry.sha256))
                if refusal is not None and not guest.leave.done():
                    guest.leave.set_result(refusal)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """The method's handler behind the gate; None, which is UNIMPLEMENTED, where it has none."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        method: str = handler_call_details.method
        streams = (handler.request_streaming, handler.response_streaming)
        inner = (
            handler.unary_unary
            or handler.unary_stream
            or handler.stream_unary
            or handler.stream_stream
        )

        async def one(request: Any, context: Context) -> Any:
            await self._admit(method, context)
            return await inner(request, context)

        async def many(request: Any, context: Context) -> None:
            entry = await self._admit(method, context)
            if entry is None:
                await _carry(inner, request, context)
            else:
                await self._host(entry, method, _carry(inner, request, context), context)

        return _HANDLERS[streams](
            many if handler.response_streaming else one,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )

    async def _admit(self, method: str, context: Context) -> Entry | None:
        """Set who asks, or abort; the entry of their token, None for the owner."""
        if context.peer().startswith("unix:"):
            entry, identity = None, LOCAL
        else:
            found = self._identify(context)
            if isinstance(found, Refusal):
                await self._refuse(method, context, found)
            entry, identity = found, found.identity
        if (refusal := _judge(method, identity)) is not None:
            await self._refuse(method, context, refusal)
        current.set(identity)
        return entry

    def _identify(self, context: Context) -> Entry | Refusal:
        shown = [value for key, value in context.invocation_metadata() or () if key == HEADER]
        if len(shown) != 1 or not isinstance(shown[0], str) or not shown[0].startswith(SCHEME):
            return _unknown(
                "no token was shown: pass token=... or set LRPILOT_TOKEN; "
                "`lrpilot token create` on this host makes one"
            )
        entry = self._tokens.find(shown[0].removeprefix(SCHEME)) if self._tokens else None
        if entry is None:
            return _unknown(_GONE)
        return _changed(entry, entry) or entry

    async def _refuse(self, method: str, context: Context, refusal: Refusal) -> NoReturn:
        name = method.rpartition("/")[2]
        host = context.peer().rpartition(":")[0]  # a port is new with each connection
        text = f"refused {name} to {host}: {refusal.words}"
        self._refusals.info(text, text)
        await context.abort(refusal.code, refusal.words)
        raise AssertionError("unreachable: abort raises")

    async def _host(
        self, entry: Entry, method: str, work: Awaitable[None], context: Context
    ) -> None:
        """Carry a stream to its end, or until its token is no longer good for it."""
        with self._staying(entry) as guest:
            carried = asyncio.ensure_future(work)
            either: list[asyncio.Future[Any]] = [carried, guest.leave]
            try:
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
                ended = carried.done()
            finally:
                carried.cancel()
                await asyncio.wait([carried])
                # Where this call was cut off itself, nobody else hears of how the work ended.
                with suppress(asyncio.CancelledError):
                    carried.exception()
            if ended:
                carried.result()
            else:
                await self._refuse(method, context, guest.leave.result())

    @contextmanager
    def _staying(self, entry: Entry) -> Iterator[Guest]:
        guest = Guest(entry, asyncio.get_running_loop().create_future())
        self._guests.add(guest)
        try:
            yield guest
        finally:
            self._guests.discard(guest)


_GONE = (
    "the token is not known here: it was revoked, or it is another daemon's; "
    "`lrpilot token list` on this host shows which there are"
)


def _unknown(words: str) -> Refusal:
    return Refusal(grpc.StatusCode.UNAUTHENTICATED, words)


def _judge(method: str, identity: Identity) -> Refusal | None:
    """Whether a role may call a method."""
    allowed = RIGHTS.get(method, frozenset())
    if identity.role in allowed:
        return None
    name = method.rpartition("/")[2]
    needed = " or ".join(sorted(allowed - {Role.LOCAL})) or "a role that does not exist"
    return Refusal(
        grpc.StatusCode.PERMISSION_DENIED,
        f"{name} needs a token of role {needed}; {identity.name!r} has role {identity.role}",
    )


def _changed(entry: Entry, now: Entry | None) -> Refusal | None:
    """Why a token that was `entry` is no longer good for what it was good for."""
    if now is None:
        return _unknown(_GONE)
    if now.expired(time.time()):
        return _unknown(
            f"the token {now.name!r} has expired: `lrpilot token rotate {now.name}` on this host "
            "makes a new one"
        )
    if now.identity != entry.identity:
        # Asked again, the client is judged by what it may do now.
        return Refusal(grpc.StatusCode.UNAVAILABLE, f"the rights of token {now.name!r} changed")
    return None


async def _carry(inner: Callable[..., Any], request: Any, context: Context) -> None:
    """Run a handler that answers with a stream, in either of the two ways that gRPC knows."""
    if inspect.isasyncgenfunction(inner):
        async with aclosing(inner(request, context)) as answers:
            async for answer in answers:
                await context.write(answer)
    else:
        await inner(request, context)
