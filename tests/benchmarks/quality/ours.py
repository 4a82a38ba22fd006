"""LRPilot in a raw loop, through a real daemon, and what its journal says that it did."""

import contextlib
import logging
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lrpilot
from lrpilot_controller.core import events
from lrpilot_controller.core.findings import SearchEnd
from lrpilot_controller.core.model import DecisionStatus
from lrpilot_controller.journal.base import Record, RunKey
from lrpilot_controller.journal.sql import SqlJournal

from . import oracle
from .ablations import ABLATIONS
from .outcome import Outcome
from .peers import judged, seeded
from .tasks import Task, task

CONNECT_S = 30.0
TRIAL_S = 20.0


@dataclass(frozen=True)
class Variant:
    """A way to use LRPilot.

    Attributes:
        search: What `lrpilot.attach` is asked for.
        replay: The loop's batches come through `pilot.batches`.
        earlier: The project holds an earlier run of the job, from the same base LR on another seed.
        config: The daemon's, in TOML.
        ablation: What is taken out of the daemon's search.
    """

    search: bool = True
    replay: bool = True
    earlier: bool = False
    config: str = ""
    ablation: str | None = None


# The guard's answers to blow-ups alone: what else it does in mid-run must be better than that.
STILL = '[signals]\noscillation = "say"\ntoo_high = "say"\n'
USES = {
    "lrpilot": Variant(),
    "lrpilot-plain": Variant(replay=False),
    "lrpilot-trust": Variant(earlier=True, config='[search]\nreuse = "trust"\n'),
    "lrpilot-check": Variant(earlier=True),
    "lrpilot-guard": Variant(search=False, replay=False),
    "lrpilot-still": Variant(search=False, replay=False, config=STILL),
}
ABLATED = {name: Variant(ablation=name) for name in ABLATIONS}
VARIANTS = USES | ABLATED


class Meter:
    """Counts the steps on the way to the weights as they are now.

    Attached as a part of the training state, it goes back with the weights: what was spent and is
    not counted at the end lies outside the final trajectory, whatever the daemon says of it.
    """

    def __init__(self) -> None:
        self.steps = 0

    def state_dict(self) -> dict[str, Any]:
        """The count, to be kept in a snapshot."""
        return {"steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Back to the count of a snapshot."""
        self.steps = state["steps"]


def run(job: Task, base_lr: float, method: str, folder: Path) -> Outcome:
    """Trains a new task to its end under the daemon that lives in `folder`."""
    variant = VARIANTS[method]
    # A project of its own: no run but the intended one may learn from another.
    project = f"{method}-{job.name}-{job.seed}-{base_lr:.6g}-{job.total_steps}"
    if variant.earlier:
        long = job.total_steps == oracle.LONG
        other = task(job.name, oracle.other_seed(job.seed, long=long), job.total_steps)
        train(other, base_lr, variant, project, "earlier", folder)
        await_trials(folder, project, 1)
    return run_as(job, base_lr, variant, project, "run", folder)


def run_as(
    job: Task, base_lr: float, variant: Variant, project: str, name: str, folder: Path
) -> Outcome:
    """Trains a new task to its end, as this run of this project."""
    spent, meter = train(job, base_lr, variant, project, name, folder)
    final = judged(job, healthy=True)
    told = records(folder, project, name)
    return _outcome(final, spent - meter.steps, told, searched=variant.search)


def train(
    job: Task, base_lr: float, variant: Variant, project: str, name: str, folder: Path
) -> tuple[int, Meter]:
    """Trains; returns the optimizer steps that it took, and the meter.

    Raises:
        RuntimeError: The daemon did not control the run: there is nothing to be measured.
    """
    logging.getLogger("lrpilot").setLevel(logging.ERROR)
    meter = Meter()
    optimizer = job.make_optimizer(base_lr)
    with (
        seeded(job),
        lrpilot.attach(
            optimizer,
            model=job.model,
            total_steps=job.total_steps,
            project=project,
            run=name,
            search=variant.search,
            stateful=(meter,),
            address=f"unix:{folder / 'd.sock'}",
            connect_timeout=CONNECT_S,
        ) as pilot,
    ):
        job.model.train()
        batches = job.batches()
        for batch in pilot.batches(batches) if variant.replay else batches:
            loss = job.loss(batch)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            meter.steps += 1
            pilot.step(loss)
            if pilot.step_count >= job.total_steps or pilot.should_stop:
                break
        pilot.settle()
        summary = pilot.summary()
    if not summary.connected:
        raise RuntimeError(f"{project}/{name} was not connected: {summary.refused or summary}")
    return summary.steps, meter


def await_trials(folder: Path, project: str, count: int) -> None:
    """Waits until the daemon has written down so many runs of a project: people wait longer."""
    trials, study = folder / "store" / "optuna.db", f"{project}/runs"
    query = (
        "SELECT count(*) FROM trials JOIN studies USING (study_id) "
        "WHERE study_name = ? AND state = 'COMPLETE'"
    )
    deadline = time.monotonic() + TRIAL_S
    while time.monotonic() < deadline and _count(trials, query, study) < count:
        time.sleep(0.1)


def _count(database: Path, query: str, name: str) -> int:
    try:
        with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as file:
            return int(file.execute(query, (name,)).fetchone()[0])
    except sqlite3.OperationalError:  # not there yet
        return 0


def records(folder: Path, project: str, name: str) -> list[Record]:
    """What the journal of the daemon that lives in `folder` holds of a run."""
    journal = SqlJournal.open(folder / "store" / "journal.db", readonly=True)
    try:
        return list(journal.records(RunKey(project, name)))
    finally:
        journal.close()


def _outcome(final: float, steps_outside: int, records: list[Record], searched: bool) -> Outcome:
    waits: list[float] = []
    ramps: dict[int, int] = {}
    lr: float | None = None
    declined, note = searched, "no search began" if searched else ""
    for record in records:
        match record.event:
            case events.Decided(decision):
                ramps[decision.id] = decision.ramp_steps
            case events.ReceiptArrived(receipt=receipt):
                waits.append(receipt.wait_seconds)
                if receipt.status is DecisionStatus.APPLIED:
                    steps_outside += ramps.get(receipt.decision_id, 0)
            case events.FellBack(wait_seconds=wait):
                waits.append(wait)
            case events.SearchEnded(result=result):
                declined = result.end not in (SearchEnd.FOUND, SearchEnd.REUSED)
                lr = None if declined else result.lr
                note = f"{result.end}: {result.reason}" if declined else ""
    waits = [wait for wait in waits if wait > 0]
    return Outcome(
        final,
        steps_outside=steps_outside,
        lr=lr,
        waits=len(waits),
        wait_s=sum(waits),
        longest_wait_s=max(waits, default=0.0),
        declined=declined,
        note=note,
    )
