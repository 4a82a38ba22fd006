"""A gRPC call over HTTP/2 without a line: bytes in, events out, whatever comes."""

import struct

import pytest
from h2 import events as h2
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from hyperframe.frame import GoAwayFrame, PingFrame
from hypothesis import given
from hypothesis import strategies as st

from lrpilot.client.call import Call, Ended, Event, Ready, Received
from lrpilot_proto.v1 import session_pb2


class Peer:
    """A server of HTTP/2, and a call to it."""

    def __init__(self, **call: object) -> None:
        self.call = Call("localhost", secure=False, **call)  # type: ignore[arg-type]
        self.http = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        self.http.initiate_connection()
        self.heard = bytearray()
        self.headers: dict[str, str] = {}
        self.finished = False

    def turn(self, take: bool = True) -> list[Event]:
        """All that both sides have to say now, each to the other."""
        events: list[Event] = []
        while True:
            up, down = self.call.outgoing(), self.http.data_to_send()
            if not up and not down:
                return events
            events += self.call.receive(down) if down else []
            for one in self.http.receive_data(up):
                match one:
                    case h2.RequestReceived(headers=headers):
                        self.headers = dict(headers)  # type: ignore[arg-type]
                    case h2.DataReceived(data=data, flow_controlled_length=length):
                        self.heard += data or b""
                        if take:
                            self.http.acknowledge_received_data(length or 0, 1)
                    case h2.StreamEnded():
                        self.finished = True

    def begin(self) -> None:
        """Up to where both may talk."""
        self.call.send(session_pb2.TrainerMessage(hello=session_pb2.Hello(attempt="a")))
        assert self.turn() == [Ready()]
        self.http.send_headers(1, [(":status", "200"), ("content-type", "application/grpc")])
        assert self.turn() == []
        assert self.said() == [session_pb2.TrainerMessage(hello=session_pb2.Hello(attempt="a"))]

    def said(self) -> list[session_pb2.TrainerMessage]:
        """Messages that came whole."""
        found = []
        while len(self.heard) >= 5:
            length = struct.unpack(">xI", self.heard[:5])[0]
            if len(self.heard) < 5 + length:
                break
            found.append(session_pb2.TrainerMessage.FromString(bytes(self.heard[5 : 5 + length])))
            del self.heard[: 5 + length]
        return found

    def trailers(self, *pairs: tuple[str, str]) -> list[Event]:
        self.http.send_headers(1, list(pairs), end_stream=True)
        return self.turn()


def framed(*messages: session_pb2.ControllerMessage) -> bytes:
    bodies = [message.SerializeToString() for message in messages]
    return b"".join(struct.pack(">BI", 0, len(body)) + body for body in bodies)


def ack(seq: int) -> session_pb2.ControllerMessage:
    return session_pb2.ControllerMessage(acked_seq=seq)


def test_it_asks_as_grpc_asks() -> None:
    peer = Peer(metadata=(("authorization", "Bearer t"),))
    peer.begin()
    assert peer.headers == {
        ":method": "POST",
        ":scheme": "http",
        ":path": "/lrpilot.v1.SessionService/Session",
        ":authority": "localhost",
        "te": "trailers",
        "content-type": "application/grpc",
        "user-agent": "lrpilot",
        "authorization": "Bearer t",
    }


@given(sizes=st.lists(st.integers(0, 2000), max_size=20), cuts=st.lists(st.integers(1, 300)))
def test_messages_arrive_whole_however_the_bytes_are_cut(sizes: list[int], cuts: list[int]) -> None:
    peer = Peer()
    peer.begin()
    messages = [
        session_pb2.ControllerMessage(welcome=session_pb2.Welcome(daemon_version="x" * size))
        for size in sizes
    ]
    body = framed(*messages)
    for start in range(0, len(body), 1000):
        peer.http.send_data(1, body[start : start + 1000])
    data, heard = peer.http.data_to_send(), list[Event]()
    for cut in cuts:
        heard += peer.call.receive(data[:cut])
        data = data[cut:]
    heard += peer.call.receive(data)
    assert heard == [Received(message) for message in messages]


def test_what_the_daemon_has_no_room_for_waits() -> None:
    peer = Peer()
    peer.begin()
    telemetry = session_pb2.Telemetry(first_seq=1, loss=[0.5] * 50_000)
    message = session_pb2.TrainerMessage(telemetry=telemetry)
    for _ in range(3):
        peer.call.send(message)
    peer.call.finish()
    peer.turn(take=False)
    assert len(peer.heard) <= 65_535
    assert not peer.finished
    peer.http.increment_flow_control_window(2_000_000)
    peer.http.increment_flow_control_window(2_000_000, stream_id=1)
    peer.turn(take=False)
    assert peer.said() == [message] * 3
    assert peer.finished


def test_an_end_has_its_code_and_words() -> None:
    peer = Peer()
    peer.begin()
    peer.http.send_data(1, framed(ack(3)))
    ended = peer.trailers(("grpc-status", "6"), ("grpc-message", "held by %22x%22: 100%25"))
    assert ended == [Received(ack(3)), Ended("ALREADY_EXISTS", 'held by "x": 100%')]
    assert peer.call.over
    peer.call.send(session_pb2.TrainerMessage())
    assert peer.call.receive(b"anything") == []


def test_a_refusal_at_once_is_an_end() -> None:
    peer = Peer()
    peer.call.send(session_pb2.TrainerMessage())
    assert peer.turn() == [Ready()]
    told = [(":status", "200"), ("grpc-status", "16"), ("grpc-message", "no token")]
    assert peer.trailers(*told) == [Ended("UNAUTHENTICATED", "no token")]


@pytest.mark.parametrize(
    ("trailers", "code"),
    [
        ([("grpc-status", "0")], "UNAVAILABLE"),  # it only ended: a later try may succeed
        ([("grpc-status", "99")], "UNKNOWN"),
        ([("grpc-status", "-1")], "UNKNOWN"),
        ([("something", "else")], "UNAVAILABLE"),
    ],
)
def test_an_end_that_says_little(trailers: list[tuple[str, str]], code: str) -> None:
    peer = Peer()
    peer.begin()
    [ended] = peer.trailers(*trailers)
    assert isinstance(ended, Ended)
    assert ended.code == code
    assert ended.words


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ErrorCodes.REFUSED_STREAM, "UNAVAILABLE"),
        (ErrorCodes.ENHANCE_YOUR_CALM, "RESOURCE_EXHAUSTED"),
        (ErrorCodes.INTERNAL_ERROR, "INTERNAL"),
    ],
)
def test_a_call_that_is_broken_off(error: ErrorCodes, code: str) -> None:
    peer = Peer()
    peer.begin()
    peer.http.reset_stream(1, error)
    [ended] = peer.turn()
    assert isinstance(ended, Ended)
    assert ended.code == code


def test_a_connection_that_is_ended() -> None:
    peer = Peer()
    peer.begin()
    peer.http.send_data(1, framed(ack(1)))
    peer.http.close_connection(additional_data=b"too_many_pings")
    events = peer.call.receive(peer.http.data_to_send())
    assert events == [Received(ack(1)), Ended("UNAVAILABLE", "too_many_pings")]


@pytest.mark.parametrize(("status", "code"), [("404", "UNIMPLEMENTED"), ("503", "UNAVAILABLE")])
def test_a_server_that_is_no_daemon(status: str, code: str) -> None:
    peer = Peer()
    peer.call.send(session_pb2.TrainerMessage())
    peer.turn()
    [ended] = peer.trailers((":status", status), ("content-type", "text/html"))
    assert isinstance(ended, Ended)
    assert ended.code == code
    assert status in ended.words


@pytest.mark.parametrize(
    "body",
    [
        struct.pack(">BI", 1, 3) + b"abc",
        struct.pack(">BI", 0, 1 << 30),
        struct.pack(">BI", 0, 3) + b"\xff\xff\xff",
    ],
    ids=["compressed", "a gibibyte", "no message"],
)
def test_what_cannot_be_read_ends_the_call(body: bytes) -> None:
    peer = Peer()
    peer.begin()
    peer.http.send_data(1, body)
    [ended] = peer.turn()
    assert isinstance(ended, Ended)
    assert ended.code == "INTERNAL"


@pytest.mark.parametrize("refused", [False, True])
def test_what_is_said_after_a_farewell_makes_no_fault_of_it(refused: bool) -> None:
    """gRPC's is a GOAWAY and a ping, which come together."""
    peer = Peer()
    peer.begin()
    if refused:
        trailers = [("grpc-status", "7"), ("grpc-message", "not you")]
        peer.http.send_headers(1, trailers, end_stream=True)
    said = peer.http.data_to_send()
    away = GoAwayFrame(stream_id=0, last_stream_id=1, additional_data=b"stopping")
    said += away.serialize() + PingFrame(stream_id=0, opaque_data=b"12345678").serialize()
    end = Ended("PERMISSION_DENIED", "not you") if refused else Ended("UNAVAILABLE", "stopping")
    assert peer.call.receive(said) == [end]


def test_a_ping_is_answered_and_one_of_ours_is_sent() -> None:
    peer = Peer()
    peer.begin()
    peer.http.ping(b"12345678")
    assert peer.turn() == []
    peer.call.ping()
    assert b"lrpilot?" in peer.call.outgoing()


@given(data=st.binary(max_size=400), ready=st.booleans())
def test_any_bytes_are_taken_or_end_the_call(data: bytes, ready: bool) -> None:
    peer = Peer()
    if ready:
        peer.begin()
    assert_sound(peer, peer.call.receive(data))


@given(data=st.data())
def test_damaged_bytes_are_taken_or_end_the_call(data: st.DataObject) -> None:
    peer = Peer()
    peer.begin()
    peer.http.send_data(1, framed(ack(1), ack(2)))
    peer.http.ping(b"12345678")
    peer.http.send_headers(1, [("grpc-status", "14"), ("grpc-message", "x")], end_stream=True)
    spoiled = bytearray(peer.http.data_to_send())
    for place in data.draw(st.lists(st.integers(0, len(spoiled) - 1), min_size=1, max_size=4)):
        spoiled[place] = data.draw(st.integers(0, 255))
    assert_sound(peer, peer.call.receive(bytes(spoiled)))


def assert_sound(peer: Peer, events: list[Event]) -> None:
    assert all(isinstance(event, Ready | Received | Ended) for event in events)
    assert peer.call.over == any(isinstance(event, Ended) for event in events)
    peer.call.send(session_pb2.TrainerMessage())
    peer.call.outgoing()
