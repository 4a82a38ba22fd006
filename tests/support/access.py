"""A daemon on TCP with TLS and tokens, and clients that show what a test gives them."""

import os
import queue
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc

from lrpilot_controller.server.access.certificates import Authority, Pair
from lrpilot_controller.server.access.tokens import create
from lrpilot_proto.rendezvous import socket_path
from lrpilot_proto.v1 import session_pb2
from support.daemon import Daemon, environment, until
from support.peer import METHOD, hello

OPTIONS = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]


def free_port() -> int:
    """A port of this host that nobody listens at now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


class SecureDaemon(Daemon):
    """A daemon on a loopback port, with a certificate of its own and a token file.

    Its owner's socket is where the daemon puts it itself. `mtls`: it asks for certificates too.
    """

    def __init__(self, folder: Path, mtls: bool = False) -> None:
        super().__init__(folder)
        runtime = folder / "run"
        runtime.mkdir(mode=0o700)
        self.storage.mkdir(mode=0o700)
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.environment = environment(XDG_RUNTIME_DIR=runtime)
        before, os.environ["XDG_RUNTIME_DIR"] = os.environ.get("XDG_RUNTIME_DIR"), str(runtime)
        self.socket = socket_path(self.storage)
        os.environ.pop("XDG_RUNTIME_DIR")
        if before is not None:
            os.environ["XDG_RUNTIME_DIR"] = before
        self.tokens = self.storage / "tokens.jsonl"
        self.authority = Authority(1)
        self.ca = self.authority.write(folder)
        self.pair = self.authority.server(folder, [])
        self.more = ["--tls-cert", str(self.pair.cert), "--tls-key", str(self.pair.key)]
        if mtls:
            self.more += ["--tls-client-ca", str(self.ca)]

    def answers(self) -> bool:
        """Whether somebody accepts connections on its socket and on its port."""
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0 and super().answers()

    def token(self, name: str, role: str, *projects: str, days: float | None = None) -> str:
        """Make a token; its secret."""
        return create(self.tokens, name, role, projects, days)

    def trust(self, token: str | None = None, pair: Pair | None = None) -> dict[str, str]:
        """The environment of a client."""
        found = {"LRPILOT_ADDRESS": self.address, "LRPILOT_CA": str(self.ca)}
        if token is not None:
            found["LRPILOT_TOKEN"] = token
        if pair is not None:
            found |= {"LRPILOT_CERT": str(pair.cert), "LRPILOT_KEY": str(pair.key)}
        return found

    @contextmanager
    def channel(self, pair: Pair | None = None) -> Iterator[grpc.Channel]:
        """A channel with TLS, and a client's certificate where one is given."""
        credentials = grpc.ssl_channel_credentials(
            self.ca.read_bytes(),
            pair.key.read_bytes() if pair else None,
            pair.cert.read_bytes() if pair else None,
        )
        with grpc.secure_channel(self.address, credentials, options=OPTIONS) as channel:
            yield channel


def bearer(token: str | None) -> list[tuple[str, str]]:
    """The metadata of a call that shows a token."""
    return [] if token is None else [("authorization", f"Bearer {token}")]


class RawSession:
    """One session over a channel, opened with a Hello of a project."""

    def __init__(self, channel: grpc.Channel, token: str | None, project: str, run: str) -> None:
        self._outgoing: queue.SimpleQueue[Any] = queue.SimpleQueue()
        greeting = hello(run)
        greeting.run.project = project
        self._outgoing.put(session_pb2.TrainerMessage(hello=greeting))
        stub = channel.stream_stream(
            METHOD,
            request_serializer=session_pb2.TrainerMessage.SerializeToString,
            response_deserializer=session_pb2.ControllerMessage.FromString,
        )
        self.call = stub(iter(self._outgoing.get, None), timeout=30, metadata=bearer(token))

    def first(self) -> str:
        """What the daemon says first, or the code with which it refuses."""
        try:
            return str(next(self.call).WhichOneof("body"))
        except grpc.RpcError as error:
            return str(error.code().name)

    def end(self) -> tuple[str, str]:
        """Listen to the end: the code, and the words."""
        try:
            for _ in self.call:
                pass
        except grpc.RpcError as error:
            return error.code().name, error.details()
        return "OK", ""

    def hang_up(self) -> None:
        """End it in order."""
        self._outgoing.put(None)
        self.end()


__all__ = ["RawSession", "SecureDaemon", "bearer", "free_port", "until"]
