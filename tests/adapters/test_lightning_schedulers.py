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
from support.schedules import MAX_LR, SCHEDULERS

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

    def __init__(self, name: str, daemon: FakeDaemon) -> None:
        super().__init__()
        self.name, self.daemon = name, daemon
        self.net = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 1))
        self.seen: list[list[float]] = []

    def configure_optimizers(self) -> Any:
        optimizer = sgd(self.net)
        made = SCHEDULERS[self.name](optimizer)
        return [optimizer], [{"scheduler": made, "interval": "step", "monitor": "metric"}]

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        if self.global_step == BEGINS:
            self.daemon.decide(scale())
        if self.global_step == ENDS:
            self.daemon.decide(model_pb2.Decision(id=2, action="ACTION_RELEASE", release=True))
        groups = self.trainer.optimizers[0].param_groups
        self.seen.append([group["lr"] for group in groups])

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        self.log("metric", schedules.metric(self.global_step))
        loss: torch.Tensor = self.net(batch).square().mean()
        return loss * float("inf") if self.global_step == SKIPPED else loss


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


def scale() -> model_pb2.Decision:
    segment = model_pb2.Segment(
        shape="SHAPE_CONSTANT", start=0, end=1, start_value=FACTOR, end_value=FACTOR
    )
    plan = model_pb2.Plan(kind="PLAN_KIND_SCALE", segments=[segment])
    return model_pb2.Decision(id=1, action="ACTION_CUT", plan=plan)


def native(name: str) -> list[list[float]]:
    """The LRs that each step runs at without LRPilot, and without Lightning."""
    optimizer = sgd(torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 1)))
    scheduler, lrs = SCHEDULERS[name](optimizer), []
    for k in range(STEPS):
        lrs.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        schedules.step(scheduler, k)
    return lrs


@pytest.mark.parametrize("name", ROWS)
def test_a_fit_with_an_override_keeps_the_native_curve(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    path = tmp_path / "mid.ckpt"
    seen: list[list[float]] = []
    for resume, until in ((None, SAVED), (path, STEPS)):
        daemon = FakeDaemon()
        monkeypatch.setattr(Options, "_connect", lambda _, daemon=daemon: daemon)
        module = Module(name, daemon)
        scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
        trainer = pl.Trainer(
            max_steps=until,
            accelerator="cpu",
            plugins=MixedPrecision("16-mixed", "cpu", scaler),
            callbacks=[Saver(path), LRControllerCallback(run="r", min_lr=1e-9, max_lr=10.0)],
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=False,
        )
        keywords = {} if resume is None else {"ckpt_path": str(resume), "weights_only": False}
        trainer.fit(module, DataLoader(torch.ones(STEPS, 2)), **keywords)
        seen += module.seen
        assert len(daemon.receipts) == 1
        assert scaler.get_scale() < 4.0  # a step was skipped, in the first fit

    expected = native(name)
    assert len(seen) == STEPS
    # A decision is applied at the end of the step that it came in.
    overridden = range(BEGINS + 1, ENDS + 1)
    for k in range(STEPS):
        if k in overridden:
            assert seen[k] == pytest.approx([FACTOR * lr for lr in expected[k]]), f"step {k}"
        else:
            assert seen[k] == expected[k], f"step {k}"
