"""Decisions as a daemon would send them."""

from typing import Any

from lrpilot_proto.v1 import model_pb2


def cut(factor: float, **fields: Any) -> model_pb2.Decision:
    """Scales the native LR by `factor` from the next boundary on."""
    segment = model_pb2.Segment(
        shape="SHAPE_CONSTANT", start=0, end=1, start_value=factor, end_value=factor
    )
    plan = model_pb2.Plan(kind="PLAN_KIND_SCALE", segments=[segment])
    return model_pb2.Decision(
        **{"id": 1, "action": "ACTION_CUT", "reason": "because", "plan": plan} | fields
    )


def decay(start: int, end: int, value: float, **fields: Any) -> model_pb2.Decision:
    """Replaces the native LR by a straight line from `value` to 0 over steps [start, end)."""
    segment = model_pb2.Segment(shape="SHAPE_LINEAR", start=start, end=end, start_value=value)
    plan = model_pb2.Plan(kind="PLAN_KIND_REPLACE", segments=[segment])
    return cut(1.0, **{"plan": plan} | fields)


def rollback(snapshot: int, factor: float = 0.5, **fields: Any) -> model_pb2.Decision:
    """Restores a snapshot and cuts."""
    return cut(factor, action="ACTION_ROLLBACK", restore_snapshot=snapshot, **fields)


def release(**fields: Any) -> model_pb2.Decision:
    """Gives the native LR back."""
    return model_pb2.Decision(**{"id": 2, "action": "ACTION_RELEASE", "release": True} | fields)
