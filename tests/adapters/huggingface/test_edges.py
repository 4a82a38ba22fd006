"""The callback where something is unusual, or wrong."""

import inspect
import subprocess
import sys
from dataclasses import fields
from typing import Any

import pytest
import torch
from transformers import Trainer

from lrpilot.huggingface import LRControllerCallback
from lrpilot.pilot import Pilot
from lrpilot.torch.options import Options
from lrpilot_proto.v1 import model_pb2
from support.hugging import BATCH, ROWS, Net, Runs, rows, same, scale


def test_an_error_in_training_is_the_goodbyes_reason_and_leaves_nothing(training: Runs) -> None:
    class Broken(Net):
        def forward(self, x: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
            if len(self.losses) == 3:
                raise KeyError("user's own")
            return super().forward(x, labels)

    net = Broken()
    trainer = training.trainer(net, [LRControllerCallback()])
    with pytest.raises(KeyError):
        trainer.train()
    assert training.daemon.reports[-1].goodbye.reason == "error"
    assert not {"training_step", "evaluate", "predict", "get_batch_samples"} & vars(trainer).keys()
    assert type(trainer.lr_scheduler).__name__ == "LambdaLR"
    assert not net._state_dict_pre_hooks


def test_a_training_that_finds_its_batch_size_begins_anew(training: Runs) -> None:
    class Large(Net):
        def forward(self, x: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
            if self.training and len(x) > 4 and len(self.losses) == 2:
                raise RuntimeError("CUDA out of memory.")
            return super().forward(x, labels)

    run = training.run(
        LRControllerCallback(), net=Large(), auto_find_batch_size=True, num_train_epochs=1
    )
    goodbyes = [r.goodbye for r in training.daemon.reports if r.WhichOneof("body") == "goodbye"]
    assert [one.reason for one in goodbyes] == ["error", "finished"]
    assert run.pilot.step_count == run.trainer.state.global_step
    assert run.pilot.step_count > ROWS // BATCH


@pytest.mark.parametrize("part", ["serve", "step", "go_on", "validate"])
def test_a_fault_of_ours_ends_our_part_and_never_the_training(
    training: Runs, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, part: str
) -> None:
    alone = training.run(None, eval_strategy="epoch")

    def broken(*_: Any) -> None:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(Pilot, part, broken)
    run = training.run(LRControllerCallback(), eval_strategy="epoch")
    assert same(run.weights, alone.weights)
    assert sum("a fault of its own" in record.message for record in caplog.records) == 1
    assert "training_step" not in vars(run.trainer)


def test_a_missing_monitor_is_told_once_with_the_nearest_name(
    training: Runs, caplog: pytest.LogCaptureFixture
) -> None:
    training.run(LRControllerCallback(monitor="eval_los"), eval_strategy="epoch")
    told = [r.message for r in caplog.records if "eval_los" in r.message]
    assert len(told) == 1
    assert "did you mean 'eval_loss'" in told[0]


def test_one_of_several_evaluation_sets_can_be_the_monitor(
    training: Runs, caplog: pytest.LogCaptureFixture
) -> None:
    run = training.run(
        LRControllerCallback(monitor="eval_b_loss"),
        eval_strategy="epoch",
        eval_dataset={"a": rows(16), "b": rows(24)},
    )
    validations = [item[5] for item in training.daemon.items if item[1] == 2]
    assert validations == run.logged("eval_b_loss")
    assert "monitor" not in caplog.text


def test_what_is_no_torch_optimizer_is_left_alone(
    training: Runs, caplog: pytest.LogCaptureFixture
) -> None:
    class Foreign(Trainer):  # type: ignore[misc]
        """As DeepSpeed does, in place of an optimizer of torch."""

        def _prepare_for_training(self, *args: Any) -> Any:
            prepared = super()._prepare_for_training(*args)
            inner = self.optimizer.optimizer

            class Engine:
                param_groups = inner.param_groups
                step = inner.step
                zero_grad = inner.zero_grad

            self.optimizer.optimizer = Engine()
            return prepared

    run = training.run(LRControllerCallback(), kind=Foreign)
    assert run.callback is not None
    assert run.callback.pilot is None
    assert "Engine is no torch optimizer" in caplog.text


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


@pytest.mark.parametrize("every", [1, 3])
def test_the_trainers_reports_tell_what_is_done_beside_what_it_logs(
    training: Runs, every: int
) -> None:
    told = scale(0.5, signal=model_pb2.Signal(kind="divergence", severity=0.75))
    callback = LRControllerCallback(logger=True)
    run = training.run(callback, decide_at={5: told}, logging_steps=every)
    assert run.logged("lrpilot/signal/divergence") == [0.75]
    assert len(run.logged("lrpilot/lr/group 0")) >= 16 // every
    assert len(run.logged("loss")) == 16 // every, "each of its own logs is there"


def test_it_takes_every_keyword_of_attach() -> None:
    known = inspect.signature(LRControllerCallback).parameters
    assert {field.name for field in fields(Options)} <= known.keys()


def test_without_transformers_the_error_says_what_to_install() -> None:
    code = "import sys; sys.modules['transformers'] = None; import lrpilot.huggingface"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert 'pip install "lrpilot[huggingface]"' in done.stderr.splitlines()[-1]
