"""One session: the stream of one attempt of a run.

What arrives is recorded, judged, and only then acknowledged; a decision is sent once it is
recorded. Messages of one session are handled in their order, one at a time.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from typing import Any

import grpc

from lrpilot_controller.core.model import Attempt, Decision, Signal
from lrpilot_controller.errors import (
    InvalidTelemetry,
    LimitReached,
    LRPilotError,
    NotAllowed,
)
from lrpilot_controller.journal.base import RunKey
from lrpilot_controller.server import convert
from lrpilot_controller.server.identity import current
from lrpilot_controller.server.limits import PATIENCE_S, Meter
from lrpilot_controller.server.live import LiveRun
from lrpilot_controller.server.order import Order
from lrpilot_controller.server.pace import FlushPace
from lrpilot_controller.server.runs import Runs
from lrpilot_controller.version import VERSION
from lrpilot_proto.v1 import session_pb2

Message = session_pb2.ControllerMessage
Context = grpc.aio.ServicerContext[session_pb2.TrainerMessage, session_pb2.ControllerMessage]
# A trainer says who it is with its first message; a connection that says nothing is let go.
HELLO_TIMEOUT_S = 30.0
# A trainer's flush is a few messages. A busy daemon acknowledges them together.
ACK_PATIENCE_S = 0.03
# A peer that reads nothing cannot be written to; its stream is cut after this time.
FAREWELL_S = 0.5
# What waits for a peer that does not read; with more, nothing is taken from it either.
MAX_WAITING = 64
# So many signals are told in so long; the journal has all of them.
MAX_SIGNALS, SIGNALS_S = 20, 60.0
LOOK_S = 0.05


class TrainerSession:
    """One stream; also the run's link back to the trainer."""

    def __init__(self, runs: Runs, context: Context, meter: Meter, pace: FlushPace) -> None:
        self._runs = runs
        self._context = context
        self._meter = meter
        self._pace = pace
        self._outbox: asyncio.Queue[Message | None] = asyncio.Queue()  # None: the end
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._run: LiveRun | None = None
        self._told = 0  # the newest decision that the trainer was sent
        self._seen: deque[float] = deque(maxlen=MAX_SIGNALS)  # when signals were sent
        self.name = "?"

    async def serve(self, requests: AsyncIterator[session_pb2.TrainerMessage]) -> None:
        """Read and write until either side ends.

        Raises:
            LRPilotError: the session is refused, or was taken over.
        """
        try:
            hello, attempt = await self._greet(requests)
        except BaseException:
            if self._run is not None:  # it was opened already
                await self._runs.close(self._run, self)
            raise
        assert self._run is not None
        reader = asyncio.create_task(self._read(requests, hello, attempt))
        writer = asyncio.create_task(self._write())
        try:
            done, _ = await asyncio.wait(
                [reader, writer, self._ended], return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                task.result()
        finally:
            reader.cancel()
            try:
                await self._runs.close(self._run, self)
                # gRPC could not end a stream whose last message was cancelled half-way.
                self._outbox.put_nowait(None)
                await asyncio.wait([writer], timeout=FAREWELL_S)
            finally:  # a daemon that stops cancels this, too
                self._ended.cancel()
                writer.cancel()
                await asyncio.gather(reader, writer, return_exceptions=True)

    def decide(self, decision: Decision) -> None:
        """Send a decision."""
        self._send(Message(decision=convert.decision_to(decision)))
        self._told = max(self._told, decision.id)

    def prove(self, snapshot: int) -> None:
        """Say that a snapshot is proven."""
        self._send(Message(proven=session_pb2.SnapshotProven(id=snapshot)))

    def see(self, signal: Signal) -> None:
        """Say what a detector saw; one that sees something everywhere is not listened to."""
        now = time.monotonic()
        if len(self._seen) < MAX_SIGNALS or now - self._seen[0] > SIGNALS_S:
            self._seen.append(now)
            self._send(Message(signal=convert.signal_to(signal)))

    def end(self, error: LRPilotError) -> None:
        """End the session with this error."""
        if not self._ended.done():
            self._ended.set_exception(error)
            self._ended.exception()  # seen: the session may be over by itself before it looks

    async def _first(
        self, requests: AsyncIterator[session_pb2.TrainerMessage]
    ) -> session_pb2.TrainerMessage:
        """The first message, unless the session is ended before."""
        first = asyncio.ensure_future(anext(aiter(requests)))
        try:
            either: list[asyncio.Future[Any]] = [first, self._ended]
            await asyncio.wait(either, timeout=HELLO_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
            if self._ended.done():
                self._ended.result()
            if not first.done():
                raise InvalidTelemetry(f"no Hello came within {HELLO_TIMEOUT_S:g} s")
            return first.result()
        except StopAsyncIteration:
            raise InvalidTelemetry("the stream ended before a Hello came") from None
        finally:
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)

    async def _greet(
        self, requests: AsyncIterator[session_pb2.TrainerMessage]
    ) -> tuple[session_pb2.Hello, Attempt]:
        first = await self._first(requests)
        if first.WhichOneof("body") != "hello":
            raise InvalidTelemetry("the first message of a session must be a Hello")
        hello = first.hello
        attempt = convert.attempt_from(hello)
        key = RunKey(hello.run.project, hello.run.name)
        if not (peer := current.get()).may_see(key.project):
            raise NotAllowed(
                f"the token {peer.name!r} is not for project {key.project!r}: use one that is "
                f"(`lrpilot token create NAME --role trainer --project {key.project}`)"
            )
        self.name = f"{key} attempt {attempt.id}"
        await self._runs.outgrow(key, hello.generation)
        self._run = await self._runs.open(key, attempt, self)
        self._told = hello.last_decision_id
        # What the trainer never saw is sent again; what it saw it answers with a receipt.
        welcome = session_pb2.Welcome(
            daemon_version=VERSION,
            mode=convert.mode_to(self._run.attempt.mode if self._run.attempt else attempt.mode),
            steps_known=self._run.next_seq - 1,
            searches=self._run.engine.will_search,
        )
        self._send(Message(welcome=welcome))
        view = self._run.engine.view
        if view is not None and view.snapshot is not None:
            self.prove(view.snapshot)  # it may have come out while nobody was there to be told
        for decision in self._run.unanswered.values():
            if decision.id > hello.last_decision_id:
                self.decide(decision)
        return hello, attempt

    async def _read(
        self,
        requests: AsyncIterator[session_pb2.TrainerMessage],
        hello: session_pb2.Hello,
        attempt: Attempt,
    ) -> None:
        run = self._run
        assert run is not None
        first_report = max(run.next_report, hello.oldest_report) if hello.oldest_report else None
        order = Order(max(run.next_seq, hello.oldest_seq), first_report)
        async for message in requests:
            began = time.perf_counter()
            match message.WhichOneof("body"):
                case "telemetry":
                    samples = convert.samples_from(message.telemetry, attempt)
                    order.check(samples)
                    await self._runs.take(run, self, samples)
                case "report":
                    report = convert.report_from(message.report, attempt)
                    order.check(report)
                    await self._runs.take(run, self, report)
                case "hello" if message.hello != hello:
                    raise InvalidTelemetry("a session has one Hello, its first message")
            self._send(Message())
            self._runs.tally.acks.add(time.perf_counter() - began)
            await self._hold_back(message)

    async def _hold_back(self, message: session_pb2.TrainerMessage) -> None:
        """Read no further than the peer may send, and than it reads: its stream then fills up.

        Raises:
            LimitReached: that went on for too long.
        """
        samples = len(message.telemetry.step) if message.HasField("telemetry") else 0
        if pause := self._meter.charge(samples):
            await asyncio.sleep(pause)
        waited = 0.0
        while self._outbox.qsize() > MAX_WAITING:
            if waited > PATIENCE_S:
                raise LimitReached(f"{MAX_WAITING} answers were not read for {PATIENCE_S:g} s")
            await asyncio.sleep(LOOK_S)
            waited += LOOK_S

    def _send(self, message: Message) -> None:
        assert self._run is not None
        message.generation = self._runs.generation
        message.after_decision = self._told
        message.acked_seq = self._run.next_seq - 1
        message.acked_report = self._run.next_report - 1
        message.flush_ms = self._pace.flush_ms
        self._outbox.put_nowait(message)

    async def _write(self) -> None:
        while (message := await self._outbox.get()) is not None:
            if self._pace.flush_ms and message.WhichOneof("body") is None:
                await asyncio.sleep(ACK_PATIENCE_S)
            while message.WhichOneof("body") is None and not self._outbox.empty():
                later = self._outbox.get_nowait()
                if later is None:
                    await self._context.write(message)
                    return
                message = later  # it acknowledges more
            await self._context.write(message)
