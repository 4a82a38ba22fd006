"""One training of the demo's task, as anybody's loop would do it."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from lrpilot.demo.task import TOTAL_STEPS, demo_task
from lrpilot.pilot import Pilot
from lrpilot.torch.attach import attach

PROJECT = "demo"
# Weights that are NaN stay NaN: after so many such losses in a row an unguarded run is lost.
LOST_AFTER = 50
# The validation loss at the best constant LR, by (seed, steps), as `--reference` measures it.
RECORDED = {(0, TOTAL_STEPS): 2.154}

OnStep = Callable[[int, float, float], None]


@dataclass(frozen=True)
class Trained:
    """What a training left behind.

    Attributes:
        losses: of each step, in order.
        val_loss: of the weights at the end; NaN where they are.
        seconds: of wall time, connecting to a daemon included.
    """

    losses: list[float]
    val_loss: float
    seconds: float

    @property
    def lost_at(self) -> int | None:
        """The step from which on every loss was non-finite; None where the last one was finite."""
        step = len(self.losses)
        while step and not math.isfinite(self.losses[step - 1]):
            step -= 1
        return step if step < len(self.losses) else None


def train_alone(seed: int, lr: float, steps: int, on_step: OnStep) -> Trained:
    """Train at a constant LR; a run that is lost is not trained to its end."""
    begin = time.perf_counter()
    task = demo_task(seed)
    optimizer = task.optimizer(lr)
    losses: list[float] = []
    lost = 0
    for batch in task.batches():
        loss = task.loss(batch)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
        on_step(len(losses), losses[-1], lr)
        lost = 0 if math.isfinite(losses[-1]) else lost + 1
        if len(losses) >= steps or lost >= LOST_AFTER:
            break
    return Trained(losses, task.validate(), time.perf_counter() - begin)


def train_guarded(
    name: str, seed: int, lr: float, steps: int, on_step: OnStep
) -> tuple[Trained, Pilot]:
    """Train under LRPilot as the run `name`; the pilot is returned open, to be asked and closed."""
    begin = time.perf_counter()
    task = demo_task(seed)
    optimizer = task.optimizer(lr)
    pilot = attach(
        optimizer, model=task.model, total_steps=steps, project=PROJECT, run=name, search=False
    )
    losses: list[float] = []
    try:
        for batch in task.batches():
            loss = task.loss(batch)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            pilot.step(loss)
            losses.append(loss.item())
            on_step(len(losses), losses[-1], pilot.lrs[0])
            if len(losses) >= steps or pilot.should_stop:
                break
        val_loss = task.validate()
        pilot.validate(val_loss)
    except BaseException:
        pilot.close("error")
        raise
    return Trained(losses, val_loss, time.perf_counter() - begin), pilot
