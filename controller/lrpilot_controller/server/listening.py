"""The daemon's lines to the outside: a gRPC server with its services, gate and addresses."""

import os
from typing import TYPE_CHECKING

import grpc

from lrpilot_controller.errors import DaemonExists
from lrpilot_controller.server.access.gate import Gate
from lrpilot_controller.server.address import Address
from lrpilot_controller.server.files import most_connections
from lrpilot_controller.server.limits import ServerLimits
from lrpilot_controller.server.operator import OperatorServicer
from lrpilot_controller.server.parts import Parts
from lrpilot_controller.server.turnstile import Turnstile
from lrpilot_controller.server.vitals import Vitals
from lrpilot_proto.v1 import operator_pb2_grpc, session_pb2_grpc

if TYPE_CHECKING:  # it brings cryptography, which a unix socket does without
    from lrpilot_controller.server.access.entrance import Entrance

# From the measurements on wire limits: what is over them gets RESOURCE_EXHAUSTED from gRPC.
OPTIONS: list[tuple[str, int]] = [
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", 1 << 20),
    ("grpc.max_send_message_length", 1 << 20),
    ("grpc.max_concurrent_streams", 8),
    ("grpc.max_metadata_size", 8192),
    ("grpc.absolute_max_metadata_size", 16384),
    ("grpc.keepalive_time_ms", 30000),
    ("grpc.keepalive_timeout_ms", 10000),
    ("grpc.http2.ping_timeout_ms", 10000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 5000),
    ("grpc.http2.max_ping_strikes", 3),
    # Messages are small: what a line could carry is not worth a ping that a trainer must answer.
    ("grpc.http2.bdp_probe", 0),
    # A connection that says nothing, or carries no call, is let go.
    ("grpc.server_handshake_timeout_ms", 10_000),
    ("grpc.max_connection_idle_ms", 60_000),
]
# Beside the sessions: operators, and those who are just being refused.
MORE_CALLS = 512


def make_server(parts: Parts, limits: ServerLimits, gate: Gate) -> grpc.aio.Server:
    """A server of both services behind the gate; it listens nowhere yet."""
    calls = limits.max_sessions + MORE_CALLS
    server = grpc.aio.server(
        options=[*OPTIONS, ("grpc.max_allowed_incoming_connections", most_connections(calls))],
        maximum_concurrent_rpcs=calls,
        interceptors=[gate, Turnstile(parts.door)],
    )
    vitals = Vitals(parts.journal, parts.sessions)
    operator = OperatorServicer(parts.journal, parts.runs, parts.watching, vitals.status)
    session_pb2_grpc.add_SessionServiceServicer_to_server(parts.sessions, server)  # type: ignore[no-untyped-call]
    operator_pb2_grpc.add_OperatorServiceServicer_to_server(operator, server)  # type: ignore[no-untyped-call]
    return server


def bind(server: grpc.aio.Server, address: Address, entrance: "Entrance | None") -> None:
    """Listen at an address.

    Raises:
        DaemonExists: it cannot be had.
    """
    before = os.umask(0o177)  # the socket file is made by gRPC, mode 0600 only by umask
    try:
        if address.path is not None:
            bound = server.add_insecure_port(str(address))
        else:
            assert entrance is not None, "TCP without TLS and tokens"
            bound = server.add_secure_port(str(address), entrance.certificates.credentials())
    except RuntimeError as error:
        raise DaemonExists(f"cannot listen on {address}: {error}") from error
    finally:
        os.umask(before)
    if not bound:
        raise DaemonExists(f"cannot listen on {address}: is another program there?")
