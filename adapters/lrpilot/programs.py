"""Programs: probes that the trainer carries out by itself, step by step, until they end."""

import enum
import math
from collections.abc import Sequence

from lrpilot.client.base import Status
from lrpilot.plan import Bounds, Plan, PlanError
from lrpilot_proto.v1 import model_pb2, session_pb2


class Phase(enum.Enum):
    """Where a search stands in this process."""

    OFF = "off"
    RUNNING = "running"  # a program is open
    ASIDE = "aside"  # it is open, and the run's own state is live meanwhile
    DUE = "due"  # it ended; the daemon's word is awaited at the next step boundary


class StopWatch:
    """Watches a program's losses for its stop rule.

    Args:
        rule: when to stop; an empty one never does.

    Attributes:
        reason: why it stopped, in the words of `ProgramResult.stop_reason`; empty until then.
    """

    def __init__(self, rule: model_pb2.StopRule) -> None:
        self._rule = rule
        self._caps = [name for name in ("loss_cap", "ema_cap", "ema_rise") if rule.HasField(name)]
        self._ema: float | None = None
        self._lowest = math.inf
        self.reason = ""

    def heard(self, loss: float) -> None:
        """Take the next loss; once the rule has stopped, nothing changes any more."""
        if not self.reason:
            self.reason = self._judge(loss)

    def _judge(self, loss: float) -> str:
        rule = self._rule
        if not math.isfinite(loss):  # above every cap, and no number for an average
            return "non_finite" if rule.non_finite else next(iter(self._caps), "")
        if self._ema is None:
            self._ema = loss
        else:
            self._ema = rule.ema_decay * self._ema + (1 - rule.ema_decay) * loss
        self._lowest = min(self._lowest, self._ema)
        values = {"loss_cap": loss, "ema_cap": self._ema, "ema_rise": self._ema - self._lowest}
        return next((name for name in self._caps if values[name] > getattr(rule, name)), "")


class OpenProgram:
    """One program under way, and what must happen at its end.

    Args:
        message: the program.
        plan: its LRs, in absolute steps.
        fallback: what is followed when no word comes after it; None is the native LR.
        first_step: the step that runs first.
        own_slot: where the run's own state lies, which a person may see meanwhile.
        end_slot: what is restored at its end; None keeps the state that it ended in.
        fallback_slot: what is restored before the fallback plan; None keeps the state.
        waited: seconds that the training thread waited for it.
    """

    def __init__(
        self,
        message: model_pb2.Program,
        plan: Plan,
        fallback: Plan | None,
        *,
        first_step: int,
        own_slot: int,
        end_slot: int | None,
        fallback_slot: int | None,
        waited: float,
    ) -> None:
        self.message = message
        self.plan = plan
        self.fallback = fallback
        self.first_step = first_step
        self.own_slot = own_slot
        self.end_slot = end_slot
        self.fallback_slot = fallback_slot
        self.waited = waited
        self.losses: list[float] = []
        self._watch = StopWatch(message.stop)

    def heard(self, loss: float) -> None:
        """Take the loss of its next step."""
        self.losses.append(loss)
        self._watch.heard(loss)

    def end(self, step: int) -> str:
        """Why it is over before `step` runs, or an empty text.

        A loss that arrived late may name the stop rule where the steps alone say `length`.
        """
        if self._watch.reason:
            return self._watch.reason
        return "length" if step - self.first_step >= self.message.length else ""

    def result(self, reason: str, step: int, branch: int) -> session_pb2.ProgramResult:
        """What it found, once it ended before `step` for this reason."""
        return session_pb2.ProgramResult(
            id=self.message.id,
            first_step=self.first_step,
            losses=self.losses,
            stop_reason=self.end(step) if reason == "length" else reason,
            wait_seconds=self.waited,
            branch=branch,
        )

    def fell_back(
        self, reason: str, step: int, branch: int, waited: float
    ) -> session_pb2.FallbackTaken:
        """That its fallback is followed from `step` on, after `waited` seconds."""
        return session_pb2.FallbackTaken(
            program=self.message.id, step=step, branch=branch, reason=reason, wait_seconds=waited
        )


def why_no_word(status: Status, waited: float) -> str:
    """Why nobody says what comes after a program, `waited` seconds after its end."""
    if status.refused is not None:
        return f"the daemon refused this run: {status.refused}"
    if not status.connected:
        return "the line to the daemon is lost"
    return f"no word came within {waited:.2f} s"


def progress_of(message: model_pb2.Program) -> str:
    """How far a search is, in one line for a person."""
    return (
        f"LRPilot search: {message.phase or 'program'}, LR {message.lr:.3g}, "
        f"{100 * message.share:.0f} % of its budget"
    )


def plan_of(
    program: model_pb2.Program, first_step: int, bounds: Bounds, base_lrs: Sequence[float]
) -> Plan:
    """A program's LRs from `first_step` on; they may be 0, below the run's own bounds.

    Raises:
        PlanError: they cannot be followed, or the program has no steps or no number.
    """
    if program.id == 0 or program.length < 1:
        raise PlanError(f"program {program.id} of {program.length} steps: both must be 1 or more")
    message = model_pb2.Plan(kind=model_pb2.PLAN_KIND_REPLACE, segments=program.segments)
    for segment in message.segments:
        segment.start += first_step
        segment.end += first_step
    return Plan(message, Bounds(0.0, bounds.high), base_lrs)


def fallback_of(
    program: model_pb2.Program, bounds: Bounds, base_lrs: Sequence[float]
) -> Plan | None:
    """What is followed when no word comes; None, the native LR, where it has no segment.

    Raises:
        PlanError: it cannot be followed.
    """
    if not program.fallback.segments:
        return None
    return Plan(program.fallback, bounds, base_lrs)


def still(bounds: Bounds, base_lrs: Sequence[float]) -> Plan:
    """A plan that moves no weight."""
    segment = model_pb2.Segment(shape=model_pb2.SHAPE_CONSTANT, start=0, end=1)
    plan = model_pb2.Plan(kind=model_pb2.PLAN_KIND_REPLACE, segments=[segment])
    return Plan(plan, Bounds(0.0, bounds.high), base_lrs)


def id_in(message: model_pb2.Program | model_pb2.Decision, name: str) -> int | None:
    """The snapshot in a field, if it is set; ids begin at 1."""
    return getattr(message, name) if message.HasField(name) else None
