"""A trainer of one run after another, for `make chaos`; keeps books of its own.

Arguments: address, name, folder, seed. Runs until `<folder>/enough` is there, then brings the run
that it is in to its end. Every second run is searched; the guarded ones are spoilt now and then and
save a checkpoint, from which the next process of this name goes on where this one is killed.
What it knows goes into `<folder>/<name>.books`, one JSON object per line.
"""

import json
import math
import os
import random
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from lrpilot.client import agent
from lrpilot.client.base import Status
from lrpilot.client.timing import Backoff
from lrpilot.pilot import Pilot
from support import digits, training
from support.training import quiet_threads

PAUSE_S = 0.004
STEPS = 500
BETWEEN_BLOW_UPS = 250
CHECKPOINT_EVERY = 60
CALM_S = 60.0


class Trainer:
    """Trains, and writes down what it knows."""

    def __init__(self, address: str, name: str, folder: Path, seed: int) -> None:
        self.address, self.name, self.folder = address, name, folder
        self.chance = random.Random(seed)
        self.books = (folder / f"{name}.books").open("a", buffering=1)
        self.checkpoint = folder / f"{name}.pt"
        self.attempt, self.start = "", 0  # the one whose books are open, and its first step
        self.next_note = 0.0

    def work(self) -> None:
        """Run after run, until it is enough."""
        number = 0
        if self.checkpoint.exists():
            self.guarded(torch.load(self.checkpoint))
        while not (self.folder / "enough").exists():
            number += 1
            self.guarded(None) if number % 2 else self.searched()

    def guarded(self, state: dict[str, Any] | None) -> None:
        """A run that blows up twice, or the rest of one."""
        one = training.job()
        run = state["run"] if state else self.new_name("guarded")
        pilot = training.attach(one, self.address, run)
        if state is not None:
            one.model.load_state_dict(state["model"])
            one.optimizer.load_state_dict(state["optimizer"])
            pilot.load_state_dict(state["pilot"])
        self.begin(pilot, run)
        for made in range(1, STEPS + 1):
            training.train(one, pilot, range(1), pause_s=PAUSE_S)
            self.note(pilot)
            if pilot.should_stop:
                break
            if state is None and made % BETWEEN_BLOW_UPS == BETWEEN_BLOW_UPS // 2:
                one.spoil()
            elif made % CHECKPOINT_EVERY == 0 and math.isfinite(one.loss()):
                self.save(one, pilot, run)
        self.finish(pilot, one.loss, lambda: training.train(one, pilot, range(1), pause_s=PAUSE_S))
        self.checkpoint.unlink(missing_ok=True)

    def save(self, one: training.Job, pilot: Pilot, run: str) -> None:
        """A checkpoint."""
        state = {
            "run": run,
            "pilot": pilot.state_dict(),
            "model": one.model.state_dict(),
            "optimizer": one.optimizer.state_dict(),
        }
        torch.save(state, self.checkpoint.with_suffix(".new"))
        os.replace(self.checkpoint.with_suffix(".new"), self.checkpoint)

    def searched(self) -> None:
        """A run that begins at a wrong LR, too low or too high."""
        one = digits.digits(self.chance.choice([0.03, 3.0]), seed=self.chance.randrange(3))
        run = self.new_name("searched")
        pilot = digits.attach(one, self.address, run, connect_timeout=3.0)
        self.begin(pilot, run)
        digits.train(one, pilot, pause_s=PAUSE_S, after_step=lambda _made: self.note(pilot))
        self.finish(pilot, one.loss, lambda: digits.train(one, pilot, 1, pause_s=PAUSE_S))

    def new_name(self, kind: str) -> str:
        """Of a run."""
        return f"{kind}-{self.name}-{self.chance.getrandbits(48):012x}"

    def begin(self, pilot: Pilot, run: str) -> None:
        """Open the books of an attempt."""
        self.attempt, self.start = pilot.state_dict()["attempt"], pilot.step_count
        self.write(kind="begin", run=run)

    def note(self, pilot: Pilot) -> None:
        """Now and then, what was acknowledged."""
        if time.monotonic() >= self.next_note:
            self.next_note = time.monotonic() + 0.1
            self.write(kind="acknowledged", seq=status(pilot).acked_seq)

    def finish(self, pilot: Pilot, loss: Callable[[], float], step: Callable[[], None]) -> None:
        """Train on until all is well and delivered, and close the books."""
        deadline = time.monotonic() + CALM_S
        while time.monotonic() < deadline and not pilot.should_stop:
            if math.isfinite(loss()) and pilot.summary().connected and status(pilot).unacked < 200:
                break
            step()
            self.note(pilot)
        pilot.close()
        line = status(pilot)
        self.write(
            kind="end",
            items=pilot.step_count - self.start,
            delivered=line.unacked == 0,
            seq=line.acked_seq,
            dropped=line.dropped,
            reached=[decision.id for decision in pilot.decisions],
            stopped=pilot.should_stop,
            finite=math.isfinite(loss()),
            refused=line.refused,
        )

    def write(self, **line: Any) -> None:
        """A line in the books."""
        self.books.write(json.dumps({"attempt": self.attempt, **line}) + "\n")


def status(pilot: Pilot) -> Status:
    """How its line stands; no user needs to know what was acknowledged."""
    assert pilot._transport is not None
    return pilot._transport.status


def main(address: str, name: str, folder: str, seed: str) -> None:
    """Work."""
    quiet_threads()
    # Or most of the time would be spent on waiting for the next try.
    agent.Backoff = partial(Backoff, high_s=0.1)  # type: ignore[assignment, misc]
    trainer = Trainer(address, name, Path(folder), int(seed))
    trainer.work()
    trainer.write(kind="home")


if __name__ == "__main__":
    main(*sys.argv[1:])
