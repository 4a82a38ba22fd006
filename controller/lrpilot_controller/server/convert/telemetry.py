"""Samples: the columns that a trainer streams."""

import math

from lrpilot_controller.core.model import Attempt
from lrpilot_controller.core.telemetry import Samples
from lrpilot_controller.errors import InvalidTelemetry
from lrpilot_controller.server.convert.words import MAX_STEP
from lrpilot_proto.v1 import session_pb2

MAX_ITEMS = 4096


def samples_from(message: session_pb2.Telemetry, attempt: Attempt) -> Samples:
    """The columns of a Telemetry message.

    Raises:
        InvalidTelemetry: columns of different length, too many rows, or LR rows that fit neither
            one row nor one per item.
    """
    rows, groups = len(message.step), len(attempt.groups)
    lengths = {name: len(getattr(message, name)) for name in ("kind", "branch", "program", "loss")}
    if any(length != rows for length in lengths.values()):
        raise InvalidTelemetry(f"telemetry columns differ in length: step {rows}, {lengths}")
    if not 1 <= rows <= MAX_ITEMS:
        raise InvalidTelemetry(f"telemetry has {rows} rows: 1 to {MAX_ITEMS} are allowed")
    if message.first_seq < 1:
        raise InvalidTelemetry("telemetry.first_seq is 0: items are numbered from 1")
    if max(message.step) > MAX_STEP:
        raise InvalidTelemetry(f"telemetry.step is {max(message.step)}: at most {MAX_STEP}")
    if len(message.lrs) not in (groups, rows * groups):
        raise InvalidTelemetry(
            f"telemetry.lrs has {len(message.lrs)} values: {groups} (one row for all) or "
            f"{rows * groups} (one row per item) are needed"
        )
    if not all(math.isfinite(lr) for lr in message.lrs):
        raise InvalidTelemetry("telemetry.lrs holds a non-finite learning rate")
    validation: tuple[bool, ...] = (False,) * rows
    if session_pb2.ITEM_KIND_VALIDATION in message.kind:
        validation = tuple(kind == session_pb2.ITEM_KIND_VALIDATION for kind in message.kind)
    return Samples(
        attempt=attempt.id,
        first_seq=message.first_seq,
        validation=validation,
        step=tuple(message.step),
        branch=tuple(message.branch),
        program=tuple(message.program),
        loss=tuple(message.loss),
        lrs=tuple(zip(*[iter(message.lrs)] * groups, strict=True)),
        dropped=message.dropped_total,
    )
