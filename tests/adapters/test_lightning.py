"""The Lightning callback: a guest that leaves loops, loggers and counters as they are."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning.callbacks import EarlyStopping, LearningRateMonitor, ModelCheckpoint

from lrpilot.lightning import LRControllerCallback, WindowLoss
from lrpilot_proto.v1 import model_pb2
from support.fits import BATCH, LR, QUIET, ROWS, Fits, Module, connected, pilot_of, rollback, seeded

pytestmark = QUIET


@pytest.fixture
def fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fits]:
    with connected(tmp_path, monkeypatch) as fits:
        yield fits


def test_a_healthy_fit_is_bit_identical_to_one_without_us(fits: Fits) -> None:
    alone, watched = seeded(), seeded()
    fits.fit(alone)
    callback = LRControllerCallback(search=False)
    fits.fit(watched, [callback])
    assert all(map(torch.equal, alone.parameters(), watched.parameters()))
    assert alone.seen_lrs == watched.seen_lrs
    assert pilot_of(callback).summary().snapshots >= 1


def test_every_optimizer_step_is_one_sample_and_validation_goes_beside_it(fits: Fits) -> None:
    module = seeded()
    fits.fit(module, [LRControllerCallback()])
    steps = 4 * ROWS // BATCH
    assert fits.daemon.losses == pytest.approx(module.losses)
    assert [item[2] for item in fits.daemon.items if item[1] == 1] == list(range(steps))
    assert [item[2] for item in fits.daemon.items if item[1] == 2] == [8, 16, 24, 32]
    hello = fits.daemon.hello
    assert hello is not None
    assert hello.total_steps == steps
    assert fits.daemon.reports[-1].goodbye.reason == "finished"


@pytest.mark.parametrize("accumulate", [2, 3])
def test_accumulation_reports_the_mean_over_its_window(fits: Fits, accumulate: int) -> None:
    module = seeded()
    fits.fit(module, [LRControllerCallback()], accumulate_grad_batches=accumulate, max_epochs=1)
    windows = [module.losses[i : i + accumulate] for i in range(0, 8, accumulate)]
    assert fits.daemon.losses == pytest.approx([sum(w) / len(w) for w in windows])


def test_window_loss_skips_batches_without_a_loss() -> None:
    window = WindowLoss()
    window.add({"loss": torch.tensor(2.0)})
    window.add(None)
    window.add({})
    assert window.take(2).item() == 4.0
    assert window.take(2) is None


def test_a_child_may_use_the_hooks_that_lightning_is_to_leave_out(fits: Fits) -> None:
    class Child(LRControllerCallback):
        seen = 0

        def on_before_zero_grad(self, *args: Any) -> None:
            super().on_before_zero_grad(*args)
            self.seen += 1

    child = Child()
    fits.fit(seeded(), [child], max_epochs=1)
    assert child.seen == 8
    assert len(fits.daemon.losses) == 8


def test_a_rollback_restores_weights_and_leaves_lightning_alone(fits: Fits) -> None:
    module = seeded("exponential", {5: rollback(0.5)})
    callback = LRControllerCallback()
    trainer = fits.fit(
        module,
        [callback, LearningRateMonitor("step"), EarlyStopping("val_loss", patience=99)],
    )
    native = [LR * 0.9**k for k in range(32)]
    expected = [lr if k < 6 else max(lr * 0.5, LR * 1e-4) for k, lr in enumerate(native)]
    assert module.seen_lrs == pytest.approx(expected)
    assert trainer.global_step == 32
    steps = [step for step, metrics in fits.logged if "train_loss" in metrics]
    assert steps == sorted(set(steps))
    monitored = [m["lr-SGD"] for _, m in fits.logged if "lr-SGD" in m]
    assert monitored == pytest.approx(expected)
    assert fits.daemon.receipts[0].branch_after == 1
    assert [d.action for d in pilot_of(callback).decisions] == ["rollback"]


def test_a_stop_ends_the_fit(fits: Fits) -> None:
    stop = model_pb2.Decision(id=1, action="ACTION_STOP", stop=True)
    trainer = fits.fit(seeded(decide_at={3: stop}), [LRControllerCallback()])
    assert trainer.global_step == 4
    assert fits.daemon.reports[-1].goodbye.reason == "stopped"


def test_a_resumed_fit_goes_on_with_step_plan_and_native_curve(fits: Fits) -> None:
    saver = ModelCheckpoint(fits.folder, save_last=True)
    module = seeded("exponential", {5: rollback(0.5)})
    fits.fit(
        module, [LRControllerCallback(run="r"), saver], max_epochs=2, enable_checkpointing=True
    )
    again = seeded("exponential")
    callback = LRControllerCallback(run="r")
    fits.fit(again, [callback], resume=str(fits.folder / "last.ckpt"), max_epochs=4)
    hello = fits.daemon.hello
    assert hello is not None
    assert (hello.start_step, hello.branch, hello.last_decision_id) == (16, 1, 1)
    assert hello.resumes
    assert again.seen_lrs == pytest.approx(
        [max(LR * 0.9**k * 0.5, LR * 1e-4) for k in range(16, 32)]
    )
    assert pilot_of(callback).step_count == 32


def test_a_missing_monitor_is_told_once_with_the_nearest_name(
    fits: Fits, caplog: pytest.LogCaptureFixture
) -> None:
    fits.fit(seeded(), [LRControllerCallback(monitor="val_los")])
    told = [r.message for r in caplog.records if "val_los" in r.message]
    assert len(told) == 1
    assert "did you mean 'val_loss'" in told[0]


def test_fast_dev_run_leaves_us_inert(fits: Fits) -> None:
    callback = LRControllerCallback()
    fits.fit(seeded(), [callback], fast_dev_run=True)
    assert callback.pilot is None
    assert fits.daemon.hello is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"search": "yes"},
        {"mode": "loud"},
        {"project": "a/b"},
        {"run": ""},
        {"total_steps": 0},
        {"min_lr": -1.0},
        {"token": "two words"},
        {"signals": "plateau"},
        {"connect_timeout": -1},
    ],
)
def test_a_wrong_argument_is_refused_when_the_callback_is_made(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        LRControllerCallback(**wrong)


def test_an_error_in_the_fit_is_the_goodbyes_reason(fits: Fits) -> None:
    class Broken(Module):
        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            if self.global_step == 3:
                raise KeyError("user's own")
            return super().training_step(batch, batch_idx)

    with pytest.raises(KeyError):
        fits.fit(Broken(), [LRControllerCallback()])
    assert fits.daemon.reports[-1].goodbye.reason == "error"
