"""The one table from our errors to gRPC status codes."""

import grpc
from google.protobuf.message import DecodeError

from lrpilot_controller.errors import (
    InvalidTelemetry,
    JournalError,
    LimitReached,
    LRPilotError,
    NotAllowed,
    NotFound,
    NotNow,
    OutOfOrder,
    RunBusy,
    RunFailed,
    Stopping,
    Superseded,
)
from lrpilot_controller.journal.base import JournalEntryError

_CODES: dict[type[Exception], grpc.StatusCode] = {
    InvalidTelemetry: grpc.StatusCode.INVALID_ARGUMENT,
    OutOfOrder: grpc.StatusCode.ABORTED,
    RunBusy: grpc.StatusCode.ALREADY_EXISTS,
    RunFailed: grpc.StatusCode.FAILED_PRECONDITION,
    Superseded: grpc.StatusCode.FAILED_PRECONDITION,
    NotAllowed: grpc.StatusCode.PERMISSION_DENIED,
    NotFound: grpc.StatusCode.NOT_FOUND,
    NotNow: grpc.StatusCode.FAILED_PRECONDITION,
    # What no journal can hold will not become better when it is sent again.
    JournalEntryError: grpc.StatusCode.INVALID_ARGUMENT,
    JournalError: grpc.StatusCode.UNAVAILABLE,
    LimitReached: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Stopping: grpc.StatusCode.UNAVAILABLE,
    DecodeError: grpc.StatusCode.INVALID_ARGUMENT,
}


def code_of(error: LRPilotError | DecodeError) -> grpc.StatusCode:
    """The status code that a peer is to see for `error`."""
    for kind, code in _CODES.items():
        if isinstance(error, kind):
            return code
    return grpc.StatusCode.INTERNAL


MAX_WORDS = 1000
"""What is told may quote what came; a refusal travels in headers, which have little room."""


def words_of(error: Exception) -> str:
    """What a peer is to read of `error`."""
    words = str(error)
    return words if len(words) <= MAX_WORDS else f"{words[: MAX_WORDS - 1]}…"
