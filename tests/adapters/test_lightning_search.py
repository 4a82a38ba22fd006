"""A search inside a Lightning fit: the raw loop's, seen by nobody whom it does not concern."""

import csv
import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger
from torch.utils.data import DataLoader, TensorDataset

import lrpilot
from lrpilot.lightning import LRControllerCallback
from lrpilot.lightning.search import PROBE
from lrpilot.pilot import Pilot
from lrpilot.torch.options import Options
from lrpilot_controller.core.events import Decided, ProgramEnded, SearchEnded
from lrpilot_controller.core.telemetry import Samples
from support.loopback import Loopback

FAR = 1e-5  # an LR that nobody would start with
EPOCHS, BATCHES, BATCH = 40, 20, 8  # an epoch is shorter than most programs
STEPS = EPOCHS * BATCHES
ALL = 360  # more than the programs of a search may take of them

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),  # Lightning's advice on workers and GPUs
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


def rows(count: int = BATCHES * BATCH) -> TensorDataset:
    source = torch.Generator().manual_seed(1)
    x = torch.randn(count, 6, generator=source)
    y = (x @ torch.randn(6, 1, generator=source)).sin()
    return TensorDataset(x, y + 0.1 * torch.randn(count, 1, generator=source))


def loader(count: int = BATCHES * BATCH) -> DataLoader[Any]:
    """In one order: Lightning asks a shuffling sampler more often than a plain loop does."""
    return DataLoader(rows(count), BATCH, generator=torch.Generator().manual_seed(2))


class Module(pl.LightningModule):
    """A small regression with dropout and batch norm."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.net = torch.nn.Sequential(
            torch.nn.Linear(6, 16), torch.nn.BatchNorm1d(16), torch.nn.Dropout(0.1)
        )
        self.net.append(torch.nn.Linear(16, 1))
        self.steps: list[tuple[int, int]] = []
        self.validated: list[tuple[float, list[torch.Tensor]]] = []

    def loss(self, batch: Any) -> torch.Tensor:
        return (self.net(batch[0]) - batch[1]).square().mean()

    def on_train_start(self) -> None:
        torch.manual_seed(7)

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        self.steps.append((self.global_step, self.current_epoch))
        loss = self.loss(batch)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        torch.rand(1)  # whatever it draws, a program does not
        self.log("val_loss", self.loss(batch))

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=FAR)


class Manual(Module):
    """The same by hand, with one optimizer or two."""

    def __init__(self, optimizers: int = 1) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.count = optimizers
        self.between: Callable[[], Any] = lambda: None  # what is done before the last of them steps

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        held: Any = self.optimizers()
        optimizers = held if isinstance(held, list) else [held]
        loss = self.loss(batch)
        self.manual_backward(loss)
        for optimizer in optimizers:
            if optimizer is optimizers[-1]:
                self.between()
            optimizer.step()
            optimizer.zero_grad()
        return {"loss": loss}

    def configure_optimizers(self) -> Any:
        if self.count == 1:
            return super().configure_optimizers()
        return [torch.optim.Adam(part.parameters(), lr=FAR) for part in (self.net[:3], self.net[3])]


State = dict[str, torch.Tensor]


def weights(module: torch.nn.Module) -> State:
    """Parameters and buffers as they are: `state_dict` would ask for the run's own."""
    live = [*module.named_parameters(), *module.named_buffers()]
    return {name: tensor.detach().clone() for name, tensor in live}


def same(one: State, other: State) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


class Watcher(Callback):
    """Looks at the weights in the hooks of training, listed after our callback."""

    def __init__(self, callback: LRControllerCallback) -> None:
        self.callback = callback
        self.probing: list[bool] = []
        self.served: list[tuple[int, int, float]] = []  # program, step, which batch
        self.moved = 0
        self.inside: list[State] = []  # the states between a program's first step and its last
        self._weights: State = {}

    def on_train_batch_start(
        self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        pilot = pilot_of(self.callback)
        self.probing.append(pilot.searching)
        self.served.append((pilot._stamp.program, pilot.step_count, batch[0].sum().item()))
        if self._weights and not same(weights(pl_module), self._weights):
            self.moved += 1

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        self._weights = weights(pl_module)  # of a program, where one is open
        program = pilot_of(self.callback)._stamp.program
        if program and program == self.served[-1][0]:
            self.inside.append(self._weights)


@dataclass
class Fit:
    """One fit and what is known of it."""

    daemon: Loopback
    callback: LRControllerCallback
    module: Module
    trainer: pl.Trainer
    watcher: Watcher

    @property
    def rows(self) -> list[dict[str, str]]:
        """What was logged beside a train loss."""
        assert self.trainer.logger is not None
        with (Path(self.trainer.logger.log_dir or "") / "metrics.csv").open() as file:
            return [row for row in csv.DictReader(file) if row["train_loss"]]


class Fits:
    """Runs fits, and the raw loop, whose daemons are engines."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self._daemon = Loopback()
        monkeypatch.setattr(Options, "_connect", lambda _: self._daemon)

    def fit(
        self,
        *callbacks: Callback,
        module: Module | None = None,
        train: Any = None,
        first: tuple[Callback, ...] = (),
        resume: Path | None = None,
        search: bool = True,
        **settings: Any,
    ) -> Fit:
        """One fit, with callbacks before and after ours; validation is off unless asked for."""
        self._daemon = Loopback()
        module = module or Module()
        callback = LRControllerCallback(search=search, run="r", total_steps=STEPS)
        watcher = Watcher(callback)
        trainer = pl.Trainer(
            **{
                "max_epochs": EPOCHS,
                "accelerator": "cpu",
                "logger": CSVLogger(self.folder),
                "log_every_n_steps": 1,
                "limit_val_batches": 0,
                "enable_progress_bar": False,
                "enable_model_summary": False,
                "enable_checkpointing": any(isinstance(c, ModelCheckpoint) for c in callbacks),
                "callbacks": [*first, callback, watcher, *callbacks],
            }
            | settings
        )
        loaders = (loader() if train is None else train, DataLoader(rows(64), 32))
        if resume is None:
            trainer.fit(module, *loaders)
        else:
            trainer.fit(module, *loaders, ckpt_path=resume, weights_only=False)
        return Fit(self._daemon, callback, module, trainer, watcher)

    def raw(self, module: Module | None = None, epochs: int = EPOCHS) -> Loopback:
        """The same in a loop of one's own."""
        self._daemon = Loopback()
        module, batches = module or Module(), loader()
        made = module.configure_optimizers()
        optimizers = made if isinstance(made, list) else [made]
        torch.manual_seed(7)
        attached = lrpilot.attach(made, model=module, total_steps=STEPS, run="r", search=True)
        with attached as pilot:
            for _ in range(epochs):
                for batch in pilot.batches(batches):
                    loss = module.loss(batch)
                    module.zero_grad()
                    loss.backward()
                    for optimizer in optimizers:
                        optimizer.step()
                    pilot.step(loss)
        return self._daemon


def pilot_of(callback: LRControllerCallback) -> Pilot:
    assert callback.pilot is not None
    return callback.pilot


@pytest.fixture
def fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fits]:
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield Fits(tmp_path, monkeypatch)
    torch.set_num_threads(threads)


def programs(daemon: Loopback) -> list[tuple[Any, ...]]:
    """What every program found, and where it ran."""
    return [
        (e.program, e.first_step, e.losses, e.stop_reason)
        for e in daemon.record
        if isinstance(e, ProgramEnded)
    ]


def decisions(daemon: Loopback) -> list[Any]:
    return [e.decision for e in daemon.record if isinstance(e, Decided)]


def samples(daemon: Loopback) -> list[tuple[Any, ...]]:
    """The train samples: step, program, loss."""
    return [
        (e.step[0], e.program[0], e.loss[0], e.lrs[0])
        for e in daemon.record
        if isinstance(e, Samples) and not e.validation[0]
    ]


def result_of(daemon: Loopback) -> Any:
    (ended,) = [e for e in daemon.record if isinstance(e, SearchEnded)]
    return ended.result


def test_it_is_the_raw_loops_search_to_the_last_bit(fits: Fits) -> None:
    raw, fit = fits.raw(), fits.fit()
    assert programs(fit.daemon) == programs(raw)
    assert decisions(fit.daemon) == decisions(raw)
    assert samples(fit.daemon) == samples(raw)
    assert result_of(fit.daemon) == result_of(raw)
    assert result_of(fit.daemon).lr > 100 * FAR
    assert fit.watcher.moved == 0


def test_steps_never_go_back_and_those_of_programs_are_marked(fits: Fits) -> None:
    fit = fits.fit(max_steps=ALL)
    assert [step for step, _ in fit.module.steps] == list(range(ALL))
    assert [epoch for _, epoch in fit.module.steps] == [step // BATCHES for step in range(ALL)]
    assert [int(row["step"]) for row in fit.rows] == list(range(ALL))
    searched = sum(fit.watcher.probing)
    assert searched == result_of(fit.daemon).steps
    end = math.ceil((searched + 1) / BATCHES) * BATCHES  # Lightning repeats a value that long
    marks = [row[PROBE] for row in fit.rows]
    assert marks[:searched] == ["1.0"] * searched
    assert set(marks[searched:end]) == {"0.0"}
    assert set(marks[end:]) == {""}
    assert all(
        bool(program) == probing
        for (program, *_), probing in zip(fit.watcher.served, fit.watcher.probing, strict=True)
    )


def test_without_a_search_nothing_is_marked(fits: Fits) -> None:
    assert PROBE not in fits.fit(max_steps=5, search=False).rows[0]


class Looks(Callback):
    """Looks at the weights in the hooks of validation, and saves by itself."""

    def __init__(self, folder: Path, every: int = 7) -> None:
        self.folder, self.every = folder, every
        self.seen: list[tuple[int, State, float]] = []

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step % self.every == 0:
            name = f"{type(self).__name__}-{trainer.global_step}.ckpt"
            trainer.save_checkpoint(self.folder / name, weights_only=True)

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        if not trainer.sanity_checking:
            loss = float(trainer.callback_metrics["val_loss"])
            self.seen.append((trainer.global_step, weights(pl_module), loss))


def val_loss(state: State) -> float:
    """The validation loss of these weights."""
    module = Module()
    module.load_state_dict(state)
    module.eval()
    with torch.no_grad():
        return sum(float(module.loss(batch)) for batch in DataLoader(rows(64), 32)) / 2


def saved(path: Path) -> tuple[State, dict[str, Any]]:
    held = torch.load(path, weights_only=False)
    return dict(held["state_dict"]), held


def test_neither_validation_nor_checkpoints_see_a_programs_weights(fits: Fits) -> None:
    plain, start = fits.fit(max_steps=ALL), weights(Module())
    first, last = Looks(fits.folder / "first"), Looks(fits.folder / "last", every=9)
    own = ModelCheckpoint(fits.folder / "own", "{step}", every_n_train_steps=11, save_top_k=-1)
    slim = ModelCheckpoint(
        fits.folder / "slim", "{step}", every_n_train_steps=3, save_top_k=-1, save_weights_only=True
    )
    fit = fits.fit(
        own, slim, last, first=(first,), max_steps=ALL, limit_val_batches=2, val_check_interval=5
    )
    assert programs(fit.daemon) == programs(plain.daemon)  # as if nobody had looked
    assert fit.watcher.moved == 0
    searched = result_of(fit.daemon).steps
    looked = [state for look in (first, last) for step, state, _ in look.seen if step < searched]
    assert len(looked) == 2 * (searched // 5)
    files = {p: int(p.stem.replace("=", "-").split("-")[1]) for p in fits.folder.rglob("*.ckpt")}
    looked += [saved(path)[0] for path, step in files.items() if step < searched]
    kept: list[State] = []
    for state in looked:
        if not any(same(state, one) for one in kept):
            kept.append(state)
    assert same(kept[0], start)  # and later that of the best program's end
    assert not any(same(state, inside) for state in kept for inside in fit.watcher.inside)
    assert all(loss == pytest.approx(val_loss(state), rel=1e-5) for _, state, loss in last.seen)


def test_a_checkpoint_of_a_programs_middle_is_the_runs_own(fits: Fits) -> None:
    own = ModelCheckpoint(fits.folder / "own", "{step}", every_n_train_steps=10, save_top_k=-1)
    fits.fit(own, max_steps=25)
    state, held = saved(fits.folder / "own" / "step=10.ckpt")
    assert same(state, weights(Module()))
    moments = held["optimizer_states"][0]["state"].values()
    assert all(not moment["exp_avg"].any() for moment in moments)
    assert held["optimizer_states"][0]["param_groups"][0]["lr"] == FAR
    module = Module()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
    again = fits.fit(module=module, resume=fits.folder / "own" / "step=10.ckpt", max_steps=14)
    assert [step for step, _ in again.module.steps] == [10, 11, 12, 13]
    assert programs(again.daemon) == []
    assert not any(again.watcher.probing)
    assert [sample[3] for sample in samples(again.daemon)] == [(FAR,)] * 4


def test_each_micro_batch_of_a_window_is_the_same_in_each_program(fits: Fits) -> None:
    fit = fits.fit(train=loader(21 * BATCH), accumulate_grad_batches=2, max_steps=150)
    served: dict[tuple[int, int], list[float]] = {}
    first: dict[int, int] = {}
    for program, step, batch in fit.watcher.served:
        if program:
            served.setdefault((program, step - first.setdefault(program, step)), []).append(batch)
    from_start = {
        decision.program.id
        for decision in decisions(fit.daemon)
        if decision.program is not None and decision.program.restore_snapshot is not None
    }
    ladder = [p for p, *_ in programs(fit.daemon) if p in from_start]
    for i in range(6):
        windows = [served[p, i] for p in ladder if (p, i) in served]
        assert len(windows) > 2
        longest = max(windows, key=len)
        assert all(window == longest[: len(window)] for window in windows)


# -- by hand


@pytest.mark.parametrize("optimizers", [1, 2])
def test_by_hand_it_is_the_raw_loops_search_to_the_last_bit(fits: Fits, optimizers: int) -> None:
    epochs = ALL // BATCHES
    raw = fits.raw(Manual(optimizers), epochs)
    fit = fits.fit(module=Manual(optimizers), max_epochs=epochs)
    assert programs(fit.daemon) == programs(raw)
    assert samples(fit.daemon) == samples(raw)
    assert result_of(fit.daemon) == result_of(raw)
    assert fit.watcher.moved == 0


def test_by_hand_a_look_inside_a_step_leaves_its_weights_and_one_after_it_does_not(
    fits: Fits,
) -> None:
    plain, looked = Manual(2), Manual(2)
    looked.between = lambda: looked.state_dict()
    own = ModelCheckpoint(fits.folder / "own", "{step}", every_n_train_steps=10, save_top_k=-1)
    first = fits.fit(module=plain, max_steps=60)
    second = fits.fit(own, module=looked, max_steps=60)
    assert len(programs(first.daemon)) > 1
    assert programs(second.daemon) == programs(first.daemon)
    assert same(saved(fits.folder / "own" / "step=10.ckpt")[0], weights(Module()))


class Silent(Manual):
    """Tells nobody its loss."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        super().training_step(batch, batch_idx)


def test_a_search_whose_losses_nobody_tells_is_given_up(
    fits: Fits, caplog: pytest.LogCaptureFixture
) -> None:
    fit = fits.fit(module=Silent(), max_steps=8)
    assert not pilot_of(fit.callback).searching
    assert fit.trainer.global_step == 8
    assert pilot_of(fit.callback).lrs == [FAR]
    assert pilot_of(fit.callback).step_count > 3
    assert sum("is given up" in record.message for record in caplog.records) == 1
