"""Plans inside the trainer: closed-form LR curves, evaluated without asking anybody."""

import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from itertools import pairwise
from typing import Any, Protocol

from google.protobuf.json_format import MessageToDict, ParseDict

from lrpilot_proto.v1 import model_pb2

# Stairs of a step segment, triangles of a cyclical one.
FEWEST = {model_pb2.SHAPE_STEP: 2, model_pb2.SHAPE_CYCLICAL: 1}


class PlanError(ValueError):
    """A plan that cannot be followed."""


def _shape(shape: int, step: int, length: int, v0: float, v1: float, count: int) -> float:
    """The value after `step` of `length` steps, both whole numbers so that stairs are exact."""
    f = step / length
    match shape:
        case model_pb2.SHAPE_CONSTANT:
            return v0
        case model_pb2.SHAPE_LINEAR:
            part = f
        case model_pb2.SHAPE_COSINE:
            part = (1 - math.cos(math.pi * f)) / 2
        case model_pb2.SHAPE_ONE_MINUS_SQRT:
            part = math.sqrt(f)
        case model_pb2.SHAPE_EXPONENTIAL:
            return _geometric(v0, v1, f)
        case model_pb2.SHAPE_STEP:
            stair = min(step * count // length, count - 1)
            part = stair / (count - 1)
            if v0 > 0 and v1 > 0 and 0 < stair < count - 1:
                return _geometric(v0, v1, part)
        case model_pb2.SHAPE_CYCLICAL:
            phase = step * count % length / length
            part = 1 - abs(2 * phase - 1)
        case _:
            raise PlanError(f"unknown segment shape {shape}: the daemon is newer than this trainer")
    return v0 * (1 - part) + v1 * part  # exact at both ends, however far they are apart


def _geometric(v0: float, v1: float, part: float) -> float:
    ratio = v1 / v0
    if 0 < ratio < math.inf:
        return v0 * math.pow(ratio, part)  # exact where both ends are the same
    return math.pow(v0, 1 - part) * math.pow(v1, part)  # their ratio is no number


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the first param group's LR may be; other groups keep their ratio to it."""

    low: float
    high: float


class BoundsOf(Protocol):
    """The bounds of the first param group's LR."""

    def __call__(self, base_lr: float, /, searched: bool = False) -> Bounds:
        """The bounds, given that LR at the start, and whether a search may leave it far behind."""
        ...


@dataclass(frozen=True, slots=True)
class Ramp:
    """A straight line from the value in force at `start` to the plan's at `start + steps`."""

    start: int
    steps: int
    value: float


class Plan:
    """A checked plan: `value(k)` is what step k uses, `lr(...)` the LR that follows from it.

    Args:
        message: the segments, in order of their steps.
        bounds: every LR is clamped to them, whatever the plan says.
        base_lrs: the groups' base LRs, which give each group's ratio to the first.
        ramp: how the plan is entered; at once unless given.

    Raises:
        PlanError: of no known kind, no segment, segments out of order, or a value that is no
            usable LR or factor.
    """

    def __init__(
        self,
        message: model_pb2.Plan,
        bounds: Bounds,
        base_lrs: Sequence[float],
        ramp: Ramp | None = None,
    ) -> None:
        self.message = message
        self.ramp = ramp if ramp and ramp.steps > 0 else None
        self._replaces = message.kind == model_pb2.PLAN_KIND_REPLACE
        self._segments = [
            (s.start, s.end, s.shape, s.start_value, s.end_value, s.count) for s in message.segments
        ]
        self._check()
        first = base_lrs[0]
        self._ratios = [base / first if first > 0 else float(base > 0) for base in base_lrs]
        if first <= 0:
            self._ratios[0] = 1.0
        self._bounds = bounds
        # The step from which on the value is constant; asked at every step.
        self.moves_until = self._settled_at()

    def _check(self) -> None:
        kinds = (model_pb2.PLAN_KIND_SCALE, model_pb2.PLAN_KIND_REPLACE)
        if self.message.kind not in kinds:  # taken for a factor, an LR would be a disaster
            raise PlanError(f"unknown plan kind {self.message.kind}: factor or LR?")
        if not self._segments:
            raise PlanError("the plan has no segment")
        for start, end, shape, v0, v1, count in self._segments:
            if end <= start:
                raise PlanError(f"segment [{start}, {end}) is empty")
            if not all(math.isfinite(v) and v >= 0 for v in (v0, v1)):
                raise PlanError(f"segment [{start}, {end}) has values {v0}, {v1}: finite, >= 0")
            if shape == model_pb2.SHAPE_EXPONENTIAL and not (v0 > 0 and v1 > 0):
                raise PlanError(f"segment [{start}, {end}): exponential values must be > 0")
            fewest = FEWEST.get(shape, 0)
            if count < fewest:
                raise PlanError(f"segment [{start}, {end}) counts {count}: at least {fewest}")
            _shape(shape, 1, 2, v0, v1, count)
        if any(b[0] < a[1] for a, b in pairwise(self._segments)):
            raise PlanError("the plan's segments overlap or are out of order")

    def _settled_at(self) -> int:
        last = self._segments[-1]
        constant = len(self._segments) == 1 and last[2] == model_pb2.SHAPE_CONSTANT
        ramped = self.ramp.start + self.ramp.steps if self.ramp else 0
        return max(ramped, last[0] if constant else last[1])

    def value(self, step: int) -> float:
        """plan(step): before the first segment its start value, after the last its end value."""
        ramp = self.ramp
        if ramp is None or step >= ramp.start + ramp.steps:
            return self._curve(step)
        f = max(step - ramp.start, 0) / ramp.steps
        return ramp.value + (self._curve(ramp.start + ramp.steps) - ramp.value) * f

    def _curve(self, step: int) -> float:
        start, end, shape, v0, v1, count = self._segments[0]
        for segment in self._segments[1:]:
            if segment[0] > step:
                break
            start, end, shape, v0, v1, count = segment
        length = end - start
        return _shape(shape, min(max(step - start, 0), length), length, v0, v1, count)

    def lr(self, group: int, native: float, step: int) -> float:
        """The LR of `group` at `step`, within the bounds.

        The native LR itself may lie outside them: the user's schedule is theirs, and a factor of
        exactly 1 gives it back to the last bit.
        """
        return self._lr(self.value(step), group, native)

    def lrs(self, native: Sequence[float], step: int) -> list[float]:
        """The LR of every group at `step`: `lr`, with the curve evaluated once."""
        value = self.value(step)
        return [self._lr(value, group, lr) for group, lr in enumerate(native)]

    def _lr(self, value: float, group: int, native: float) -> float:
        ratio = self._ratios[group]
        low, high = self._bounds.low * ratio, self._bounds.high * ratio
        if self._replaces:
            return min(max(value * ratio, low), high)
        if value == 1.0:
            return native
        if value < 1.0:
            return max(native * value, min(native, low))
        return min(native * value, max(native, high))


def plan_to_state(plan: Plan | None) -> dict[str, Any] | None:
    """A plan as plain data for a checkpoint."""
    if plan is None:
        return None
    message = MessageToDict(plan.message, preserving_proto_field_name=True)
    return {"plan": message, "ramp": astuple(plan.ramp) if plan.ramp else None}


def plan_from_state(
    state: dict[str, Any] | None, bounds: Bounds, base_lrs: Sequence[float]
) -> Plan | None:
    """The plan in a checkpoint.

    Raises:
        PlanError: it cannot be followed.
    """
    if state is None:
        return None
    message = ParseDict(state["plan"], model_pb2.Plan(), ignore_unknown_fields=True)
    return Plan(message, bounds, base_lrs, Ramp(*state["ramp"]) if state["ramp"] else None)
