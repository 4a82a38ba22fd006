"""The callback in Hugging Face's Trainer: a guest that leaves loops and logs right."""

import math
from typing import Any

import pytest
import torch
from torch import nn
from transformers import TrainerCallback

from lrpilot.huggingface import LRControllerCallback
from lrpilot_proto.v1 import model_pb2
from support.hugging import BATCH, LR, ROWS, Net, Runs, Weights, same, scale, weights


@pytest.mark.parametrize("precision", [{}, {"bf16": True}])
def test_a_healthy_run_is_bit_identical_to_one_without_us(
    training: Runs, precision: dict[str, bool]
) -> None:
    alone = training.run(None, **precision)
    watched = training.run(LRControllerCallback(), **precision)
    assert same(alone.weights, watched.weights)
    assert alone.lrs == watched.lrs
    assert alone.logged("loss") == watched.logged("loss")
    assert alone.logged("learning_rate") == watched.logged("learning_rate")
    assert watched.pilot.summary().snapshots >= 1


def test_every_optimizer_step_is_one_sample_and_evaluation_goes_beside_it(training: Runs) -> None:
    net = Net()
    run = training.run(LRControllerCallback(), net=net, eval_strategy="epoch", eval_on_start=True)
    steps = 2 * ROWS // BATCH
    daemon = training.daemon
    assert daemon.losses == pytest.approx(net.losses)
    assert [item[2] for item in daemon.items if item[1] == 1] == list(range(steps))
    validations = [(item[2], item[5]) for item in daemon.items if item[1] == 2]
    assert [step for step, _ in validations] == [8, 16]
    assert [loss for _, loss in validations] == run.logged("eval_loss")[1:]
    assert daemon.hello.total_steps == steps
    assert daemon.reports[-1].goodbye.reason == "finished"


@pytest.mark.parametrize("accumulate", [2, 3])
def test_accumulation_reports_the_mean_over_its_window(training: Runs, accumulate: int) -> None:
    net = Net()
    run = training.run(
        LRControllerCallback(), net=net, gradient_accumulation_steps=accumulate, num_train_epochs=1
    )
    windows = [net.losses[i : i + accumulate] for i in range(0, 8, accumulate)]
    assert training.daemon.losses == pytest.approx([sum(w) / len(w) for w in windows])
    assert training.daemon.losses == pytest.approx(run.logged("loss"), rel=1e-6)


def test_a_loss_that_is_no_number_is_told_though_the_trainers_log_hides_it(training: Runs) -> None:
    class Once(Net):
        def forward(self, x: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
            out = super().forward(x, labels)
            return out | {"loss": out["loss"] * (math.nan if len(self.losses) == 4 else 1.0)}

    run = training.run(LRControllerCallback(), net=Once(), num_train_epochs=1)
    assert math.isnan(training.daemon.losses[3])
    assert not math.isnan(run.logged("loss")[3])


def test_a_rollback_restores_weights_and_leaves_the_trainer_alone(training: Runs) -> None:
    class Seen(TrainerCallback):  # type: ignore[misc]
        def __init__(self) -> None:
            self.weights: list[Weights] = []

        def on_step_begin(self, *_: Any, model: nn.Module, **__: Any) -> None:
            self.weights.append(weights(model))

    seen = Seen()
    back = scale(0.5, action="ACTION_ROLLBACK", restore_snapshot=1)
    run = training.run(LRControllerCallback(), seen, decide_at={5: back})
    assert same(seen.weights[6], seen.weights[0])
    assert not same(seen.weights[5], seen.weights[0])
    assert run.trainer.state.global_step == 16
    native = [LR * (1 - k / 16) for k in range(16)]
    expected = native[:6] + [lr / 2 for lr in native[6:]]
    assert run.lrs == pytest.approx(expected)
    assert run.logged("learning_rate") == pytest.approx(expected)
    assert training.daemon.receipts[0].branch_after == 1
    assert [d.action for d in run.pilot.decisions] == ["rollback"]


def test_a_stop_ends_the_training(training: Runs) -> None:
    stop = model_pb2.Decision(id=1, action="ACTION_STOP", stop=True)
    run = training.run(LRControllerCallback(), decide_at={3: stop})
    assert run.trainer.state.global_step == 4
    assert training.daemon.reports[-1].goodbye.reason == "stopped"
