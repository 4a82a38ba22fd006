"""Trains the demo's task at a wrong learning rate, alone or under LRPilot; says what came of it.

Each training is a `Job` that another process can run: plain data in, plain data out.
"""

import hashlib
import logging
import math
import multiprocessing
import time
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

import lrpilot
from lrpilot.decisions import AppliedDecision
from lrpilot.demo.task import BEST_LR, TOTAL_STEPS, DemoTask, demo_task
from support.training import quiet_threads

# A run that was non-finite for so long is lost: weights that are NaN stay NaN.
GIVE_UP_AFTER = 25


@dataclass(frozen=True)
class Job:
    """One training of the demo's task.

    `address` names a daemon, None means alone; an alone run that is lost is not trained to its end.
    """

    seed: int
    multiplier: float
    address: str | None = None
    steps: int = TOTAL_STEPS
    framework: str = "raw"  # or lightning

    @property
    def name(self) -> str:
        """Names the run in the daemon's journal."""
        return f"{self.framework}-seed{self.seed}-x{self.multiplier:g}"


@dataclass(frozen=True)
class Result:
    """What became of a job; `digest` is equal for weights that are equal to the last bit."""

    job: Job
    steps: int
    val_loss: float
    first_nonfinite: int | None
    decisions: tuple[AppliedDecision, ...]
    digest: str
    seconds: float


def train(job: Job) -> Result:
    """Train a job to its end, on one thread."""
    quiet_threads()
    logging.getLogger("lrpilot").setLevel(logging.ERROR)
    task = demo_task(job.seed)
    begin = time.perf_counter()
    losses, decisions = (_raw if job.framework == "raw" else _lightning)(job, task)
    return Result(
        job=job,
        steps=len(losses),
        val_loss=task.validate(),
        first_nonfinite=next((k for k, x in enumerate(losses) if not math.isfinite(x)), None),
        decisions=tuple(decisions),
        digest=_digest(task.model),
        seconds=time.perf_counter() - begin,
    )


def train_all(jobs: Sequence[Job], processes: int = 2) -> Iterator[Result]:
    """Train jobs side by side, each in a process that holds no other's threads or channels."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=spawn) as pool:
        yield from pool.map(train, jobs)


Trained = tuple[list[float], list[AppliedDecision]]


def _raw(job: Job, task: DemoTask) -> Trained:
    optimizer = task.optimizer(BEST_LR * job.multiplier)
    losses: list[float] = []
    attached = (
        nullcontext()
        if job.address is None
        else lrpilot.attach(
            optimizer,
            model=task.model,
            total_steps=job.steps,
            run=job.name,
            search=False,
            address=job.address,
        )
    )
    with attached as pilot:
        for batch in task.batches():
            loss = task.loss(batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            if pilot is not None:
                pilot.step(loss)
            if len(losses) == job.steps or (pilot and pilot.should_stop) or _lost(job, losses):
                break
    return losses, pilot.decisions if pilot else []


def _lightning(job: Job, task: DemoTask) -> Trained:
    import pytorch_lightning as pl

    from lrpilot.lightning import LRControllerCallback

    class Module(pl.LightningModule):
        """The demo's task as Lightning wants it."""

        def __init__(self) -> None:
            super().__init__()
            self.net = task.model

        def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
            loss = task.loss(batch)
            losses.append(loss.item())
            if _lost(job, losses):
                self.trainer.should_stop = True
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return task.optimizer(BEST_LR * job.multiplier)

    losses: list[float] = []
    guards = []
    if job.address is not None:
        guards.append(LRControllerCallback(run=job.name, search=False, address=job.address))
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # advice about workers and loggers
        trainer = pl.Trainer(
            max_steps=job.steps,
            accelerator="cpu",
            callbacks=guards,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(Module(), _Endless(task))
    return losses, [decision for guard in guards for decision in guard.pilot.decisions]


class _Endless(torch.utils.data.IterableDataset):  # type: ignore[type-arg]
    """The task's batches as they are; a DataLoader would batch them again."""

    def __init__(self, task: DemoTask) -> None:
        self._task = task

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return self._task.batches()


def _lost(job: Job, losses: list[float]) -> bool:
    """Whether nothing more can be learnt from a run that nobody guards."""
    last = losses[-GIVE_UP_AFTER:]
    full = len(last) == GIVE_UP_AFTER
    return job.address is None and full and not any(map(math.isfinite, last))


def _digest(model: nn.Module) -> str:
    whole = hashlib.sha256()
    for tensor in model.state_dict().values():
        whole.update(tensor.numpy().tobytes())
    return whole.hexdigest()
