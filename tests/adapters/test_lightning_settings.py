"""What a Trainer may be set to, with the callback among its guests: nothing else changes."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import (
    EarlyStopping,
    GradientAccumulationScheduler,
    LearningRateMonitor,
    ModelCheckpoint,
)
from pytorch_lightning.plugins.precision import MixedPrecision
from torch.utils.data import DataLoader

from lrpilot.lightning import LRControllerCallback
from lrpilot.lightning.search import SearchInFit
from lrpilot.lightning.steps import Steps
from lrpilot.torch.own_weights import OwnWeights
from lrpilot_proto.v1 import model_pb2
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
    rows,
    seeded,
)

pytestmark = QUIET


@pytest.fixture
def fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fits]:
    with connected(tmp_path, monkeypatch) as fits:
        yield fits


def half_precision(scale: float) -> MixedPrecision:
    """16-mixed on a CPU, which the Trainer's own flag is refused for."""
    return MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=scale))


SETTINGS: list[dict[str, Any]] = [
    {"precision": "bf16-mixed"},
    {"gradient_clip_val": 0.1, "gradient_clip_algorithm": "norm"},
    {"gradient_clip_val": 0.01, "gradient_clip_algorithm": "value"},
    {"accumulate_grad_batches": 3},
    {"accumulate_grad_batches": 3, "precision": "bf16-mixed", "gradient_clip_val": 0.1},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda each: "+".join(each))
def test_a_healthy_fit_is_bit_identical_and_a_rollback_restores_it(
    fits: Fits, settings: dict[str, Any]
) -> None:
    alone, watched, rolled = seeded(), seeded(), seeded(decide_at={13: rollback(0.5)})
    fits.fit(alone, max_epochs=2, **settings)
    fits.fit(watched, [LRControllerCallback()], max_epochs=2, **settings)
    assert all(map(torch.equal, alone.parameters(), watched.parameters()))
    assert alone.seen_lrs == watched.seen_lrs
    fits.fit(rolled, [LRControllerCallback()], max_epochs=2, **settings)
    # The 14th batch is the last one of a step, accumulated or not.
    assert all(map(torch.equal, rolled.weights[0], rolled.weights[14]))
    native = alone.seen_lrs[:14] + [0.5 * lr for lr in alone.seen_lrs[14:]]
    assert rolled.seen_lrs == native


def test_accumulation_that_changes_between_epochs_reports_the_mean_over_each_window(
    fits: Fits,
) -> None:
    module = seeded()
    fits.fit(module, [LRControllerCallback(), GradientAccumulationScheduler({0: 4, 1: 3})])
    epochs = [module.losses[i : i + 8] for i in range(0, 32, 8)]
    windows = [epochs[0][:4], epochs[0][4:]]
    windows += [epoch[i : i + 3] for epoch in epochs[1:] for i in (0, 3, 6)]
    assert fits.daemon.losses == pytest.approx([sum(each) / len(each) for each in windows])


def test_a_step_that_a_scaler_skips_is_a_step_and_its_lr_is_native_after_a_release(
    fits: Fits,
) -> None:
    alone, module = seeded("exponential"), seeded("exponential", {1: cut(0.5), 9: release()})
    for one, callbacks in ((alone, []), (module, [LRControllerCallback()])):
        # The first gradients overflow, which halves the scale, and a later one again.
        fits.fit(one, callbacks, plugins=half_precision(2.0**19), max_epochs=2)
    moved = [not torch.equal(one[0], other[0]) for one, other in pairwise(module.weights)]
    assert False in moved[2:9]
    assert True in moved[2:9]
    assert [item[2] for item in fits.daemon.items if item[1] == 1] == list(range(16))
    native = [0.5 * lr if 2 <= k <= 9 else lr for k, lr in enumerate(alone.seen_lrs)]
    assert module.seen_lrs == native


class Scheduled(Module):
    """Its scheduler is stepped as a configuration says."""

    def __init__(self, make: Any, config: dict[str, Any], decide_at: dict[int, Any]) -> None:
        pl.seed_everything(3, verbose=False)
        super().__init__(None, decide_at)
        self.make, self.config = make, config

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("still", 1.0)  # a metric that no LR moves

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=LR)
        scheduler = {"scheduler": self.make(optimizer)} | self.config
        return {"optimizer": optimizer, "lr_scheduler": scheduler}


def exponential(optimizer: Any) -> Any:
    return torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)


def plateau(optimizer: Any) -> Any:
    return torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, factor=0.5)


@pytest.mark.parametrize(
    ("make", "config"),
    [
        (exponential, {"interval": "epoch"}),
        (exponential, {"interval": "epoch", "frequency": 2}),
        (exponential, {"interval": "step", "frequency": 3}),
        (plateau, {"monitor": "still"}),
        (plateau, {"monitor": "still", "interval": "step", "frequency": 8}),
    ],
)
def test_a_scheduler_keeps_its_curve_however_lightning_steps_it(
    fits: Fits, make: Any, config: dict[str, Any]
) -> None:
    alone = Scheduled(make, config, {})
    fits.fit(alone)
    held = Scheduled(make, config, {5: cut(0.5), 20: release()})
    fits.fit(held, [LRControllerCallback(min_lr=0.0)])
    assert len(set(alone.seen_lrs)) > 1
    native = [0.5 * lr if 5 < k <= 20 else lr for k, lr in enumerate(alone.seen_lrs)]
    assert held.seen_lrs == native


@pytest.mark.parametrize("first", [True, False])
def test_the_monitor_of_lrs_sees_the_lr_applied_before_us_and_after(
    fits: Fits, first: bool
) -> None:
    module = seeded("exponential", {5: cut(0.5)})
    ours, monitor = LRControllerCallback(), LearningRateMonitor("step")
    fits.fit(module, [monitor, ours] if first else [ours, monitor], max_epochs=2)
    logged = [metrics["lr-SGD"] for _, metrics in fits.logged if "lr-SGD" in metrics]
    assert logged == pytest.approx(module.seen_lrs)


class Named(Module):
    def configure_optimizers(self) -> Any:
        groups = [
            {"params": self.net[0].parameters(), "name": "body"},
            {"params": self.net[3].parameters(), "name": "head", "lr": LR / 10},
        ]
        return torch.optim.SGD(groups, lr=LR)


def test_param_groups_go_by_their_own_names(fits: Fits) -> None:
    fits.fit(Named(), [LRControllerCallback(), LearningRateMonitor("step")], max_steps=2)
    assert fits.daemon.hello is not None
    assert [group.name for group in fits.daemon.hello.groups] == ["body", "head"]
    assert {"lr-SGD/body", "lr-SGD/head"} <= {name for _, m in fits.logged for name in m}


# -- how long it lasts


def test_a_stop_waits_for_the_least_number_of_steps(fits: Fits) -> None:
    stop = model_pb2.Decision(id=1, action="ACTION_STOP", stop=True)
    trainer = fits.fit(seeded(decide_at={3: stop}), [LRControllerCallback()], min_steps=10)
    assert trainer.global_step == 10
    assert fits.daemon.reports[-1].goodbye.reason == "stopped"


def test_max_steps_is_the_horizon(fits: Fits) -> None:
    fits.fit(seeded(), [LRControllerCallback()], max_steps=11, max_epochs=-1)
    assert fits.daemon.hello is not None
    assert fits.daemon.hello.total_steps == 11
    assert len(fits.daemon.losses) == 11


def test_early_stopping_ends_a_fit_as_it_does_without_us(fits: Fits) -> None:
    def stopper() -> EarlyStopping:
        return EarlyStopping("val_loss", patience=1, min_delta=9.0)

    alone = fits.fit(seeded(), [stopper()])
    watched = fits.fit(seeded(), [stopper(), LRControllerCallback()])
    assert alone.global_step == watched.global_step < 32
    assert fits.daemon.reports[-1].goodbye.reason == "finished"


def test_lightning_refuses_two_of_us(fits: Fits) -> None:
    with pytest.raises(RuntimeError, match="LRControllerCallback"):
        fits.trainer([LRControllerCallback(), LRControllerCallback()])


# -- several fits, and looks in between


def test_looks_before_between_and_after_fits_are_not_reported(fits: Fits) -> None:
    module, callback = seeded(), LRControllerCallback(monitor="val_loss")
    trainer = fits.trainer([callback], max_epochs=1)
    loader = DataLoader(rows(), 32)
    trainer.validate(module, loader, verbose=False)
    trainer.test(module, loader, verbose=False)
    assert callback.pilot is None
    fits.train(trainer, module)
    told, samples = len(fits.daemon.reports), len(fits.daemon.items)
    own = [parameter.detach().clone() for parameter in module.parameters()]
    trainer.validate(module, loader, verbose=False)
    trainer.test(module, loader, verbose=False)
    trainer.predict(module, loader)
    assert (len(fits.daemon.reports), len(fits.daemon.items)) == (told, samples)
    assert all(map(torch.equal, own, module.parameters()))
    assert samples == 8 + 1


@pytest.mark.parametrize("same_trainer", [True, False])
def test_a_second_fit_is_an_attempt_of_its_own(fits: Fits, same_trainer: bool) -> None:
    callback = LRControllerCallback(run="r")
    trainer = fits.trainer([callback], max_epochs=1)
    fits.train(trainer, seeded(decide_at={3: cut(0.5)}))
    first = pilot_of(callback)
    attempt = fits.daemon.hello and fits.daemon.hello.attempt
    if same_trainer:
        assert trainer.fit_loop.max_epochs is not None
        trainer.fit_loop.max_epochs += 1
    else:
        trainer = fits.trainer([callback], max_epochs=1)
    again = seeded()
    fits.train(trainer, again)
    assert pilot_of(callback) is not first
    assert pilot_of(callback).step_count == 8
    assert fits.daemon.hello is not None
    assert fits.daemon.hello.attempt != attempt
    assert not fits.daemon.hello.resumes
    assert fits.daemon.hello.total_steps == 8
    assert again.seen_lrs[0] == LR
    assert len(fits.daemon.losses) == 16


def test_a_checkpoint_saved_after_the_fit_is_of_the_fit(fits: Fits) -> None:
    module, callback = seeded("exponential", {5: cut(0.5)}), LRControllerCallback(run="r")
    trainer = fits.fit(module, [callback], max_epochs=1)
    trainer.save_checkpoint(fits.folder / "after.ckpt")
    whole = seeded("exponential", {5: cut(0.5)})
    fits.fit(whole, [LRControllerCallback()], max_epochs=2)
    again, resumed = seeded("exponential"), LRControllerCallback(run="r")
    fits.fit(again, [resumed], resume=str(fits.folder / "after.ckpt"), max_epochs=2)
    assert module.seen_lrs + again.seen_lrs == whole.seen_lrs
    assert pilot_of(resumed).step_count == 16
    assert fits.daemon.hello is not None
    assert fits.daemon.hello.total_steps == 16


def test_a_fit_leaves_nothing_behind(fits: Fits) -> None:
    module = Scheduled(exponential, {"interval": "step"}, {3: cut(0.5)})
    trainer = fits.trainer([LRControllerCallback()], max_epochs=1, enable_progress_bar=True)
    fits.train(trainer, module)
    (optimizer,) = trainer.optimizers
    (config,) = trainer.lr_scheduler_configs
    assert type(config.scheduler) is torch.optim.lr_scheduler.ExponentialLR
    assert config.scheduler.optimizer is optimizer
    assert not module._state_dict_pre_hooks
    hooks = (
        optimizer._optimizer_step_post_hooks,
        optimizer._optimizer_step_pre_hooks,
        optimizer._optimizer_load_state_dict_post_hooks,
    )
    assert not any(hooks)
    assert "get_metrics" not in vars(trainer.progress_bar_callback)
    assert trainer.callbacks


def test_checkpoints_hold_no_stand_in(fits: Fits) -> None:
    saver = ModelCheckpoint(fits.folder, save_last=True)
    module = seeded("exponential", {3: cut(0.5)})
    fits.fit(module, [LRControllerCallback(), saver], max_epochs=1, enable_checkpointing=True)
    held = torch.load(fits.folder / "last.ckpt", weights_only=True)
    assert held["optimizer_states"][0]["param_groups"][0]["lr"] == pytest.approx(0.5 * LR * 0.9**8)
    assert "optimizer" not in held["lr_schedulers"][0]
    assert held["callbacks"]["LRControllerCallback"]["step"] == 8


# -- faults of our own


@pytest.mark.parametrize(
    ("kind", "method"),
    [
        (SearchInFit, "batch_starts"),
        (SearchInFit, "batch_ended"),
        (SearchInFit, "boundary"),
        (OwnWeights, "settle"),
        (OwnWeights, "go_on"),
        (Steps, "take"),
    ],
)
def test_a_fault_of_our_own_never_reaches_the_fit(
    fits: Fits,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    kind: type,
    method: str,
) -> None:
    def fail(*_: Any) -> None:
        raise ZeroDivisionError("ours")

    alone, module = seeded(), seeded()
    fits.fit(alone, max_epochs=1)
    monkeypatch.setattr(kind, method, fail)
    saver = ModelCheckpoint(fits.folder, save_last=True)
    trainer = fits.fit(
        module, [LRControllerCallback(), saver], max_epochs=1, enable_checkpointing=True
    )
    assert trainer.global_step == 8
    assert all(map(torch.equal, alone.parameters(), module.parameters()))
    assert sum("a fault of its own" in record.message for record in caplog.records) == 1
