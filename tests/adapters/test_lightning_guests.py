"""What stands beside a search in a fit: odd loaders, progress bars, other callbacks."""

import copy
import logging
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning import callbacks as lightning
from pytorch_lightning.loggers import CSVLogger
from torch.utils.data import DataLoader, TensorDataset

from lrpilot.lightning import LRControllerCallback
from lrpilot.lightning.display import Patience
from lrpilot.torch.options import Options
from lrpilot_controller.core.events import ProgramEnded, SearchEnded
from support.loopback import Loopback

ALL = 360  # more steps than the programs of a search may take of 800

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),  # Lightning's advice on workers and GPUs
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


def rows(count: int) -> TensorDataset:
    source = torch.Generator().manual_seed(1)
    x = torch.randn(count, 6, generator=source)
    return TensorDataset(x, x.sum(1, keepdim=True).sin())


class Module(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.net = torch.nn.Sequential(torch.nn.Linear(6, 16), torch.nn.Dropout(0.1))
        self.net.append(torch.nn.Linear(16, 1))
        self.sizes: list[int] = []
        self.at: dict[int, Callable[[], Any]] = {}

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        self.at.get(self.global_step, lambda: None)()

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.sizes.append(len(batch[0]))
        return (self.net(batch[0]) - batch[1]).square().mean()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        torch.rand(1)
        self.log("val_loss", (self.net(batch[0]) - batch[1]).square().mean())

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=1e-5)


class Fits:
    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.daemon = Loopback()
        self.callback = LRControllerCallback()
        monkeypatch.setattr(Options, "_connect", lambda _: self.daemon)

    def fit(
        self,
        *callbacks: lightning.Callback,
        module: pl.LightningModule | None = None,
        train: Any = None,
        **settings: Any,
    ) -> pl.Trainer:
        self.daemon = Loopback()
        self.callback = LRControllerCallback(search=True, run="r", total_steps=800)
        trainer = pl.Trainer(
            **{
                "max_epochs": -1,
                "max_steps": 30,
                "accelerator": "cpu",
                "logger": CSVLogger(self.folder),
                "limit_val_batches": 0,
                "enable_progress_bar": False,
                "enable_model_summary": False,
                "enable_checkpointing": False,
                "callbacks": [*callbacks, self.callback],
            }
            | settings
        )
        trainer.fit(
            Module() if module is None else module,
            DataLoader(rows(160), 8) if train is None else train,
            DataLoader(rows(64), 32),
        )
        return trainer

    @property
    def losses(self) -> list[tuple[float, ...]]:
        """Those of each program."""
        return [e.losses for e in self.daemon.record if isinstance(e, ProgramEnded)]


@pytest.fixture
def fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fits]:
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield Fits(tmp_path, monkeypatch)
    torch.set_num_threads(threads)


def test_an_epochs_last_short_batch_is_trained_on_as_it_is(fits: Fits) -> None:
    module = Module()
    fits.fit(module=module, train=DataLoader(rows(77), 8), max_steps=ALL)
    assert module.sizes == ([8] * 9 + [5]) * (ALL // 10)
    assert [e for e in fits.daemon.record if isinstance(e, SearchEnded)]


def test_a_loader_that_owns_its_batches_keeps_them(fits: Fits) -> None:
    class Held:
        def __iter__(self) -> Iterator[Any]:
            return iter(train)

    train = [tuple(batch) for batch in DataLoader(rows(160), 8)]
    before = copy.deepcopy(train)
    fits.fit(train=Held(), max_steps=50)
    assert len(fits.losses) > 3
    pairs = zip(train, before, strict=True)
    assert all(torch.equal(a, b) for one, other in pairs for a, b in zip(one, other, strict=True))


class ByHand(Module):
    """Accumulates over four batches by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def on_validation_model_zero_grad(self) -> None:
        """Keep them: Lightning knows no window of ours."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        optimizer: Any = self.optimizers()
        loss = super().training_step(batch, batch_idx)
        self.manual_backward(loss)
        if batch_idx % 4 == 3:
            optimizer.step()
            optimizer.zero_grad()
        return loss


@pytest.mark.parametrize(("make", "window"), [(Module, 4), (ByHand, 1)])
def test_a_look_in_the_middle_of_a_window_keeps_its_gradients(
    fits: Fits, make: Any, window: int
) -> None:
    settings = {"accumulate_grad_batches": window, "max_steps": 40}
    fits.fit(module=make(), **settings)
    unseen = fits.losses
    looks = {"val_check_interval": 3, "limit_val_batches": 1}
    saver = lightning.ModelCheckpoint(
        fits.folder, every_n_train_steps=1, enable_version_counter=False
    )
    fits.fit(saver, module=make(), enable_checkpointing=True, **looks, **settings)
    assert fits.losses == unseen
    assert len(unseen) > 3


@pytest.mark.parametrize("bar", [lightning.TQDMProgressBar, lightning.RichProgressBar])
def test_the_progress_bar_tells_how_far_the_search_is(fits: Fits, bar: Any) -> None:
    shown = bar()
    module, seen = Module(), []
    module.at = {
        step: lambda: seen.append(shown.get_metrics(module.trainer, module).get("search", ""))
        for step in (2, ALL - 1)
    }
    fits.fit(shown, module=module, max_steps=ALL, enable_progress_bar=True)
    assert ", LR " in seen[0]
    assert seen[0].endswith("% of its budget")
    assert seen[1] == ""
    assert "get_metrics" not in vars(shown)


def test_early_stopping_does_not_count_a_searchs_validations(fits: Fits) -> None:
    stopper = lightning.EarlyStopping("val_loss", patience=1, check_finite=False)
    settings = {"limit_val_batches": 2, "max_steps": 150}
    assert fits.fit(stopper, **settings).global_step == 150


def test_patience_goes_on_where_it_was() -> None:
    stopper = lightning.EarlyStopping("x")
    stopper.wait_count = 2
    patience = Patience([stopper])
    for _ in range(3):
        patience.hold()
        stopper.wait_count += 1  # a check without progress
        patience.hold()
        patience.hold()
    patience.release()
    assert stopper.wait_count == 2
    patience.hold()
    stopper.wait_count = 0  # one with progress
    patience.hold()
    patience.release()
    assert stopper.wait_count == 0


class Plateau(Module):
    """Its scheduler would cut the LR at the second validation without progress."""

    def configure_optimizers(self) -> Any:
        optimizer = super().configure_optimizers()
        self.plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0)
        return [optimizer], [{"scheduler": self.plateau, "monitor": "val_loss"}]


def test_a_scheduler_that_follows_a_metric_is_not_fed(fits: Fits) -> None:
    module = Plateau()
    fits.fit(module=module, max_steps=100, limit_val_batches=2)
    assert len(fits.losses) > 3
    assert module.plateau.last_epoch == 0


def test_copies_of_the_module_are_no_business_of_ours(fits: Fits) -> None:
    module = Module()
    copies: list[torch.nn.Module] = []

    def take() -> None:
        copies.append(copy.deepcopy(module.net))
        hooks = module._state_dict_pre_hooks.values()
        for hook in hooks:
            pickle.loads(pickle.dumps(hook))(module, "", False)
            copy.deepcopy(hook)(module, "", False)
        module.state_dict()  # in a step: its weights are left alone

    module.at = {4: take}
    fits.fit(module=module)
    with_a_look = fits.losses
    fits.fit()
    assert fits.losses == with_a_look
    assert not module._state_dict_pre_hooks


def test_an_error_in_a_program_leaves_the_runs_own_weights(fits: Fits) -> None:
    module = Module()

    def fail() -> None:
        raise KeyError("user's own")

    module.at = {4: fail}
    with pytest.raises(KeyError):
        fits.fit(module=module)
    assert all(map(torch.equal, module.parameters(), Module().parameters()))


# -- no search, and why


SWA = {"swa_lrs": 0.1, "swa_epoch_start": 9}


class FromIterator(Module):
    def training_step(self, dataloader_iter: Any) -> Any:
        return super().training_step(next(dataloader_iter)[0], 0)


@pytest.mark.parametrize(
    ("module", "callbacks", "why"),
    [
        (FromIterator, {}, "dataloader_iter"),
        (Module, {"WeightAveraging": {}}, "average the weights"),
        (Module, {"StochasticWeightAveraging": SWA}, "an LR of its own"),
    ],
)
def test_why_there_is_no_search_is_said_once(
    fits: Fits, caplog: pytest.LogCaptureFixture, module: Any, callbacks: Any, why: str
) -> None:
    if any(not hasattr(lightning, name) for name in callbacks):
        pytest.skip("this Lightning has no such callback")
    others = [getattr(lightning, name)(**settings) for name, settings in callbacks.items()]
    fits.fit(*others, module=module(), max_steps=4)
    assert fits.losses == []
    assert sum(why in record.message for record in caplog.records) == 1
    assert sum("LRPilot" in record.message for record in caplog.records) == 1
