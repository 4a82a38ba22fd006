"""A search inside a Trainer's training."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader
from transformers import EarlyStoppingCallback, Trainer, TrainerCallback

import lrpilot
from lrpilot.huggingface import LRControllerCallback
from lrpilot.testing import FakeDaemon
from lrpilot_controller.core.events import ProgramEnded
from support.hugging import BATCH, Net, Run, Runs, Weights, rows, same, weights
from support.loopback import Loopback
from support.searches import Script, over, program, runs

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
