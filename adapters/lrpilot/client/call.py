"""A gRPC call whose two sides talk at will, without any I/O: bytes come in, events come out.

HTTP/2 is the h2 library's; what gRPC adds is little (its PROTOCOL-HTTP2.md is the source). The
grpc package itself would bring a dozen threads of its own into the training process, and the
children that a DataLoader forks can crash in them.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import unquote

from google.protobuf.message import DecodeError
from h2 import events as h2
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.exceptions import ProtocolError

from lrpilot_proto.v1 import session_pb2

METHOD = "/lrpilot.v1.SessionService/Session"
MAX_MESSAGE = 1 << 20  # bytes; the daemon's are a few hundred
FRAME_HEADER = 9  # bytes; the first three are the length of what follows
PREFIX = struct.Struct(">BI")  # whether it is compressed, and its length

# By their numbers.
CODES = (
    "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND",
    "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED",
    "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
)  # fmt: skip
# Of one that is no gRPC server, such as a proxy between.
OF_HTTP = {
    "400": "INTERNAL", "401": "UNAUTHENTICATED", "403": "PERMISSION_DENIED",
    "404": "UNIMPLEMENTED", "429": "UNAVAILABLE", "502": "UNAVAILABLE", "503": "UNAVAILABLE",
    "504": "UNAVAILABLE",
}  # fmt: skip
OF_RESET: dict[int, str] = {
    ErrorCodes.REFUSED_STREAM: "UNAVAILABLE",
    ErrorCodes.CANCEL: "CANCELLED",
    ErrorCodes.ENHANCE_YOUR_CALM: "RESOURCE_EXHAUSTED",
    ErrorCodes.INADEQUATE_SECURITY: "PERMISSION_DENIED",
}


@dataclass(frozen=True)
class Ready:
    """The daemon speaks HTTP/2: it is there, and not frozen."""


@dataclass(frozen=True)
class Received:
    """The daemon said something."""

    message: session_pb2.ControllerMessage


@dataclass(frozen=True)
class Ended:
    """The call is over; `code` is the name of a grpc status code."""

    code: str
    words: str


Event = Ready | Received | Ended
Headers = Sequence[tuple[str, str]]


class Call:
    """One call on one connection. After `Ended`, nothing more is said or heard.

    Args:
        authority: whom it is for: `localhost`, or HOST:PORT.
        secure: whether the line has TLS.
        metadata: what the call carries beside its messages.

    Attributes:
        over: whether it has ended.
    """

    def __init__(self, authority: str, *, secure: bool, metadata: Headers = ()) -> None:
        self.over = False
        self._http = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self._http.initiate_connection()
        self._headers = [
            (":method", "POST"),
            (":scheme", "https" if secure else "http"),
            (":path", METHOD),
            (":authority", authority),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            ("user-agent", "lrpilot"),
            *metadata,
        ]
        self._stream = self._http.get_next_available_stream_id()
        self._ready = self._open = self._finishing = False
        self._raw = bytearray()  # of a frame of which the rest is to come
        self._body = bytearray()  # to be said as soon as the daemon has room for it
        self._heard = bytearray()  # a message of which the rest is to come

    def send(self, message: session_pb2.TrainerMessage) -> None:
        """Say something; the first time, the call begins."""
        if self.over:
            return
        if not self._open:
            self._open = True
            self._http.send_headers(self._stream, self._headers)
        data = message.SerializeToString()
        self._body += PREFIX.pack(False, len(data))
        self._body += data

    def finish(self) -> None:
        """Say that nothing more will come; the daemon then ends the call."""
        self._finishing = self._open

    def ping(self) -> None:
        """Ask for a sign of life."""
        self._http.ping(b"lrpilot?")

    def outgoing(self) -> bytes:
        """The bytes to send now: as much as the daemon has room for."""
        while self._body and not self.over:
            room = min(
                self._http.local_flow_control_window(self._stream),
                self._http.max_outbound_frame_size,
            )
            if room <= 0:
                break
            self._http.send_data(self._stream, bytes(self._body[:room]))
            del self._body[:room]
        if self._finishing and not self._body and not self.over:
            self._finishing = False
            self._http.end_stream(self._stream)
        return self._http.data_to_send()

    def receive(self, data: bytes) -> list[Event]:
        """Take in bytes that came; returns what they say."""
        self._raw += data
        events: list[Event] = []
        # One by one: what a daemon says after its farewell, h2 takes for a fault of all of it.
        while not self.over and (frame := self._next_frame()):
            try:
                for one in self._http.receive_data(frame):
                    if not self.over:
                        events.extend(self._understand(one))
            except ProtocolError as error:
                words = f"it does not speak HTTP/2 as it should: {error}"
                events.append(self._end("UNAVAILABLE", words))
        return events

    def _next_frame(self) -> bytes:
        """The next frame of what came, empty where it is not whole; h2 refuses a large one."""
        if len(self._raw) < FRAME_HEADER:
            return b""
        size = FRAME_HEADER + int.from_bytes(self._raw[:3])
        if len(self._raw) < size <= FRAME_HEADER + self._http.max_inbound_frame_size:
            return b""
        frame = bytes(self._raw[:size])
        del self._raw[:size]
        return frame

    def _understand(self, happened: h2.Event) -> Iterator[Event]:
        match happened:
            case h2.RemoteSettingsChanged() if not self._ready:
                self._ready = True
                yield Ready()
            case h2.ResponseReceived(headers=headers) | h2.TrailersReceived(headers=headers):
                yield from self._read_headers(dict(headers))  # type: ignore[arg-type]
            case h2.DataReceived(data=data, flow_controlled_length=length):
                self._http.acknowledge_received_data(length or 0, self._stream)
                self._heard += data or b""
                yield from self._read_messages()
            case h2.StreamEnded():
                yield self._end("UNAVAILABLE", "the daemon ended the session")
            case h2.StreamReset(error_code=code):
                name = OF_RESET.get(code or 0, "INTERNAL")
                yield self._end(name, f"the daemon broke the session off (HTTP/2 error {code!r})")
            case h2.ConnectionTerminated(additional_data=words):
                told = (words or b"").decode(errors="replace")
                yield self._end("UNAVAILABLE", told or "the daemon ends the connection")

    def _read_headers(self, headers: dict[str, str]) -> Iterator[Event]:
        """Of the answer's beginning, or of its end."""
        status = headers.get(":status", "200")
        if "grpc-status" in headers:
            number = headers["grpc-status"]
            known = number.isascii() and number.isdigit() and int(number) < len(CODES)
            code = CODES[int(number)] if known else "UNKNOWN"
            words = unquote(headers.get("grpc-message", ""))
            if code == "OK":
                code, words = "UNAVAILABLE", "the daemon ended the session"
            yield self._end(code, words or f"the daemon answered {code}")
        elif status != "200" and not status.startswith("1"):
            code = OF_HTTP.get(status, "UNKNOWN")
            yield self._end(code, f"no daemon answers, but a server with HTTP status {status}")

    def _read_messages(self) -> Iterator[Event]:
        while not self.over and len(self._heard) >= PREFIX.size:
            compressed, length = PREFIX.unpack_from(self._heard)
            if compressed or length > MAX_MESSAGE:
                what = "compressed" if compressed else f"of {length} bytes (at most {MAX_MESSAGE})"
                yield self._end("INTERNAL", f"the daemon sent a message {what}")
                return
            if len(self._heard) < PREFIX.size + length:
                return
            data = bytes(self._heard[PREFIX.size : PREFIX.size + length])
            del self._heard[: PREFIX.size + length]
            try:
                yield Received(session_pb2.ControllerMessage.FromString(data))
            except DecodeError as error:
                yield self._end("INTERNAL", f"the daemon sent what is no message: {error}")

    def _end(self, code: str, words: str) -> Ended:
        self.over = True
        return Ended(code, words)
