"""The run of a user who has LRPilot, with its defaults, through a real daemon."""

import itertools
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import lrpilot
from benchmarks.quality.ours import CONNECT_S, Meter, records
from benchmarks.quality.outcome import Outcome
from benchmarks.quality.peers import judged, seeded
from lrpilot_controller.core import events
from lrpilot_controller.core.model import Action, DecisionStatus
from lrpilot_controller.journal.base import Record

from .scenario import Scenario

DAEMON = "lrpilot-guard"  # the quality benchmark's name for a daemon with its defaults
STOPPED = "stopped by LRPilot"


@dataclass(frozen=True)
class Story:
    """What LRPilot did: how often it rolled back, and its decisions as "action, status"."""

    rollbacks: int
    decisions: dict[str, int]


def run(what: Scenario, folder: Path, name: str, *, direct: bool = False) -> tuple[Outcome, Story]:
    """Trains a new task to its end under the daemon that lives in `folder`.

    Args:
        what: The user's run.
        folder: The daemon's.
        name: Of the run, in a project of its own.
        direct: The user has no scheduler: the loop writes `group["lr"]` where it is to change.

    Raises:
        RuntimeError: The daemon did not control the run: there is nothing to be measured.
    """
    logging.getLogger("lrpilot").setLevel(logging.ERROR)
    project = f"{what.name}-{what.seed}-x{what.factor:g}-{what.schedule}"
    job, meter = what.job(), Meter()
    optimizer = job.make_optimizer(what.lr)
    scheduler = None if direct else what.scheduler(optimizer)
    with (
        seeded(job),
        lrpilot.attach(
            optimizer,
            model=job.model,
            scheduler=scheduler,
            total_steps=what.steps,
            project=project,
            run=name,
            search=False,
            stateful=(meter,),
            address=f"unix:{folder / 'd.sock'}",
            connect_timeout=CONNECT_S,
        ) as pilot,
    ):
        job.model.train()
        for step, batch in enumerate(itertools.islice(job.batches(), what.steps)):
            if direct and what.rate(step) != what.rate(max(0, step - 1)):
                for group in optimizer.param_groups:
                    group["lr"] = what.lr * what.rate(step)
            loss = job.loss(batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if scheduler is not None:
                scheduler.step()
            meter.steps += 1
            pilot.step(loss)
            if pilot.should_stop:
                break
        pilot.settle()
        stopped = pilot.should_stop
        summary = pilot.summary()
    if not summary.connected:
        raise RuntimeError(f"{project}/{name} was not connected: {summary.refused or summary}")
    outcome = Outcome(
        judged(job, healthy=True),
        steps_outside=summary.steps - meter.steps,
        wait_s=summary.wait_seconds,
        note=STOPPED if stopped else "",
    )
    return outcome, story(records(folder, project, name))


def story(told: Sequence[Record]) -> Story:
    """What a journal says that LRPilot did."""
    actions: dict[int, Action] = {}
    became: dict[int, DecisionStatus] = {}
    for record in told:
        match record.event:
            case events.Decided(decision):
                actions[decision.id] = decision.action
            case events.ReceiptArrived(receipt=receipt):
                became[receipt.decision_id] = receipt.status
    counts = Counter(f"{action}, {became.get(id, 'unanswered')}" for id, action in actions.items())
    rollbacks = counts[f"{Action.ROLLBACK}, {DecisionStatus.APPLIED}"]
    return Story(rollbacks, dict(sorted(counts.items())))
