"""`PilotLR` where Lightning asks for a scheduler, without the callback."""

import logging
import math
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import LearningRateMonitor
from torch.utils.data import DataLoader, TensorDataset

from lrpilot.testing import FakeDaemon
from lrpilot.torch import PilotLR
from lrpilot.torch.options import Options
from support.decisions import cut, rollback

LR = 0.05

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),  # Lightning's advice on workers and GPUs
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


class Module(pl.LightningModule):
    """A small regression whose LR is a `PilotLR`'s, chained with a schedule of its own."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.net = torch.nn.Linear(4, 1)
        self.lrs: list[float] = []
        self.losses: list[float] = []
        self.at: dict[int, Any] = {}

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        loss = (self.net(batch[0]) - batch[1]).square().mean()
        self.pilot_lr.observe(loss)
        self.losses.append(loss.item())
        self.lrs.append(self.trainer.optimizers[0].param_groups[0]["lr"])
        if call := self.at.get(self.global_step):
            call()
        return loss

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=LR)
        native = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
        self.pilot_lr = PilotLR(optimizer, model=self, scheduler=native, total_steps=100)
        chained = torch.optim.lr_scheduler.ChainedScheduler([native, self.pilot_lr])
        return [optimizer], [{"scheduler": chained, "interval": "step"}]


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> FakeDaemon:
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    fake = FakeDaemon()
    monkeypatch.setattr(Options, "_connect", lambda self: fake)
    return fake


def trainer(steps: int, **settings: Any) -> pl.Trainer:
    quiet = dict.fromkeys(("enable_progress_bar", "enable_model_summary", "logger"), False)
    return pl.Trainer(
        **{"max_steps": steps, "accelerator": "cpu", "enable_checkpointing": False}
        | quiet
        | settings
    )


def loader() -> DataLoader[Any]:
    data = torch.Generator().manual_seed(1)
    x = torch.randn(32, 4, generator=data)
    return DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), 8)


def test_a_fit_is_guarded_and_its_schedule_kept(daemon: FakeDaemon) -> None:
    module, weights = Module(), list[torch.Tensor]()
    module.at = {
        0: lambda: weights.append(module.net.weight.detach().clone()),
        2: lambda: daemon.decide(rollback(1)),
        3: lambda: weights.append(module.net.weight.detach().clone()),
    }
    trainer(6).fit(module, loader())
    assert daemon.losses == module.losses
    assert module.lrs == pytest.approx([LR * 0.9**k * (0.5 if k > 2 else 1) for k in range(6)])
    assert torch.equal(*weights), "the weights that the fit began with are back"
    assert [item[6][0] for item in daemon.items] == module.lrs


def test_accumulation_reports_the_mean_of_a_window(daemon: FakeDaemon) -> None:
    module = Module()
    trainer(3, accumulate_grad_batches=2).fit(module, loader())
    means = [sum(module.losses[k : k + 2]) / 2 for k in (0, 2, 4)]
    assert daemon.losses == pytest.approx(means)


def test_a_checkpoint_of_a_fit_goes_on_under_the_plan(daemon: FakeDaemon, tmp_path: Path) -> None:
    module = Module()
    module.at = {1: lambda: daemon.decide(cut(0.5))}
    first = trainer(4)
    first.fit(module, loader())
    path = tmp_path / "last.ckpt"
    first.save_checkpoint(path)
    module.pilot_lr.close()
    assert torch.load(path, weights_only=True)["lr_schedulers"][0]["_schedulers"][1]["pilot"]

    resumed = Module()
    trainer(7).fit(resumed, loader(), ckpt_path=str(path), weights_only=False)
    assert resumed.lrs == pytest.approx([LR / 2 * 0.9**k for k in range(4, 7)])
    assert [item[2] for item in daemon.items] == list(range(7))
    assert not any(map(math.isnan, daemon.losses))


def test_a_monitor_sees_the_lr_that_is_applied(daemon: FakeDaemon, tmp_path: Path) -> None:
    from pytorch_lightning.loggers import CSVLogger

    module, logged = Module(), list[float]()
    module.at = {1: lambda: daemon.decide(cut(0.5))}
    logger = CSVLogger(tmp_path)
    logger.log_metrics = lambda metrics, step=None: logged.append(metrics["lr-SGD"])  # type: ignore[method-assign]
    trainer(4, logger=logger, log_every_n_steps=1, callbacks=[LearningRateMonitor("step")]).fit(
        module, loader()
    )
    assert logged == module.lrs
