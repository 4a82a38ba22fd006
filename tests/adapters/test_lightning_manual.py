"""Manual optimization under the callback: one optimizer or two, stepped as the module likes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint

from lrpilot.lightning import LRControllerCallback
from support.fits import (
    LR,
    QUIET,
    Fits,
    Module,
    connected,
    cut,
    pilot_of,
    release,
    rollback,
)

pytestmark = QUIET


@pytest.fixture
def fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fits]:
    with connected(tmp_path, monkeypatch) as fits:
        yield fits


class Manual(Module):
    """Optimizes by hand, with a scheduler per optimizer that it steps itself.

    `window` batches make a step; `returns` says what the loss is made of that it returns.
    """

    def __init__(
        self,
        optimizers: int = 1,
        window: int = 1,
        decide_at: dict[int, Any] | None = None,
        returns: Any = lambda loss: {"loss": loss},
        wrapped: bool = True,
    ) -> None:
        pl.seed_everything(3, verbose=False)
        super().__init__(None, decide_at)
        self.automatic_optimization = False
        self.count, self.window, self.returns, self.wrapped = optimizers, window, returns, wrapped
        self.all_lrs: list[list[float]] = []  # of the first group of each, at each step

    def configure_optimizers(self) -> Any:
        parts = [self.net] if self.count == 1 else [self.net[0], self.net[3]]
        optimizers = [
            torch.optim.SGD(part.parameters(), lr=LR / 10**i, momentum=0.9)
            for i, part in enumerate(parts)
        ]
        return optimizers, [torch.optim.lr_scheduler.ExponentialLR(o, 0.9) for o in optimizers]

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        held: Any = self.optimizers(use_pl_optimizer=self.wrapped)
        optimizers = held if isinstance(held, list) else [held]
        loss = self.loss(batch)
        self.log("train_loss", loss)
        self.losses.append(loss.item())
        self.manual_backward(loss / self.window)
        if (batch_idx + 1) % self.window == 0:
            self.all_lrs.append([float(o.param_groups[0]["lr"]) for o in optimizers])
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad()
            made: Any = self.lr_schedulers()
            for scheduler in made if isinstance(made, list) else [made]:
                scheduler.step()
        return self.returns(loss)


def native(optimizers: int, steps: int) -> list[list[float]]:
    """The LRs without a pilot, from schedulers of their own."""
    held = [torch.optim.SGD([torch.zeros(1)], lr=LR / 10**i) for i in range(optimizers)]
    schedulers = [torch.optim.lr_scheduler.ExponentialLR(one, 0.9) for one in held]
    lrs = []
    for _ in range(steps):
        lrs.append([float(one.param_groups[0]["lr"]) for one in held])
        for one, scheduler in zip(held, schedulers, strict=True):
            one.step()
            scheduler.step()
    return lrs


@pytest.mark.parametrize("optimizers", [1, 2])
def test_a_batch_is_a_step_however_many_optimizers_it_stepped(fits: Fits, optimizers: int) -> None:
    module = Manual(optimizers)
    trainer = fits.fit(module, [LRControllerCallback()], max_epochs=2)
    assert trainer.global_step == 16 * optimizers
    assert fits.daemon.losses == pytest.approx(module.losses)
    assert [item[2] for item in fits.daemon.items if item[1] == 1] == list(range(16))
    hello = fits.daemon.hello
    assert hello is not None
    assert hello.total_steps == 16
    assert len(hello.groups) == optimizers
    assert hello.scheduled
    assert hello.capabilities.snapshot


def test_max_steps_counts_each_optimizer_and_the_horizon_does_not(fits: Fits) -> None:
    fits.fit(Manual(2), [LRControllerCallback()], max_steps=20)
    hello = fits.daemon.hello
    assert hello is not None
    assert hello.total_steps == 10
    assert len(fits.daemon.losses) == 10


@pytest.mark.parametrize("optimizers", [1, 2])
def test_a_healthy_fit_is_bit_identical_to_one_without_us(fits: Fits, optimizers: int) -> None:
    alone, watched = Manual(optimizers), Manual(optimizers)
    fits.fit(alone)
    fits.fit(watched, [LRControllerCallback()])
    assert all(map(torch.equal, alone.parameters(), watched.parameters()))
    assert alone.all_lrs == watched.all_lrs


@pytest.mark.parametrize("optimizers", [1, 2])
def test_a_cut_scales_schedules_stepped_by_hand_and_a_release_finds_them(
    fits: Fits, optimizers: int
) -> None:
    module = Manual(optimizers, decide_at={5: cut(0.5), 20: release()})
    fits.fit(module, [LRControllerCallback()])
    expected = native(optimizers, 32)
    for step, (lrs, own) in enumerate(zip(module.all_lrs, expected, strict=True)):
        assert lrs == ([0.5 * lr for lr in own] if 5 < step <= 20 else own)


@pytest.mark.parametrize("optimizers", [1, 2])
def test_a_rollback_restores_what_all_optimizers_train(fits: Fits, optimizers: int) -> None:
    module = Manual(optimizers, decide_at={5: rollback(0.5)})
    callback = LRControllerCallback()
    fits.fit(module, [callback], max_epochs=1)
    start, back, moved = module.weights[0], module.weights[6], module.weights[5]
    assert all(map(torch.equal, start, back))
    assert not any(map(torch.equal, start, moved))
    assert [d.status for d in pilot_of(callback).decisions] == ["applied"]


def test_batches_that_stepped_nothing_belong_to_the_step_that_follows(fits: Fits) -> None:
    module = Manual(window=3)
    fits.fit(module, [LRControllerCallback()], max_epochs=2)
    steps = [(0, 3), (3, 6), (6, 11), (11, 14)]  # an epoch of eight leaves two for the next one
    means = [sum(module.losses[a:b]) / (b - a) for a, b in steps]
    assert fits.daemon.losses == pytest.approx(means)


def test_an_optimizer_that_is_stepped_around_lightning_is_seen(fits: Fits) -> None:
    module = Manual(wrapped=False)
    trainer = fits.fit(module, [LRControllerCallback()], max_epochs=1)
    assert trainer.global_step == 0
    assert fits.daemon.losses == pytest.approx(module.losses)


# -- where the loss comes from


@pytest.mark.parametrize("returns", [lambda loss: loss, lambda loss: {"loss": loss, "more": 1}])
def test_the_loss_is_what_training_step_returns(fits: Fits, returns: Any) -> None:
    module = Manual(returns=returns)
    fits.fit(module, [LRControllerCallback()], max_epochs=1)
    assert fits.daemon.losses == pytest.approx(module.losses)


@pytest.mark.parametrize("returns", [lambda loss: None, lambda loss: {"more": 1}])
def test_else_it_is_the_train_loss_that_is_logged(fits: Fits, returns: Any) -> None:
    module = Manual(returns=returns)
    fits.fit(module, [LRControllerCallback()], max_epochs=1)
    assert fits.daemon.losses == pytest.approx(module.losses)


class Halves(Manual):
    """Logs another loss as well."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        returned = super().training_step(batch, batch_idx)
        self.log("half", self.losses[-1] / 2)
        return returned


def test_a_named_loss_is_taken_in_the_place_of_what_is_returned(fits: Fits) -> None:
    module = Halves()
    fits.fit(module, [LRControllerCallback(loss="half")], max_epochs=1)
    assert fits.daemon.losses == pytest.approx([loss / 2 for loss in module.losses])


def test_a_missing_loss_is_said_once_with_what_is_logged(
    fits: Fits, caplog: pytest.LogCaptureFixture
) -> None:
    module = Manual()
    trainer = fits.fit(module, [LRControllerCallback(loss="train_los")], max_epochs=1)
    told = [r.message for r in caplog.records if "train_los" in r.message]
    assert len(told) == 1
    assert "did you mean 'train_loss'" in told[0]
    assert trainer.global_step == 8
    assert fits.daemon.losses == []


class PerEpoch(Manual):
    """Logs the mean of each epoch."""

    def log(self, name: str, value: Any, **keywords: Any) -> None:
        super().log(name, value, on_step=False, on_epoch=True, **keywords)


def test_the_mean_of_an_epoch_is_not_taken_for_the_loss_of_each_step(
    fits: Fits, caplog: pytest.LogCaptureFixture
) -> None:
    callback = LRControllerCallback(loss="train_loss")
    fits.fit(PerEpoch(), [callback], max_epochs=3)
    assert pilot_of(callback).step_count == 24
    assert fits.daemon.losses == []
    assert sum("not logged at each step" in r.message for r in caplog.records) == 1


class Silent(Manual):
    """Tells nobody its loss."""

    def log(self, name: str, *args: Any, **keywords: Any) -> None:
        if name != "train_loss":
            super().log(name, *args, **keywords)


def test_a_module_that_tells_no_loss_is_told_how(
    fits: Fits, caplog: pytest.LogCaptureFixture
) -> None:
    callback = LRControllerCallback()
    trainer = fits.fit(Silent(returns=lambda loss: None), [callback], max_epochs=1)
    told = [r.message for r in caplog.records if "returns no loss" in r.message]
    assert len(told) == 1
    assert "loss='train_loss' is not logged" in told[0]
    assert trainer.global_step == 8
    assert pilot_of(callback).step_count == 8


def test_a_loss_of_many_elements_does_not_end_the_fit(
    fits: Fits, caplog: pytest.LogCaptureFixture
) -> None:
    module = Manual(returns=lambda loss: {"loss": torch.ones(3)})
    trainer = fits.fit(module, [LRControllerCallback()], max_epochs=1)
    assert trainer.global_step == 8
    assert sum("tensor of shape (3,)" in r.message for r in caplog.records) == 1


# -- checkpoints


@pytest.mark.parametrize("optimizers", [1, 2])
def test_a_resumed_fit_goes_on_with_plan_and_native_curves_to_the_bit(
    fits: Fits, optimizers: int
) -> None:
    decisions = {5: cut(0.5)}
    whole = Manual(optimizers, decide_at=decisions)
    fits.fit(whole, [LRControllerCallback(run="r")])
    first = Manual(optimizers, decide_at=decisions)
    saver = ModelCheckpoint(fits.folder, save_last=True)
    fits.fit(first, [LRControllerCallback(run="r"), saver], max_epochs=2, enable_checkpointing=True)
    second = Manual(optimizers)
    callback = LRControllerCallback(run="r")
    fits.fit(second, [callback], resume=str(fits.folder / "last.ckpt"))
    assert first.all_lrs + second.all_lrs == whole.all_lrs
    assert pilot_of(callback).step_count == 32
