"""A peer of the daemon that says exactly what a test wants, whole or in bytes."""

import queue
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

import grpc

from lrpilot_proto.v1 import model_pb2, session_pb2

Trainer = session_pb2.TrainerMessage
METHOD = "/lrpilot.v1.SessionService/Session"


def hello(run: str, attempt: str = "a", **fields: Any) -> session_pb2.Hello:
    """A Hello that a daemon accepts."""
    defaults: dict[str, Any] = {
        "groups": [session_pb2.ParamGroup(name="group 0", base_lr=0.1)],
        "max_lr": 0.1,
        "mode": model_pb2.MODE_AUTO,
        "world_size": 1,
    }
    name = model_pb2.RunName(project="default", name=run)
    return session_pb2.Hello(run=name, attempt=attempt, **(defaults | fields))


def telemetry(first_seq: int, losses: Sequence[float], **columns: Any) -> session_pb2.Telemetry:
    """Samples of consecutive steps, unless `columns` says otherwise."""
    rows = len(losses)
    defaults: dict[str, Any] = {
        "kind": [session_pb2.ITEM_KIND_TRAIN] * rows,
        "step": range(first_seq - 1, first_seq - 1 + rows),
        "branch": [0] * rows,
        "program": [0] * rows,
        "lrs": [0.1],
    }
    return session_pb2.Telemetry(first_seq=first_seq, loss=losses, **(defaults | columns))


class Line:
    """One session: what is sent is what the test says, message by message."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.insecure_channel(
            address,
            options=[("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)],
        )
        self._outgoing: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        call = self._channel.stream_stream(
            METHOD,
            request_serializer=lambda raw: raw,
            response_deserializer=session_pb2.ControllerMessage.FromString,
        )
        self.call = call(iter(self._outgoing.get, None), timeout=20)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._outgoing.put(None)
        self.call.cancel()
        self._channel.close()

    def raw(self, message: bytes) -> None:
        """Send these bytes as one message."""
        self._outgoing.put(message)

    def say(self, body: session_pb2.Hello | session_pb2.Telemetry | session_pb2.Report) -> None:
        """Send a message."""
        name = {"Hello": "hello", "Telemetry": "telemetry", "Report": "report"}
        kind = name[body.DESCRIPTOR.name]
        self.raw(Trainer(**{kind: body}).SerializeToString())  # type: ignore[arg-type]

    def hang_up(self) -> None:
        """Say that nothing more will come."""
        self._outgoing.put(None)

    def hear(self) -> session_pb2.ControllerMessage:
        """The daemon's next message."""
        return next(self.call)

    def hear_ack(self, seq: int) -> None:
        """Listen until the daemon has acknowledged `seq`."""
        while self.hear().acked_seq < seq:
            pass

    def refusal(self) -> tuple[str, str]:
        """The status code and the words with which the daemon ends the session."""
        try:
            for _ in self.call:
                pass
        except grpc.RpcError as error:
            return error.code().name, error.details()
        return "OK", ""


@contextmanager
def session(address: str, greeting: session_pb2.Hello) -> Iterator[Line]:
    """A session that was welcomed."""
    with Line(address) as line:
        line.say(greeting)
        assert line.hear().WhichOneof("body") == "welcome"
        yield line
