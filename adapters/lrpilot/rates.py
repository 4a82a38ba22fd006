"""A run's learning rates at step boundaries: the native ones, the plan on them, what is applied."""

import math
from collections.abc import Callable, Sequence

from lrpilot.plan import Bounds, Plan
from lrpilot.trainer import TrainerPort
from lrpilot_proto.v1 import model_pb2


class Rates:
    """Writes what the plan makes of the native LRs, and notices what others write.

    `step` is the step that runs next (after `read`) or that was just made (before it); the pilot
    moves it on.

    Args:
        trainer: where LRs are read and written.
        bounds: of the first param group's LR.
        on_foreign: told once, with a text for the user, when something else writes an LR that a
            plan is in force for.
    """

    def __init__(
        self, trainer: TrainerPort, bounds: Bounds, on_foreign: Callable[[str], None]
    ) -> None:
        self.step = 0
        self.plan: Plan | None = None
        self.bounds = bounds
        self.base_lrs = tuple(trainer.base_lrs)
        self._trainer = trainer
        self._on_foreign = on_foreign
        self._foreign = False
        self._seen = trainer.get_lrs()  # by the last read, and as the row that reports it
        self._row = tuple(self._seen)
        self._written = self._seen  # by us, or accepted: anything else is somebody else's
        trainer.on_native_change(self._lr_for)

    @property
    def row(self) -> tuple[float, ...]:
        """The LRs as last read."""
        return self._row

    def in_force(self, kind: int) -> float:
        """What is in force now, as a value of a plan of this kind: a factor, or an LR."""
        if kind == (self.plan.message.kind if self.plan else model_pb2.PLAN_KIND_SCALE):
            return 1.0 if self.plan is None else self.plan.value(self.step)
        lr = self._trainer.get_lrs()[0]
        if kind == model_pb2.PLAN_KIND_REPLACE:
            return lr
        native = self._trainer.get_native_lrs()[0]
        return lr / native if native > 0 else 1.0

    def read(self) -> tuple[float, ...]:
        """The LRs that the step just made ran at, one per group."""
        lrs = self._trainer.get_lrs()
        used = self._trainer.used_lrs or lrs
        if used != self._seen:
            self._seen, self._row = used, tuple(used)
        if lrs != self._written:
            self._moved(lrs)
        return self._row

    def follow(self, plan: Plan | None) -> None:
        """Let `plan` decide from this step on; None gives the native LRs back."""
        self.plan = plan
        self.write()

    def set_native(self, lrs: Sequence[float]) -> None:
        """Take these for the native LRs, and write what follows from them."""
        self._trainer.set_native_lrs(lrs)
        self.write()

    def advance(self) -> None:
        """Write the LRs of this step, if the plan's curve is still moving."""
        if self.plan is not None and self.step <= self.plan.moves_until:
            self.write()

    def write(self) -> None:
        """Write the LRs of this step."""
        self._trainer.set_lrs(self._expected())
        self._written = self._trainer.get_lrs()

    def _lr_for(self, group: int, native: float) -> float:
        return native if self.plan is None else self.plan.lr(group, native, self.step)

    def _expected(self) -> list[float]:
        native = self._trainer.get_native_lrs()
        return native if self.plan is None else self.plan.lrs(native, self.step)

    def _moved(self, lrs: list[float]) -> None:
        """The LRs are not what was written last: the user's scheduler, or somebody else."""
        expected = self._expected()
        if len(lrs) == len(expected) and all(map(_same, lrs, expected)):  # the user's scheduler
            self._written = lrs
            return
        if self.plan is None:
            self._trainer.set_native_lrs(lrs)
            self._written = lrs
            return
        native = self._trainer.get_native_lrs()
        rows = zip(lrs, self._written, native, strict=True)
        self._trainer.set_native_lrs([_native_after(*row) for row in rows])
        if not self._foreign:
            self._foreign = True
            self._on_foreign(
                f"step {self.step}: LRPilot had set the LR to {_told(self._written)} and it is "
                f"{_told(lrs)}: something else writes it, so that what LRPilot decides may never "
                "be in force. Pass a scheduler as lrpilot.attach(..., scheduler=...); a loop that "
                "writes group['lr'] itself can be one: torch.optim.lr_scheduler.LambdaLR"
            )
        self.write()


def _told(lrs: Sequence[float]) -> str:
    return ", ".join(f"{lr:.4g}" for lr in lrs)


def _same(lr: float, expected: float) -> bool:
    """Whether one is the other; a tensor LR of 32 bits holds no more of it."""
    return lr == expected or math.isclose(lr, expected, rel_tol=1e-6)


def _native_after(lr: float, applied: float, native: float) -> float:
    """The native LR after a foreign writer turned `applied` into `lr`.

    A scheduler in closed form wrote its own native LR; a recursive one multiplied what it found.
    The nearer of the two, as ratios, is taken.
    """
    if lr <= 0 or applied <= 0 or native <= 0:
        return lr
    recursive, closed = lr / applied, lr / native
    return lr if max(closed, 1 / closed) <= max(recursive, 1 / recursive) else native * recursive
