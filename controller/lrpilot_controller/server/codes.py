"""The one table from our errors to gRPC status codes."""

import grpc

from lrpilot_controller.errors import (
    InvalidTelemetry,
    JournalError,
    LRPilotError,
    NotFound,
    NotNow,
    OutOfOrder,
    RunBusy,
    Stopping,
    Superseded,
)
from lrpilot_controller.journal.base import JournalEntryError

_CODES: dict[type[LRPilotError], grpc.StatusCode] = {
    InvalidTelemetry: grpc.StatusCode.INVALID_ARGUMENT,
    OutOfOrder: grpc.StatusCode.ABORTED,
    RunBusy: grpc.StatusCode.ALREADY_EXISTS,
    Superseded: grpc.StatusCode.FAILED_PRECONDITION,
    NotFound: grpc.StatusCode.NOT_FOUND,
    NotNow: grpc.StatusCode.FAILED_PRECONDITION,
    # What no journal can hold will not become better when it is sent again.
    JournalEntryError: grpc.StatusCode.INVALID_ARGUMENT,
    JournalError: grpc.StatusCode.UNAVAILABLE,
    Stopping: grpc.StatusCode.UNAVAILABLE,
}


def code_of(error: LRPilotError) -> grpc.StatusCode:
    """The status code that a peer is to see for `error`."""
    for kind, code in _CODES.items():
        if isinstance(error, kind):
            return code
    return grpc.StatusCode.INTERNAL
