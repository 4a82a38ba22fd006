"""What a user would pick instead of LRPilot, as the libraries that they would install.

`PEERS` names them. Each trains a new task to its end from a base LR, and no step is free. Metrics
that a method asks for (a held-out loss `EVALUATIONS` times in a run) are: they are no steps.
"""

import contextlib
import io
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import dadaptation
import prodigyopt
import schedulefree
import torch
from torch.optim.lr_scheduler import ReduceLROnPlateau

from . import finder, oracle
from .greedy import GreedyLR
from .outcome import Outcome
from .tasks import Task

EVALUATIONS = 50  # in one run, for methods that follow a held-out loss
BATCHES_FOR_STATISTICS = 50  # of BatchNorm, as schedule-free's authors advise

BeforeStep = Callable[[int], None]  # takes the 0-based step
AfterStep = Callable[[int, float], None]  # takes the steps done, and the last one's loss


@dataclass(frozen=True)
class Peer:
    """A method, whether it starts from a base LR, and the package that it is."""

    run: Callable[[Task, float], Outcome]
    needs_base: bool = True
    package: str = "torch"


def fit(
    job: Task,
    optimizer: torch.optim.Optimizer,
    *,
    steps: int | None = None,
    before: BeforeStep = lambda step: None,
    after: AfterStep = lambda done, loss: None,
) -> bool:
    """Trains for so many steps, the task's own number unless given; False: a loss was not finite.

    Dropout draws from the global random state: the caller seeds it.
    """
    job.model.train()
    total = job.total_steps if steps is None else steps
    for step, batch in enumerate(itertools.islice(job.batches(), total)):
        before(step)
        loss = job.loss(batch)
        value = loss.item()
        if not math.isfinite(value):
            return False
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        after(step + 1, value)
    return True


@contextlib.contextmanager
def seeded(job: Task):  # type: ignore[no-untyped-def]
    """Seeds the global random state as the oracle does, and puts it back afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(job.seed)
        yield


def follow(
    optimizer: torch.optim.Optimizer, lr: float, steps: int, schedule: str = "cosine"
) -> BeforeStep:
    """Has the optimizer follow one of the oracle's schedules."""
    factor = oracle.SCHEDULES[schedule]

    def before(step: int) -> None:
        for group in optimizer.param_groups:
            group["lr"] = lr * factor(step, steps)

    return before


def judged(job: Task, healthy: bool) -> float:
    """The held-out loss of the final weights, infinite where a loss was not finite."""
    final = job.validate() if healthy else math.inf
    return final if math.isfinite(final) else math.inf


def constant(job: Task, base_lr: float) -> Outcome:
    """The base LR from the first step to the last."""
    return Outcome(oracle.train(job, "constant", base_lr))


def cosine(job: Task, base_lr: float) -> Outcome:
    """A warm-up of 5 % to the base LR, then a cosine to zero."""
    return Outcome(oracle.train(job, "cosine", base_lr))


def plateau(job: Task, base_lr: float) -> Outcome:
    """torch's ReduceLROnPlateau with its defaults, on the held-out loss."""
    optimizer = job.make_optimizer(base_lr)
    return Outcome(_by_metric(job, optimizer, ReduceLROnPlateau(optimizer).step))


def greedy(job: Task, base_lr: float) -> Outcome:
    """GreedyLR with Hugging Face's defaults, on the held-out loss, as their Trainer feeds it."""
    optimizer = job.make_optimizer(base_lr)
    return Outcome(_by_metric(job, optimizer, GreedyLR(optimizer).step))


def greedy_bounded(job: Task, base_lr: float) -> Outcome:
    """GreedyLR with bounds that fit the base LR, on each step's loss, smoothed.

    The defaults forbid LRs below 1e-3, and leave room for a handful of changes in a run.
    """
    optimizer = job.make_optimizer(base_lr)
    rule = GreedyLR(optimizer, min_lr=base_lr * 1e-4, max_lr=base_lr * 1e4, eps=0.0, smooth=True)
    with seeded(job):
        healthy = fit(job, optimizer, after=lambda done, loss: rule.step(loss))
    return Outcome(judged(job, healthy), lr=rule.lr)


def schedule_free(job: Task, base_lr: float) -> Outcome:
    """schedulefree's SGD or AdamW with a warm-up of 5 %, which its authors recommend."""
    warm_up = math.ceil(oracle.WARM_UP * job.total_steps)
    kind = (
        schedulefree.SGDScheduleFree
        if job.optimizer_name in ("sgd", "sgdm")
        else schedulefree.AdamWScheduleFree
    )
    optimizer = kind(
        job.model.parameters(), lr=base_lr, weight_decay=job.weight_decay, warmup_steps=warm_up
    )
    with seeded(job):
        optimizer.train()
        healthy = fit(job, optimizer)
        optimizer.eval()
        if healthy and any(isinstance(m, torch.nn.BatchNorm1d) for m in job.model.modules()):
            # Its statistics are those of other weights than the ones to be judged.
            with torch.no_grad():
                for inputs, _ in itertools.islice(job.batches(), BATCHES_FOR_STATISTICS):
                    job.model(inputs)
    return Outcome(judged(job, healthy))


def prodigy(job: Task, base_lr: float) -> Outcome:
    """prodigyopt at lr=1 with a cosine to zero and no warm-up, as its authors recommend."""
    with contextlib.redirect_stdout(io.StringIO()):  # it prints about its weight decay
        optimizer = prodigyopt.Prodigy(
            job.model.parameters(),
            lr=1.0,
            weight_decay=job.weight_decay,
            decouple=job.optimizer_name == "adamw",
        )

    def before(step: int) -> None:
        for group in optimizer.param_groups:
            group["lr"] = 0.5 * (1 + math.cos(math.pi * step / job.total_steps))

    with seeded(job):
        return Outcome(judged(job, fit(job, optimizer, before=before)))


def d_adaptation(job: Task, base_lr: float) -> Outcome:
    """dadaptation at lr=1 with the schedule that the task would have: cosine with a warm-up."""
    parameters = job.model.parameters()
    optimizer: torch.optim.Optimizer
    with contextlib.redirect_stdout(io.StringIO()):  # it prints about its weight decay
        if job.optimizer_name in ("sgd", "sgdm"):
            optimizer = dadaptation.DAdaptSGD(
                parameters,
                lr=1.0,
                momentum=0.9 if job.optimizer_name == "sgdm" else 0.0,
                weight_decay=job.weight_decay,
            )
        else:
            optimizer = dadaptation.DAdaptAdam(
                parameters,
                lr=1.0,
                weight_decay=job.weight_decay,
                decouple=job.optimizer_name == "adamw",
            )
    with seeded(job):
        healthy = fit(job, optimizer, before=follow(optimizer, 1.0, job.total_steps))
    return Outcome(judged(job, healthy))


def lr_finder(job: Task, base_lr: float) -> Outcome:
    """Lightning's LR finder with its defaults, then a cosine over the steps that are left.

    It starts at 1e-8 whatever the base LR is, which serves only where it has no suggestion.
    """
    with seeded(job):
        found, spent = finder.find(job, base_lr)
        optimizer = job.make_optimizer(found)
        left = job.total_steps - spent
        healthy = fit(job, optimizer, steps=left, before=follow(optimizer, found, left))
    return Outcome(judged(job, healthy), steps_outside=spent, lr=found)


def _by_metric(job: Task, optimizer: torch.optim.Optimizer, step: Callable[[float], None]) -> float:
    every = max(1, job.total_steps // EVALUATIONS)

    def after(done: int, loss: float) -> None:
        if done % every == 0:
            step(job.validate())

    with seeded(job):
        return judged(job, fit(job, optimizer, after=after))


PEERS = {
    "constant": Peer(constant),
    "cosine": Peer(cosine),
    "plateau": Peer(plateau),
    "greedy": Peer(greedy),
    "greedy-bounded": Peer(greedy_bounded),
    "schedule-free": Peer(schedule_free, package="schedulefree"),
    "prodigy": Peer(prodigy, needs_base=False, package="prodigyopt"),
    "d-adaptation": Peer(d_adaptation, needs_base=False, package="dadaptation"),
    "lr-finder": Peer(lr_finder, needs_base=False, package="pytorch-lightning"),
}
