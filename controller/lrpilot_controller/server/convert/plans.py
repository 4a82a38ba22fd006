"""Plans and their segments."""

import math
from itertools import pairwise

from lrpilot_controller.core.plans import Plan, PlanKind, Segment, Shape
from lrpilot_controller.server.convert.words import MAX_STEP, name_of
from lrpilot_proto.v1 import model_pb2


def plan_to(plan: Plan) -> model_pb2.Plan:
    """A plan as a message."""
    return model_pb2.Plan(
        kind=f"PLAN_KIND_{plan.kind.upper()}",
        segments=[segment_to(segment) for segment in plan.segments],
    )


def segment_to(segment: Segment) -> model_pb2.Segment:
    """One piece of a plan, or of a program, as a message."""
    return model_pb2.Segment(
        shape=f"SHAPE_{segment.shape.upper()}",
        start=segment.start,
        end=segment.end,
        start_value=segment.start_value,
        end_value=segment.end_value,
        count=segment.count,
    )


def plan_from(message: model_pb2.Plan) -> Plan | None:
    """The plan that a trainer says is in force.

    None where there is none, or one that nothing can be read from: without segments, of a kind or
    shape that only a newer trainer knows, with values that are no usable LR or factor, or with
    segments that are not in order.
    """
    kind = name_of("PLAN_KIND_", model_pb2.PlanKind, message.kind)
    segments = [_segment_from(segment) for segment in message.segments]
    known = [segment for segment in segments if segment is not None]
    if kind not in set(PlanKind) or not known or len(known) < len(segments):
        return None
    if any(before.end > after.start for before, after in pairwise(known)):
        return None
    return Plan(PlanKind(kind), tuple(known))


def _segment_from(message: model_pb2.Segment) -> Segment | None:
    shape = name_of("SHAPE_", model_pb2.Shape, message.shape)
    values = (message.start_value, message.end_value)
    if shape not in set(Shape) or not message.start < message.end <= MAX_STEP:
        return None
    if not all(0 <= value < math.inf for value in values):
        return None
    if shape == Shape.EXPONENTIAL and not all(values):
        return None
    return Segment(Shape(shape), message.start, message.end, *values, message.count)
