"""Under the callback the Trainer's scheduler stays the anchor."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.optim.lr_scheduler import ExponentialLR, LinearLR, SequentialLR
from transformers import Trainer

from lrpilot.huggingface import LRControllerCallback
from support.hugging import Net, Run, Runs, release, same, scale


def rising() -> Callable[[Any], dict[str, float]]:
    """A metric that depends on no weights, so that a scheduler that follows it does neither."""
    values = itertools.count()
    return lambda _: {"rising": float(next(values))}


SCHEDULES: dict[str, dict[str, Any]] = {
    "linear": {"lr_scheduler_type": "linear", "warmup_steps": 3},
    "cosine": {"lr_scheduler_type": "cosine"},
    "exponential": {"scheduler": lambda o: ExponentialLR(o, 0.9)},
    "sequential": {
        "scheduler": lambda o: SequentialLR(
            o, [LinearLR(o, 0.1, 1.0, 4), ExponentialLR(o, 0.95)], [4]
        )
    },
    "plateau": {
        "lr_scheduler_type": "reduce_lr_on_plateau",
        "lr_scheduler_kwargs": {"patience": 0, "factor": 0.5},
        "metric_for_best_model": "rising",
        "greater_is_better": False,
    },
    "greedy": {
        "lr_scheduler_type": "greedy",
        "lr_scheduler_kwargs": {"patience": 0, "factor": 0.5, "min_lr": 1e-6},
        "metric_for_best_model": "rising",
        "greater_is_better": False,
    },
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_after_a_release_and_a_resume_the_lr_is_the_native_one_to_the_last_bit(
    training: Runs, name: str
) -> None:
    settings = {"eval_strategy": "steps", "eval_steps": 3, **SCHEDULES[name]}

    def run(callback: LRControllerCallback | None, **more: Any) -> Run:
        return training.run(callback, compute_metrics=rising(), **settings, **more)

    native = run(None).lrs
    decide_at = {4: scale(0.3, 1), 12: release(2)}
    whole = run(
        LRControllerCallback(run="r"), decide_at=decide_at, save_strategy="steps", save_steps=9
    )
    assert whole.lrs[:5] == native[:5]
    assert whole.lrs[5:13] == [lr * 0.3 for lr in native[5:13]]
    assert whole.lrs[13:] == native[13:]
    assert whole.logged("learning_rate") == whole.lrs
    resumed = run(
        LRControllerCallback(run="r"), decide_at=decide_at, resume=training.folder / "checkpoint-9"
    )
    if "rising" not in str(settings):  # what the metric was is no part of a checkpoint
        assert resumed.lrs == whole.lrs[9:]
        assert same(resumed.weights, whole.weights)
    assert resumed.lrs[:4] == whole.lrs[9:13]
    hello = training.daemon.hello
    assert (hello.start_step, hello.last_decision_id) == (9, 1)
    assert hello.resumes
    assert resumed.pilot.step_count == 16


def test_a_step_that_fp16_skipped_leaves_the_native_curve(training: Runs) -> None:
    class Scaled(Trainer):  # type: ignore[misc]
        """fp16 needs a GPU; its gradient scaler does not."""

        def create_accelerator_and_postprocess(self) -> None:
            super().create_accelerator_and_postprocess()
            self.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)

    class Overflows(Net):
        def forward(self, x: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
            out = super().forward(x, labels)
            return out | {"loss": out["loss"] * (math.inf if len(self.losses) == 8 else 1.0)}

    def run(callback: LRControllerCallback | None, decide_at: dict[int, Any]) -> Run:
        return training.run(
            callback,
            net=Overflows(),
            kind=Scaled,
            decide_at=decide_at,
            scheduler=lambda o: ExponentialLR(o, 0.9),
        )

    native = run(None, {}).lrs
    assert native[7] == native[8]  # skipped
    watched = run(LRControllerCallback(), {4: scale(0.3, 1), 11: release(2)}).lrs
    assert watched[5:12] == [lr * 0.3 for lr in native[5:12]]
    assert watched[12:] == native[12:]
    assert len(training.daemon.losses) == 16
