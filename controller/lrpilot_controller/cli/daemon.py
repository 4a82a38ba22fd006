"""The daemon, for the commands that need one: where it is, and what it answers."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import grpc

from lrpilot_controller.errors import (
    ConfigError,
    LRPilotError,
    NoDaemon,
    NotAllowed,
    NotFound,
    NotNow,
    WrongRole,
)
from lrpilot_controller.server.address import Address
from lrpilot_controller.storage import Storage
from lrpilot_proto.access import Access
from lrpilot_proto.rendezvous import private_dir
from lrpilot_proto.v1 import operator_pb2_grpc

TIMEOUT_S = 10.0
OPTIONS = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]

_ERRORS: dict[grpc.StatusCode, type[LRPilotError]] = {
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.FAILED_PRECONDITION: NotNow,
    grpc.StatusCode.UNAUTHENTICATED: NotAllowed,
    grpc.StatusCode.PERMISSION_DENIED: WrongRole,
}

Ask = Callable[[str, Any], Any]
"""Calls a method of the Operator service, by name, and returns its answer."""


def address_of(storage: Storage | None) -> Address:
    """Where the daemon listens, found as a trainer finds it.

    `--storage` if it was given; else `$LRPILOT_ADDRESS`, else the user's own storage.

    Raises:
        ConfigError: `$LRPILOT_ADDRESS` is no address, or others can enter the socket's directory.
    """
    named = os.environ.get("LRPILOT_ADDRESS", "").strip()
    if storage is None and named and named != "auto":
        if named.startswith("unix:"):
            path = Path(named.removeprefix("unix:").removeprefix("//")).expanduser()
            named = f"unix:{path}"
        try:
            return Address.parse(named)
        except ConfigError as error:
            raise ConfigError(str(error).replace("--listen ", "$LRPILOT_ADDRESS=", 1)) from None
    path = (storage or Storage.default()).socket
    try:
        if path.parent.exists():
            private_dir(path.parent)  # in a shared /tmp it may be a stranger's
    except OSError as error:
        raise ConfigError(str(error)) from error
    return Address(path=path)


def _target(address: Address) -> str:
    """As grpc wants it."""
    return f"unix:{quote(str(address.path))}" if address.path else str(address)


class Way:
    """The way to a daemon; over TCP with what the environment says (`lrpilot_proto.access`).

    Attributes:
        address: where it is.
        shown: what every call shows of who asks.

    Raises:
        ConfigError: what the environment says cannot be.
    """

    def __init__(self, storage: Storage | None) -> None:
        self.address = address_of(storage)
        self._access = None if self.address.path else _access(self.address)
        self.shown = self._access.metadata() if self._access else None

    def channel(self) -> grpc.Channel:
        """A channel to it, whether it is there or not."""
        if self._access is None:
            return grpc.insecure_channel(_target(self.address), options=OPTIONS)
        return self._access.channel(_target(self.address), OPTIONS)

    def explained(self, error: grpc.RpcError) -> LRPilotError:
        """What it answered, or that it did not, as an error of ours."""
        code, details = error.code(), error.details()
        if code not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
            return _ERRORS.get(code, LRPilotError)(details)
        return NoDaemon(
            f"no daemon answers at {self.address} ({self.trouble() or details}): this needs the "
            "daemon that the training process uses. Give its --storage, or set LRPILOT_ADDRESS as "
            "for the training process"
        )

    def trouble(self) -> str | None:
        """Why nobody can be reached there over TCP, as far as can be told."""
        if self._access is None:
            return None
        return self._access.trouble(self.address.host, self.address.port)


@contextmanager
def operator(storage: Storage | None) -> Iterator[Ask]:
    """A line to the daemon.

    Raises, within its body:
        NoDaemon: none answers.
        NotAllowed: it does not know the token, or the token is not for this.
        NotFound: it knows no such run.
        NotNow: the run is not in a state for it.
        LRPilotError: it refuses for another reason.
    """
    way = Way(storage)
    with way.channel() as channel:
        stub = operator_pb2_grpc.OperatorServiceStub(channel)  # type: ignore[no-untyped-call]

        def ask(method: str, request: Any) -> Any:
            try:
                return getattr(stub, method)(request, timeout=TIMEOUT_S, metadata=way.shown)
            except grpc.RpcError as error:
                raise way.explained(error) from None

        yield ask


def _access(address: Address) -> Access:
    try:
        return Access()
    except ValueError as error:
        raise ConfigError(f"$LRPILOT_ADDRESS={address}: {error}") from None
