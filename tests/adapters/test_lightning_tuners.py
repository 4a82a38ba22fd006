"""Callbacks of Lightning's own that move the LR: its LR finder, and averaging of weights."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import (
    LearningRateFinder,
    ModelCheckpoint,
    StochasticWeightAveraging,
)
from pytorch_lightning.tuner import Tuner
from torch.utils.data import DataLoader

from lrpilot.lightning import LRControllerCallback
from support.fits import (
    LR,
    QUIET,
    Fits,
    Module,
    connected,
    cut,
    pilot_of,
    rollback,
    rows,
    seeded,
)

SEARCH = 20  # steps of a finder; it needs some, and is cut short with the last epoch
EPOCHS = 3
STEPS = EPOCHS * 8

pytestmark = QUIET


@pytest.fixture
def fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fits]:
    with connected(tmp_path, monkeypatch) as fits:
        yield fits


# -- the LR finder


def finder() -> LearningRateFinder:
    return LearningRateFinder(min_lr=1e-4, max_lr=0.3, num_training_steps=SEARCH)


@pytest.mark.parametrize("scheduler", [None, "exponential"])
@pytest.mark.parametrize("first", [True, False])
def test_the_finder_is_not_heard_and_what_it_finds_is_the_base_lr(
    fits: Fits, scheduler: str | None, first: bool, tmp_path: Path
) -> None:
    module = seeded(scheduler, {SEARCH + 5: cut(0.5)})
    ours, theirs = LRControllerCallback(), finder()
    callbacks = [theirs, ours] if first else [ours, theirs]
    fits.fit(module, callbacks, max_epochs=EPOCHS, default_root_dir=tmp_path)
    searched = len(module.losses) - STEPS
    assert searched > 10  # the finder's own steps
    assert fits.daemon.losses == pytest.approx(module.losses[searched:])
    hello = fits.daemon.hello
    assert hello is not None
    found = module.lr
    assert found != LR
    assert hello.groups[0].base_lr == pytest.approx(found)
    assert hello.max_lr == pytest.approx(found)
    assert not hello.resumes
    assert module.seen_lrs[searched] == pytest.approx(found)


def test_the_finder_of_a_second_fit_takes_over_no_state(fits: Fits, tmp_path: Path) -> None:
    callback = LRControllerCallback(run="r")
    fits.fit(seeded(None, {3: cut(0.5)}), [callback], max_epochs=EPOCHS)
    fits.fit(
        module := seeded(None),
        [finder(), callback],
        max_epochs=EPOCHS,
        default_root_dir=tmp_path,
    )
    assert fits.daemon.hello is not None
    assert not fits.daemon.hello.resumes
    assert pilot_of(callback).step_count == STEPS
    assert module.seen_lrs[-1] == module.lr


class Milestones(LearningRateFinder):
    """Looks again in mid-fit, as Lightning's documentation shows: states are saved and restored."""

    def on_fit_start(self, *_: Any) -> None:
        pass

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        if trainer.current_epoch == 1:
            self.lr_find(trainer, pl_module)
            trainer.optimizers[0].param_groups[0]["lr"] = LR / 2


def test_a_finder_in_mid_fit_moves_the_native_lr(fits: Fits, tmp_path: Path) -> None:
    callback = LRControllerCallback()
    fits.fit(
        seeded(None), [callback, Milestones(0.01, 0.1, 5)], max_epochs=2, default_root_dir=tmp_path
    )
    assert pilot_of(callback).step_count == 16
    assert len(fits.daemon.losses) == 16
    assert pilot_of(callback).lrs == [LR / 2]
    fits.fit(seeded(None), [callback], max_epochs=1)
    assert fits.daemon.hello is not None
    assert not fits.daemon.hello.resumes


def test_a_tuner_before_the_fit_is_not_heard(fits: Fits, tmp_path: Path) -> None:
    module, callback = seeded("exponential"), LRControllerCallback()
    trainer = fits.trainer([callback], max_epochs=EPOCHS, default_root_dir=tmp_path)
    Tuner(trainer).lr_find(
        module, DataLoader(rows(), 8), min_lr=1e-4, max_lr=0.3, num_training=SEARCH
    )
    assert callback.pilot is None
    assert fits.daemon.items == []
    module.losses.clear()
    fits.train(trainer, module)
    assert fits.daemon.hello is not None
    assert fits.daemon.hello.groups[0].base_lr == pytest.approx(module.lr)
    assert fits.daemon.losses == pytest.approx(module.losses)


# -- averaging of weights


def averaging(**settings: Any) -> StochasticWeightAveraging:
    return StochasticWeightAveraging(
        **{"swa_lrs": 0.02, "swa_epoch_start": 2, "annealing_epochs": 2} | settings
    )


@pytest.mark.parametrize("scheduler", [None, "exponential"])
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("annealing", [0, 2])
def test_the_schedule_of_averaging_keeps_its_curve_under_a_cut(
    fits: Fits, scheduler: str | None, first: bool, annealing: int
) -> None:
    alone, held = seeded(scheduler), seeded(scheduler, {5: cut(0.5)})
    fits.fit(alone, [averaging(annealing_epochs=annealing)])
    ours, theirs = (
        LRControllerCallback(min_lr=0.0, max_lr=1.0),
        averaging(annealing_epochs=annealing),
    )
    trainer = fits.fit(held, [ours, theirs] if first else [theirs, ours])
    assert len(set(alone.seen_lrs)) > 1
    native = [0.5 * lr if k > 5 else lr for k, lr in enumerate(alone.seen_lrs)]
    assert held.seen_lrs == native
    (config,) = trainer.lr_scheduler_configs
    assert type(config.scheduler) is torch.optim.swa_utils.SWALR
    assert config.scheduler.optimizer is trainer.optimizers[0]


def test_a_healthy_fit_that_averages_is_bit_identical(fits: Fits) -> None:
    alone, watched = seeded(), seeded()
    fits.fit(alone, [averaging()])
    fits.fit(watched, [averaging(), LRControllerCallback()])
    assert all(map(torch.equal, alone.parameters(), watched.parameters()))
    assert alone.seen_lrs == watched.seen_lrs


class Normed(Module):
    """Has statistics to fit to the averaged weights, in an epoch of its own."""

    def __init__(self, decide_at: dict[int, Any] | None = None) -> None:
        pl.seed_everything(3, verbose=False)
        super().__init__(None, decide_at)
        self.net.insert(1, torch.nn.BatchNorm1d(8))


def test_the_averaged_weights_are_not_rolled_back(fits: Fits) -> None:
    alone, held = Normed(), Normed({33: rollback(0.5)})
    fits.fit(alone, [averaging()])
    trainer = fits.fit(held, [averaging(), LRControllerCallback()])
    assert len(held.losses) > 32  # the epoch that is added
    assert all(map(torch.equal, alone.parameters(), held.parameters()))
    assert len(fits.daemon.losses) == 32
    assert fits.daemon.hello is not None
    assert fits.daemon.hello.total_steps == 32
    assert fits.daemon.receipts == []
    assert fits.daemon.reports[-1].goodbye.reason == "finished"
    assert trainer.current_epoch == 5


def test_a_fit_resumed_while_it_averages_goes_on_to_the_bit(fits: Fits) -> None:
    decisions = {5: cut(0.5)}
    whole = seeded("exponential", decisions)
    bounds = {"run": "r", "min_lr": 0.0, "max_lr": 1.0}
    fits.fit(whole, [LRControllerCallback(**bounds), averaging()])
    first, second = seeded("exponential", decisions), seeded("exponential")
    saver = ModelCheckpoint(fits.folder, "{epoch}", save_top_k=-1)
    fits.fit(
        first,
        [LRControllerCallback(**bounds), averaging(), saver],
        enable_checkpointing=True,
    )
    fits.fit(
        second,
        [LRControllerCallback(**bounds), averaging()],
        resume=str(fits.folder / "epoch=2.ckpt"),
    )
    assert first.seen_lrs == whole.seen_lrs
    assert second.seen_lrs == whole.seen_lrs[24:]
