"""The callback in Hugging Face's Trainer: a guest that leaves loops, logs and checkpoints right."""

import gc
import inspect
import itertools
import json
import math
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import ExponentialLR, LambdaLR, LinearLR, SequentialLR
from torch.utils.data import DataLoader
from transformers import EarlyStoppingCallback, Trainer, TrainerCallback, TrainingArguments

import lrpilot
from lrpilot.huggingface import LRControllerCallback
from lrpilot.pilot import Pilot
from lrpilot.testing import FakeDaemon, Rig, TrainerContract
from lrpilot.torch.options import Options
from lrpilot_controller.core.events import ProgramEnded
from lrpilot_proto.v1 import model_pb2
from support.loopback import Loopback
from support.searches import Script, over, program, runs

LR = 0.01
ROWS, BATCH = 64, 8

Weights = dict[str, torch.Tensor]


class Net(nn.Module):
    """A small regression with dropout; keeps the losses of its training."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Dropout(0.2), nn.Linear(8, 1))
        self.losses: list[float] = []

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        loss = (self.net(x) - labels).square().mean()
        if self.training:
            self.losses.append(loss.item())
        return {"loss": loss, "logits": labels}


def rows(count: int = ROWS) -> list[dict[str, torch.Tensor]]:
    source = torch.Generator().manual_seed(1)
    x = torch.randn(count, 4, generator=source)
    noise = 0.1 * torch.randn(count, 1, generator=source)
    return [
        {"x": one, "labels": one.sum(0, keepdim=True).sin() + n}
        for one, n in zip(x, noise, strict=True)
    ]


def weights(module: nn.Module) -> Weights:
    """Parameters as they are: `state_dict` would ask for the run's own."""
    return {name: one.detach().clone() for name, one in module.named_parameters()}


def same(one: Weights, other: Weights) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


class Hand(TrainerCallback):  # type: ignore[misc]
    """Lets the daemon decide before certain steps, and notes the LR that each step has."""

    def __init__(self, daemon: FakeDaemon, decide_at: dict[int, Any]) -> None:
        self.daemon, self.decide_at = daemon, decide_at
        self.lrs: list[float] = []

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.lrs.append(kwargs["optimizer"].param_groups[0]["lr"])
        if decision := self.decide_at.get(state.global_step):
            self.daemon.decide(decision)


class Run:
    """A training that ended."""

    def __init__(self, trainer: Trainer, callback: LRControllerCallback | None, hand: Hand) -> None:
        self.trainer, self.callback, self.lrs = trainer, callback, hand.lrs
        self.weights = weights(trainer.model)

    @property
    def pilot(self) -> Pilot:
        assert self.callback is not None
        assert self.callback.pilot is not None
        return self.callback.pilot

    def logged(self, name: str) -> list[float]:
        return [entry[name] for entry in self.trainer.state.log_history if name in entry]


class Runs:
    """Runs trainings whose daemon is a fake, or an engine."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.daemon: Any = FakeDaemon()
        monkeypatch.setattr(Options, "_connect", lambda _: self.daemon)

    def trainer(
        self, net: nn.Module, callbacks: list[Any], kind: type[Trainer] = Trainer, **settings: Any
    ) -> Trainer:
        others = {
            name: settings.pop(name)
            for name in ("optimizers", "compute_metrics")
            if name in settings
        }
        if "eval_dataset" not in others:
            others["eval_dataset"] = settings.pop("eval_dataset", rows(32))
        arguments = TrainingArguments(
            **{
                "output_dir": str(self.folder),
                "use_cpu": True,
                "report_to": "none",
                "disable_tqdm": True,
                "log_level": "error",
                "dataloader_pin_memory": False,
                "logging_steps": 1,
                "save_strategy": "no",
                "per_device_train_batch_size": BATCH,
                "num_train_epochs": 2,
                "learning_rate": LR,
            }
            | settings
        )
        return kind(net, arguments, train_dataset=rows(), callbacks=callbacks, **others)

    def run(
        self,
        callback: LRControllerCallback | None,
        *others: TrainerCallback,
        net: nn.Module | None = None,
        decide_at: dict[int, Any] | None = None,
        resume: Path | None = None,
        first: tuple[TrainerCallback, ...] = (),
        scheduler: Callable[[Any], Any] | None = None,
        **settings: Any,
    ) -> Run:
        net = net or Net()
        if scheduler is not None:
            optimizer = torch.optim.SGD(net.parameters(), lr=LR, momentum=0.9)
            settings["optimizers"] = (optimizer, scheduler(optimizer))
        hand = Hand(self.daemon, decide_at or {})
        ours = [] if callback is None else [callback]
        trainer = self.trainer(net, [*first, *ours, hand, *others], **settings)
        trainer.train(resume_from_checkpoint=str(resume) if resume else None)
        return Run(trainer, callback, hand)


@pytest.fixture(scope="module", autouse=True)
def _light() -> Iterator[None]:
    """Each training begins with a garbage collection, which would walk through all of torch."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Runs]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield Runs(tmp_path, monkeypatch)
    torch.set_num_threads(threads)


def scale(factor: float, number: int = 1, **fields: Any) -> model_pb2.Decision:
    segment = model_pb2.Segment(
        shape="SHAPE_CONSTANT", start=0, end=1, start_value=factor, end_value=factor
    )
    plan = model_pb2.Plan(kind="PLAN_KIND_SCALE", segments=[segment])
    return model_pb2.Decision(**{"id": number, "action": "ACTION_CUT", "plan": plan} | fields)


def release(number: int) -> model_pb2.Decision:
    return model_pb2.Decision(id=number, action="ACTION_RELEASE", release=True)


# -- guarding


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


# -- the scheduler stays the anchor


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


# -- what a checkpoint keeps


def test_the_state_in_a_checkpoint_is_plain_and_holds_no_secret(training: Runs) -> None:
    callback = LRControllerCallback(token="lrp_secret", monitor="eval_loss", min_lr=1e-9)
    training.run(callback, save_strategy="steps", save_steps=8)
    text = (training.folder / "checkpoint-8" / "trainer_state.json").read_text()
    kept = json.loads(text)["stateful_callbacks"]["LRControllerCallback"]
    assert kept["args"]["min_lr"] == 1e-9
    assert kept["args"]["monitor"] == "eval_loss"
    assert kept["attributes"]["saved"]["step"] == 8
    assert "secret" not in text


def test_callbacks_that_are_made_anew_from_a_checkpoint_go_on(training: Runs) -> None:
    training.run(LRControllerCallback(run="r", project="p"), save_strategy="steps", save_steps=8)
    training.run(
        LRControllerCallback(),
        resume=training.folder / "checkpoint-8",
        restore_callback_states_from_checkpoint=True,
    )
    hello = training.daemon.hello
    assert (hello.run.project, hello.run.name, hello.start_step) == ("p", "r", 8)


def test_a_second_training_begins_anew(training: Runs) -> None:
    callback = LRControllerCallback()
    run = training.run(callback, num_train_epochs=1)
    first = training.daemon.hello.attempt
    run.trainer.train()
    assert training.daemon.hello.attempt != first
    assert training.daemon.hello.start_step == 0
    assert len(training.daemon.losses) == 16


def test_a_checkpoint_of_a_run_without_us_is_counted_from_there(training: Runs) -> None:
    training.run(None, save_strategy="steps", save_steps=8)
    run = training.run(LRControllerCallback(), resume=training.folder / "checkpoint-8")
    assert run.pilot.step_count == 8
    assert training.daemon.hello.total_steps == 8


# -- the edges


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


def test_it_takes_every_keyword_of_attach() -> None:
    known = inspect.signature(LRControllerCallback).parameters
    assert {field.name for field in fields(Options)} <= known.keys()


def test_without_transformers_the_error_says_what_to_install() -> None:
    code = "import sys; sys.modules['transformers'] = None; import lrpilot.huggingface"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert 'pip install "lrpilot[huggingface]"' in done.stderr.splitlines()[-1]


# -- searching

FAR = 1e-5  # an LR that nobody would start with
STEPS, LOOKED = 800, 240
BATCHES = 20  # an epoch is shorter than most programs


class Feed(Trainer):  # type: ignore[misc]
    """With a loader that no Accelerate touched, so that a raw loop can have the same."""

    def get_train_dataloader(self) -> Any:
        return loader()


def loader() -> DataLoader[Any]:
    data: Any = rows(BATCHES * BATCH)
    return DataLoader(data, BATCH, generator=torch.Generator().manual_seed(2))


def programs(daemon: Loopback) -> list[tuple[Any, ...]]:
    """What every program found, and where it ran."""
    return [
        (e.program, e.first_step, e.losses, e.stop_reason)
        for e in daemon.record
        if isinstance(e, ProgramEnded)
    ]


def constant(optimizer: Any) -> Any:
    return LambdaLR(optimizer, lambda _: 1.0)


class Seed(TrainerCallback):  # type: ignore[misc]
    """Dropout draws the same as in the raw loop."""

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == 0:
            torch.manual_seed(7)


class Watcher(TrainerCallback):  # type: ignore[misc]
    """Notes the states inside of programs, and whether the weights moved between steps."""

    def __init__(self) -> None:
        self.callback: LRControllerCallback | None = None
        self.inside: list[Weights] = []
        self.moved = 0
        self._last: Weights = {}

    def on_pre_optimizer_step(self, *_: Any, model: nn.Module, **__: Any) -> None:
        if self._last and not same(weights(model), self._last):
            self.moved += 1

    def on_step_end(self, *_: Any, model: nn.Module, **__: Any) -> None:
        self._last = weights(model)
        assert self.callback is not None
        assert self.callback.pilot is not None
        if self.callback.pilot.searching:
            self.inside.append(self._last)


def search(training: Runs, *others: TrainerCallback, **settings: Any) -> tuple[Run, Watcher]:
    training.daemon = Loopback()
    watcher = Watcher()
    callback = watcher.callback = LRControllerCallback(search=True, run="r", total_steps=STEPS)
    settings = {"kind": Feed, "max_steps": LOOKED, "max_grad_norm": 0.0, **settings}
    net = settings.pop("net", None) or Net()
    optimizer = torch.optim.Adam(net.parameters(), lr=FAR)
    settings["optimizers"] = (optimizer, constant(optimizer))
    run = training.run(callback, Seed(), watcher, *others, net=net, **settings)
    return run, watcher


def raw(training: Runs) -> Loopback:
    """The same search in a loop of one's own."""
    training.daemon = daemon = Loopback()
    net, batches = Net(), loader()
    optimizer = torch.optim.Adam(net.parameters(), lr=FAR)
    scheduler = constant(optimizer)
    torch.manual_seed(7)
    attached = lrpilot.attach(
        optimizer, model=net, scheduler=scheduler, total_steps=STEPS, run="r", search=True
    )
    with attached as pilot:
        while pilot.step_count < LOOKED:
            for batch in pilot.batches(batches):
                loss = net(**batch)["loss"]
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                scheduler.step()
                pilot.step(loss)
    return daemon


def test_it_is_the_raw_loops_search_to_the_last_bit(training: Runs) -> None:
    expected = programs(raw(training))
    _, watcher = search(training)
    assert programs(training.daemon) == expected
    assert len(expected) > 5
    assert watcher.moved == 0


class Looks(TrainerCallback):  # type: ignore[misc]
    """Looks at the weights wherever a callback can, and saves and predicts by itself."""

    def __init__(self, folder: Path, every: int) -> None:
        self.folder, self.every = folder, every
        self.trainer: Trainer | None = None
        self.seen: list[Weights] = []

    def look(self, state: Any, name: str, model: nn.Module) -> None:
        if state.global_step % self.every:
            return
        assert self.trainer is not None
        self.trainer.predict(rows(8))
        self.seen.append(weights(model))
        torch.save(model.state_dict(), self.folder / f"{name}-{state.global_step}.pt")
        self.trainer.save_model(str(self.folder / f"{name}-{state.global_step}"))

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.look(state, "end", kwargs["model"])

    def on_substep_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.look(state, "substep", kwargs["model"])

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.seen.append(weights(kwargs["model"]))


@pytest.mark.parametrize("accumulate", [1, 2])
def test_neither_evaluation_nor_prediction_nor_checkpoints_see_a_programs_weights(
    training: Runs, accumulate: int
) -> None:
    settings = {"gradient_accumulation_steps": accumulate, "max_steps": 70}
    search(training, **settings)
    plain = programs(training.daemon)
    looks = [Looks(training.folder / name, every) for name, every in (("a", 7), ("b", 9))]
    for look in looks:
        look.folder.mkdir()

    class Known(Feed):
        def __init__(self, *args: Any, **named: Any) -> None:
            super().__init__(*args, **named)
            for look in looks:
                look.trainer = self

    run, watcher = search(
        training,
        looks[1],
        first=(looks[0],),
        kind=Known,
        eval_strategy="steps",
        eval_steps=5,
        save_strategy="steps",
        save_steps=11,
        **settings,
    )
    assert programs(training.daemon) == plain  # as if nobody had looked
    assert len(plain) >= 2
    assert run.pilot.step_count == 70
    looked = [state for look in looks for state in look.seen]
    looked += [torch.load(path) for path in training.folder.rglob("*.pt") if "-" in path.stem]
    assert len(looked) > 30
    start = weights(Net())
    searched = [one for one in looked if not same(one, start)]
    assert not any(same(one, inside) for one in searched for inside in watcher.inside)
    assert sum(same(one, start) for one in looked) > 10


def test_early_stopping_waits_for_a_search_and_the_best_model_is_kept_at_its_end(
    training: Runs,
) -> None:
    run, _ = search(
        training,
        EarlyStoppingCallback(1),
        max_steps=60,
        eval_strategy="steps",
        eval_steps=10,
        save_strategy="steps",
        save_steps=10,
        load_best_model_at_end=True,
        metric_for_best_model="eval_loss",
    )
    assert run.trainer.state.global_step == 60  # in the middle of the search
    assert len(programs(training.daemon)) >= 1
    assert same(run.weights, weights(Net()))  # the best one: the state that all programs leave


class Averaged(nn.Module):
    """Its loss is averaged over the items of a whole step, as language models' are."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.net = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.2), nn.Linear(8, 3))

    def forward(self, x: torch.Tensor, labels: torch.Tensor, **named: Any) -> dict[str, Any]:
        items = named.get("num_items_in_batch")
        loss = nn.functional.cross_entropy(self.net(x), labels, reduction="sum")
        return {"loss": loss / (items if items is not None else labels.ne(-100).sum())}


def test_a_kept_batch_comes_with_its_number_of_items(training: Runs) -> None:
    source = torch.Generator().manual_seed(4)
    x = torch.randn(21 * 4, 4, generator=source)
    classes = torch.randint(-1, 3, (21 * 4,), generator=source)
    classes[classes < 0] = -100  # an item that counts for nothing: batches differ in their number
    data: Any = [{"x": one, "labels": which} for one, which in zip(x, classes, strict=True)]

    class Items(Trainer):  # type: ignore[misc]
        def get_train_dataloader(self) -> Any:
            return DataLoader(data, 4, generator=torch.Generator().manual_seed(2))

    training.daemon = daemon = FakeDaemon(
        Script(runs(program(1, length=12)), runs(program(2, length=12)), over(3))
    )
    callback = LRControllerCallback(search=True)
    training.run(
        callback,
        net=Averaged(),
        kind=Items,
        gradient_accumulation_steps=2,
        num_train_epochs=4,
        eval_dataset=data,
    )
    first, second = ([*result.losses] for result in daemon.results)
    # Steps 10 and 21 are of one batch, where an epoch ends: it is the loader's own.
    assert first[:9] == second[:9]
    assert first[9] != second[9]
    assert len(set(first)) == 12


# -- the contract of the trainer port


class Still:
    """A scheduler that leaves the LRs to whoever writes them."""

    def step(self) -> None:
        """Nothing."""

    def get_last_lr(self) -> list[float]:
        return [0.0]


class Told(TrainerCallback):  # type: ignore[misc]
    def __init__(self, heard: "queue.Queue[Any]") -> None:
        self.heard = heard

    def on_step_end(self, *_: Any, model: Any, **__: Any) -> None:
        self.heard.put(model.losses[-1])


class Deep(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.body = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3))
        self.head = nn.Linear(16, 1)
        self.losses: list[float] = []

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        loss = (self.head(self.body(x)) - x.sum(1, keepdim=True)).square().mean()
        self.losses.append(loss.item())
        return {"loss": loss}


class Loop:
    """A Trainer's own loop in a thread, which waits for the number of each batch."""

    def __init__(self, training: Runs) -> None:
        self.asked: queue.Queue[int | None] = queue.Queue()
        self.heard: queue.Queue[Any] = queue.Queue()
        asked, heard = self.asked, self.heard
        source = torch.Generator().manual_seed(5)
        batches = [torch.randn(12, 8, generator=source) for _ in range(80)]

        class Asking(Trainer):  # type: ignore[misc]
            def get_train_dataloader(self) -> Any:
                return self

            def __iter__(self) -> Iterator[Any]:
                heard.put("ready")
                while (i := asked.get()) is not None:
                    yield {"x": batches[i]}

        model = Deep()
        optimizer = torch.optim.AdamW(
            [
                {"params": list(model.body.parameters()), "lr": 0.02, "name": "body"},
                {"params": list(model.head.parameters()), "lr": 0.05, "name": "head"},
            ]
        )
        self.callback = LRControllerCallback(mode="off")  # the contract's pilots are its own
        self.trainer = training.trainer(
            model,
            [self.callback, Told(heard)],
            kind=Asking,
            optimizers=(optimizer, Still()),
            max_steps=10_000,
            logging_strategy="no",
            max_grad_norm=0.0,
            logging_nan_inf_filter=False,
        )
        self.thread = threading.Thread(target=self._train, daemon=True)
        self.thread.start()
        assert heard.get(timeout=60) == "ready"
        torch.manual_seed(9)

    def _train(self) -> None:
        try:
            self.trainer.train()
        except BaseException as error:
            self.heard.put(error)

    def step(self, i: int) -> float:
        self.asked.put(i)
        loss = self.heard.get(timeout=60)
        if isinstance(loss, BaseException):
            raise loss
        return float(loss)

    def end(self) -> None:
        self.trainer.control.should_training_stop = True
        self.asked.put(None)
        self.thread.join(60)


class TestHuggingFaceTrainer(TrainerContract):
    @pytest.fixture(autouse=True)
    def _loops(self, training: Runs) -> Iterator[None]:
        self.training = training
        self.loops: list[Loop] = []
        yield
        for loop in self.loops:
            loop.end()

    def rig(self) -> Rig:
        loop = Loop(self.training)
        self.loops.append(loop)
        assert loop.callback.pilot is not None
        return Rig(
            loop.callback.pilot._trainer,
            loop.step,
            lambda: torch.rand(()).item(),
            lambda: bool(loop.trainer.control.should_training_stop),
        )
