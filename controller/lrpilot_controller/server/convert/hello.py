"""What a trainer says of itself when it opens a session."""

import math

from lrpilot_controller.core.model import Attempt, ParamGroup
from lrpilot_controller.core.plans import Plan, PlanKind
from lrpilot_controller.errors import InvalidTelemetry
from lrpilot_controller.server.convert.plans import plan_from
from lrpilot_controller.server.convert.sizes import (
    MAX_GROUPS,
    MAX_NAME,
    MAX_SEGMENTS,
    MAX_SIGNALS,
    check_count,
    cut,
)
from lrpilot_controller.server.convert.words import check_decision, check_steps, mode_from
from lrpilot_proto.v1 import session_pb2


def attempt_from(hello: session_pb2.Hello) -> Attempt:
    """The attempt that a Hello describes.

    Raises:
        InvalidTelemetry: a name is missing, a group or bound is not a usable number, or a count of
            steps is one that no run has.
    """
    for field, value in (
        ("run.project", hello.run.project),
        ("run.name", hello.run.name),
        ("attempt", hello.attempt),
        *([("resumes", hello.resumes)] if hello.HasField("resumes") else []),
    ):
        # What does not show could forge a line of the log, or pass for another run's name.
        if not value or "/" in value or len(value) > MAX_NAME or not value.isprintable():
            raise InvalidTelemetry(
                f"hello.{field} is {cut(value, 300)!r}: 1 to {MAX_NAME} characters that can be "
                "seen, without '/', are needed"
            )
    check_count("hello.groups", len(hello.groups), MAX_GROUPS)
    check_count("hello.plan.segments", len(hello.plan.segments), MAX_SEGMENTS)
    check_count("hello.signals", len(hello.signals), MAX_SIGNALS)
    if not hello.groups:
        raise InvalidTelemetry("hello.groups is empty: an optimizer has at least one param group")
    for group in hello.groups:
        if not (math.isfinite(group.base_lr) and group.base_lr >= 0):
            raise InvalidTelemetry(
                f"hello.groups: base_lr of {cut(group.name, MAX_NAME)!r} is {group.base_lr}: a "
                "finite LR >= 0 is needed"
            )
    if not 0 <= hello.min_lr <= hello.max_lr < math.inf:
        raise InvalidTelemetry(
            f"hello bounds are min_lr {hello.min_lr}, max_lr {hello.max_lr}: "
            "0 <= min_lr <= max_lr is needed"
        )
    check_steps(
        "hello",
        start_step=hello.start_step,
        total_steps=hello.total_steps,
        steps_per_epoch=hello.steps_per_epoch,
    )
    check_decision("hello.last_decision_id", hello.last_decision_id)
    plan = plan_from(hello.plan)
    return Attempt(
        id=hello.attempt,
        groups=tuple(
            ParamGroup(cut(group.name, MAX_NAME), group.base_lr) for group in hello.groups
        ),
        min_lr=hello.min_lr,
        max_lr=hello.max_lr,
        optimizer=cut(hello.optimizer, MAX_NAME),
        mode=mode_from(hello.mode),
        search=hello.search,
        start_step=hello.start_step,
        branch=hello.branch,
        total_steps=hello.total_steps if hello.HasField("total_steps") else None,
        steps_per_epoch=hello.steps_per_epoch if hello.HasField("steps_per_epoch") else None,
        resumes=hello.resumes if hello.HasField("resumes") else None,
        can_snapshot=hello.capabilities.snapshot,
        can_stop=hello.capabilities.stop,
        can_program=hello.capabilities.program,
        can_replay=hello.capabilities.replay,
        scheduled=hello.scheduled,
        world_size=hello.world_size,
        scale=_scale(plan),
        job=cut(hello.job),
        client_version=cut(hello.client_version, MAX_NAME),
        plan=plan,
        signals={cut(k, MAX_NAME): cut(v, MAX_NAME) for k, v in hello.signals.items()},
        last_decision=hello.last_decision_id,
    )


def _scale(plan: Plan | None) -> float:
    """The factor that a plan comes to rest at; 1 where it has none."""
    scales = plan is not None and plan.kind is PlanKind.SCALE and plan.end_value > 0
    return plan.end_value if plan is not None and scales else 1.0
