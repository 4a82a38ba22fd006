"""Lightning has two names, and a class tree under each: the callback is of both."""

import importlib
import importlib.util
import logging
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from lrpilot.lightning import LRControllerCallback, packages
from lrpilot.testing import FakeDaemon
from lrpilot.torch.options import Options
from support.fits import LR, QUIET, cut, pilot_of, rows

NAMES = ["lightning.pytorch", "pytorch_lightning"]

pytestmark = QUIET


@pytest.fixture(params=NAMES)
def package(request: pytest.FixtureRequest) -> Any:
    module = pytest.importorskip(request.param)
    logging.getLogger(request.param).setLevel(logging.ERROR)
    return module


def module_of(package: Any, daemon: FakeDaemon) -> Any:
    class Module(package.LightningModule):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(3)
            self.net = torch.nn.Linear(4, 1)
            self.seen_lrs: list[float] = []

        def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
            self.seen_lrs.append(self.trainer.optimizers[0].param_groups[0]["lr"])
            if len(self.seen_lrs) == 6:
                daemon.decide(cut(0.5))

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return (self.net(batch[0]) - batch[1]).square().mean()

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.log("val_loss", (self.net(batch[0]) - batch[1]).square().mean())

        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.SGD(self.parameters(), lr=LR)
            return [optimizer], [torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)]

    return Module()


def test_a_trainer_of_either_tree_takes_it(
    package: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    daemon, callback = FakeDaemon(), LRControllerCallback()
    monkeypatch.setattr(Options, "_connect", lambda _: daemon)
    module = module_of(package, daemon)
    callbacks = importlib.import_module(f"{package.__name__}.callbacks")
    logger = importlib.import_module(f"{package.__name__}.loggers").CSVLogger(tmp_path)
    saver = callbacks.ModelCheckpoint(tmp_path, save_last=True)
    trainer = package.Trainer(
        max_epochs=2,
        accelerator="cpu",
        logger=logger,
        log_every_n_steps=1,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[
            callback,
            callbacks.LearningRateMonitor("step"),
            callbacks.EarlyStopping("val_loss"),
            saver,
        ],
    )
    trainer.fit(module, DataLoader(rows(), 8), DataLoader(rows(), 32))
    assert isinstance(callback, package.Callback)
    assert module.seen_lrs == [LR] * 6 + [LR / 2] * 2 + [LR / 4] * 8
    assert len(daemon.losses) == 16
    assert [decision.status for decision in pilot_of(callback).decisions] == ["applied"]
    assert "LRControllerCallback" in torch.load(tmp_path / "last.ckpt")["callbacks"]
    assert sum("EarlyStopping" in record.message for record in caplog.records) == 1


def packages_where(monkeypatch: pytest.MonkeyPatch, *missing: str) -> Any:
    """`lrpilot.lightning.packages`, imported anew where some of them are not installed."""
    for name in missing:
        monkeypatch.setitem(sys.modules, name, None)
    assert packages.__spec__ is not None
    assert packages.__spec__.loader is not None
    fresh = importlib.util.module_from_spec(packages.__spec__)
    packages.__spec__.loader.exec_module(fresh)
    return fresh


@pytest.mark.parametrize("there", NAMES)
def test_one_of_the_two_is_enough(monkeypatch: pytest.MonkeyPatch, there: str) -> None:
    callback = pytest.importorskip(there).Callback
    (missing,) = set(NAMES) - {there}
    assert packages_where(monkeypatch, missing).Guest.__bases__ == (callback,)


def test_with_neither_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModuleNotFoundError, match=r'pip install "lrpilot\[lightning\]"'):
        packages_where(monkeypatch, *NAMES)
