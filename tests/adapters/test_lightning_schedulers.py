"""Every scheduler of torch stays the anchor in a fit of Lightning, by the same table as raw loops.

Each row is one run in two fits: an override, a step that the GradScaler skips, a checkpoint in the
middle of the override, a resume from it, and a release.
"""

import logging
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.precision import MixedPrecision
from torch.utils.data import DataLoader

from lrpilot.lightning import LRControllerCallback
from lrpilot.testing import FakeDaemon
from lrpilot.torch.options import Options
from lrpilot_proto.v1 import model_pb2
from support import schedules
from support.schedules import CYCLES_MOMENTUM, MAX_LR, SCHEDULERS

BEGINS, SKIPPED, SAVED, ENDS, STEPS = 2, 4, 6, 8, 11
FACTOR = 0.37
# Lightning steps what has torch's interface by itself; for others a module overrides a hook.
ROWS = [name for name in SCHEDULERS if name != "another package's"]

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),  # Lightning's advice on workers and GPUs
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


class Module(pl.LightningModule):
    """Two param groups, a scheduler that moves each step, and losses of which one overflows."""

    def __init__(self, name: str, daemon: FakeDaemon, decision: model_pb2.Decision) -> None:
        super().__init__()
        self.name, self.daemon, self.decision = name, daemon, decision
        self.net = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 1))
        self.seen: list[list[float]] = []
        self.momentum: list[list[float]] = []

    def configure_optimizers(self) -> Any:
        optimizer = sgd(self.net)
        made = SCHEDULERS[self.name](optimizer)
        return [optimizer], [{"scheduler": made, "interval": "step", "monitor": "metric"}]

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        if self.global_step == BEGINS:
            self.daemon.decide(self.decision)
        if self.global_step == ENDS:
            self.daemon.decide(model_pb2.Decision(id=2, action="ACTION_RELEASE", release=True))
        groups = self.trainer.optimizers[0].param_groups
        self.seen.append([group["lr"] for group in groups])
        self.momentum.append([group["momentum"] for group in groups])

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        self.log("metric", schedules.metric(self.global_step))
        loss: torch.Tensor = self.net(batch).square().mean()
        return loss * float("inf") if self.global_step == SKIPPED else loss


class Unfreezer(pl.Callback):
    """Adds a param group in mid-run, as Lightning's BaseFinetuning does."""

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == BEGINS + 2:
            extra = {"params": [torch.nn.Parameter(torch.ones(1))], "lr": 0.05}
            trainer.optimizers[0].add_param_group(extra)


class Saver(pl.Callback):
    """Saves a checkpoint after the last step, once a scheduler that follows a metric was told."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_end(self, trainer: pl.Trainer, *_: Any) -> None:
        trainer.save_checkpoint(self.path)


def sgd(net: torch.nn.Sequential) -> torch.optim.Optimizer:
    lrs = (MAX_LR, MAX_LR / 7)
    groups = [{"params": net[i].parameters(), "lr": lr} for i, lr in enumerate(lrs)]
    return torch.optim.SGD(groups, momentum=0.9)


def plan(kind: str, value: float) -> model_pb2.Decision:
    segment = model_pb2.Segment(
        shape="SHAPE_CONSTANT", start=0, end=1, start_value=value, end_value=value
    )
    followed = model_pb2.Plan(kind=f"PLAN_KIND_{kind}", segments=[segment])
    return model_pb2.Decision(id=1, action="ACTION_PLAN", plan=followed)


def native(name: str) -> tuple[list[list[float]], list[list[float]]]:
    """The LRs and momenta that each step runs at without LRPilot, and without Lightning."""
    optimizer = sgd(torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 1)))
    scheduler, lrs, momenta = SCHEDULERS[name](optimizer), [], []
    for k in range(STEPS):
        lrs.append([group["lr"] for group in optimizer.param_groups])
        momenta.append([group["momentum"] for group in optimizer.param_groups])
        optimizer.step()
        schedules.step(scheduler, k)
    return lrs, momenta


@pytest.fixture(autouse=True)
def _quiet() -> None:
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)


def fit(
    module: Module, steps: int, *callbacks: pl.Callback, resume: Path | None = None, **settings: Any
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Options, "_connect", lambda _: module.daemon)
        trainer = pl.Trainer(
            max_steps=steps,
            accelerator="cpu",
            callbacks=[*callbacks, LRControllerCallback(run="r", min_lr=1e-9, max_lr=10.0)],
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=False,
            **settings,
        )
        keywords = {} if resume is None else {"ckpt_path": str(resume), "weights_only": False}
        trainer.fit(module, DataLoader(torch.ones(STEPS, 2)), **keywords)


# A decision is applied at the end of the step that it came in.
OVERRIDDEN = range(BEGINS + 1, ENDS + 1)


@pytest.mark.parametrize("name", ROWS)
def test_a_fit_with_an_override_keeps_the_native_curve(name: str, tmp_path: Path) -> None:
    path = tmp_path / "mid.ckpt"
    seen: list[list[float]] = []
    for resume, until in ((None, SAVED), (path, STEPS)):
        module = Module(name, FakeDaemon(), plan("SCALE", FACTOR))
        scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
        precision = MixedPrecision("16-mixed", "cpu", scaler)
        fit(module, until, Saver(path), resume=resume, plugins=precision)
        seen += module.seen
        assert len(module.daemon.receipts) == 1
        assert scaler.get_scale() < 4.0  # a step was skipped, in the first fit

    expected, _ = native(name)
    assert len(seen) == STEPS
    for k in range(STEPS):
        if k in OVERRIDDEN:
            assert seen[k] == pytest.approx([FACTOR * lr for lr in expected[k]]), f"step {k}"
        else:
            assert seen[k] == expected[k], f"step {k}"


@pytest.mark.parametrize("name", CYCLES_MOMENTUM)
def test_momentum_stays_the_schedulers_where_the_lr_is_replaced(name: str) -> None:
    module = Module(name, FakeDaemon(), plan("REPLACE", 0.03))
    fit(module, STEPS)
    lrs, momenta = native(name)
    assert module.momentum == momenta
    ratio = lrs[0][1] / lrs[0][0]
    for k in range(STEPS):
        if k in OVERRIDDEN:
            assert module.seen[k] == pytest.approx([0.03, 0.03 * ratio])
        else:
            assert module.seen[k] == lrs[k], f"step {k}"


def test_a_group_that_a_callback_adds_keeps_its_own_lr() -> None:
    module = Module("StepLR", FakeDaemon(), plan("SCALE", FACTOR))
    fit(module, STEPS, Unfreezer())
    lrs, _ = native("StepLR")
    for k in range(STEPS):
        factor = FACTOR if k in OVERRIDDEN else 1.0
        assert module.seen[k][:2] == pytest.approx([factor * lr for lr in lrs[k]])
    added = [row[2] for row in module.seen[BEGINS + 2 :]]
    assert added[0] == 0.05
    assert sorted(set(added), reverse=True) == pytest.approx([0.05 * 0.7**n for n in range(3)])
