"""What LRPilot does, in the loggers that people have: LRs, decisions, the signals behind them."""

import csv
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from torch.utils.tensorboard import SummaryWriter

import lrpilot
from lrpilot.lightning import LRControllerCallback
from lrpilot.pilot import Pilot
from lrpilot.testing import FakeDaemon
from lrpilot.torch.options import Options
from lrpilot_proto.v1 import model_pb2
from support.decisions import rollback
from support.fits import QUIET, Fits, connected, seeded

pytestmark = QUIET

SIGNAL = model_pb2.Signal(kind="divergence", step=3, severity=0.75)
Logged = list[tuple[int, dict[str, Any]]]


def decision(**fields: Any) -> model_pb2.Decision:
    return rollback(1, reason="it diverged", signal=SIGNAL, **fields)


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> FakeDaemon:
    fake = FakeDaemon()
    monkeypatch.setattr(Options, "_connect", lambda self: fake)
    return fake


def run(daemon: FakeDaemon, logger: Any, *, steps: int = 120, groups: int = 1) -> Pilot:
    """A loop that is rolled back before its step 60."""
    torch.manual_seed(0)
    model = nn.ModuleList(nn.Linear(3, 1) for _ in range(groups))
    optimizer = torch.optim.SGD(
        [{"params": list(one.parameters()), "lr": 0.1 * 2**k} for k, one in enumerate(model)]
    )
    with lrpilot.attach(optimizer, model=model, logger=logger) as pilot:
        for k in range(steps):
            if k == 59:
                daemon.decide(decision())
            loss = sum((one(torch.ones(3)).square().sum() for one in model), torch.zeros(()))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            pilot.step(loss)
    return pilot


def of(name: str, logged: Logged) -> list[tuple[int, Any]]:
    return [(step, metrics[name]) for step, metrics in logged if name in metrics]


def lrs_of(logged: Logged) -> None:
    """The LR is there now and then, and where it was changed."""
    lrs = of("lrpilot/lr", logged)
    assert [step for step, _ in lrs] == [0, 50, 60, 110]
    assert [lr for _, lr in lrs] == pytest.approx([0.1, 0.1, 0.05, 0.05])


def test_a_function_is_told_of_lrs_and_of_decisions_with_their_signal(daemon: FakeDaemon) -> None:
    logged: Logged = []
    pilot = run(daemon, lambda metrics, step: logged.append((step, metrics)))
    lrs_of(logged)
    assert of("lrpilot/decisions", logged) == [(60, 1)]
    assert of("lrpilot/rollbacks", logged) == [(60, 1)]
    assert of("lrpilot/signal/divergence", logged) == [(60, 0.75)]
    steps = [step for step, _ in logged]
    assert steps == sorted(steps)
    told = pilot.decisions[0]
    assert (told.signal, told.severity) == ("divergence", 0.75)


def test_a_signal_that_nothing_followed_from_is_told_at_its_step(daemon: FakeDaemon) -> None:
    logged: Logged = []
    daemon.see(model_pb2.Signal(kind="plateau", step=40, severity=0.3))
    pilot = run(daemon, lambda metrics, step: logged.append((step, metrics)))
    assert of("lrpilot/signal/plateau", logged) == [(40, pytest.approx(0.3))]
    assert pilot.decisions[0].signal_step == SIGNAL.step


def test_a_signal_whose_decision_comes_later_is_told_once(daemon: FakeDaemon) -> None:
    """As in advise, where a person approves first."""
    logged: Logged = []
    daemon.see(SIGNAL)
    daemon.see(model_pb2.Signal(kind="divergence", step=2, severity=0.75))
    run(daemon, lambda metrics, step: logged.append((step, metrics)))
    assert of("lrpilot/decisions", logged) == [(60, 1)]
    assert [step for step, _ in of("lrpilot/signal/divergence", logged)] == [3, 2]


def test_several_param_groups_have_a_curve_each(daemon: FakeDaemon) -> None:
    logged: Logged = []
    run(daemon, lambda metrics, step: logged.append((step, metrics)), groups=2)
    assert of("lrpilot/lr/group 0", logged)[-1][1] == pytest.approx(0.05)
    assert of("lrpilot/lr/group 1", logged)[-1][1] == pytest.approx(0.1)


def test_a_decision_that_was_not_followed_is_no_news(daemon: FakeDaemon) -> None:
    logged: Logged = []
    model = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with lrpilot.attach(optimizer, model=model, logger=lambda m, k: logged.append((k, m))) as pilot:
        daemon.decide(decision(branch=7))
        pilot.step(1.0)
        pilot.step(1.0)
    assert [told.status for told in pilot.decisions] == ["stale"]
    assert of("lrpilot/decisions", logged) == []


def test_tensorboard(daemon: FakeDaemon, tmp_path: Path) -> None:
    with SummaryWriter(str(tmp_path)) as writer:
        run(daemon, writer)
    events = EventAccumulator(str(tmp_path)).Reload()
    lrs_of([(e.step, {"lrpilot/lr": e.value}) for e in events.Scalars("lrpilot/lr")])
    [text] = events.Tensors("lrpilot/decision/text_summary")
    assert text.step == 60
    assert text.tensor_proto.string_val == [b"1. rollback: it diverged"]


class Mlflow:
    """The shape of the module mlflow, and of other clients with `log_metrics`."""

    def __init__(self) -> None:
        self.logged: Logged = []

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        assert step is not None
        self.logged.append((step, metrics))


class WandbRun:
    """The shape of a run of W&B: what is not committed goes along with what comes next."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self._row: dict[str, Any] = {}

    def log(
        self, data: dict[str, Any], step: int | None = None, commit: bool | None = None
    ) -> None:
        assert step is None, "its steps are the user's"
        self._row |= data
        if commit is not False:
            self.rows.append(self._row)
            self._row = {}


def test_mlflow_is_told_in_its_own_way(daemon: FakeDaemon) -> None:
    mlflow = Mlflow()
    run(daemon, mlflow)
    lrs_of(mlflow.logged)


def test_wandb_keeps_the_users_count_of_steps(daemon: FakeDaemon) -> None:
    wandb = WandbRun()
    run(daemon, wandb)
    assert wandb.rows == []
    wandb.log({"loss": 1.0})
    [row] = wandb.rows
    assert row["loss"] == 1.0
    assert row["lrpilot/step"] == 110
    assert row["lrpilot/decision"] == "1. rollback: it diverged"


def test_a_logger_that_raises_is_told_of_once_and_ends_nothing(
    daemon: FakeDaemon, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[int] = []

    def broken(metrics: dict[str, float], step: int) -> None:
        calls.append(step)
        raise OSError("the disk is full")

    with caplog.at_level(logging.WARNING, "lrpilot"):
        pilot = run(daemon, broken)
    assert calls == [0]
    assert [d.status for d in pilot.decisions] == ["applied"]
    assert len(daemon.losses) == 120
    told = [r.getMessage() for r in caplog.records if "logger" in r.getMessage()]
    assert len(told) == 1
    assert "the disk is full" in told[0]


@pytest.mark.parametrize("logger", [True, "tensorboard", 3, SummaryWriter])
def test_what_cannot_log_is_refused_at_once(daemon: FakeDaemon, logger: Any) -> None:
    model = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(TypeError, match=r"logger=.*a SummaryWriter, a run of W&B"):
        lrpilot.attach(optimizer, model=model, logger=logger)


# -- in Lightning


@pytest.fixture
def fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fits]:
    with connected(tmp_path, monkeypatch) as fits:
        yield fits


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_fits_loggers_are_told_on_their_own_axis(fits: Fits, accumulate: int) -> None:
    """What Lightning logs of the same step has the same number."""
    folder = fits.folder / "both"
    loggers = [TensorBoardLogger(folder), CSVLogger(folder)]
    module = seeded("cosine", {10: decision()})
    callback = LRControllerCallback(logger=True)
    trainer = fits.fit(
        module, [callback], logger=loggers, log_every_n_steps=2, accumulate_grad_batches=accumulate
    )
    assert trainer.global_step == 32 // accumulate
    events = EventAccumulator(loggers[0].log_dir).Reload()
    curve = {event.step: event.value for event in events.Scalars("lrpilot/lr")}
    used = module.seen_lrs[::accumulate]
    assert curve == pytest.approx({step: used[step] for step in curve})
    assert len(curve) >= trainer.global_step // 2
    [signal] = events.Scalars("lrpilot/signal/divergence")
    assert signal.value == 0.75
    [text] = events.Tensors("lrpilot/decision/text_summary")
    assert text.step == signal.step

    loggers[1].save()
    with (Path(loggers[1].log_dir) / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["lrpilot/lr"]]
    read = {int(row["step"]): float(row["lrpilot/lr"]) for row in rows}
    assert read == pytest.approx(curve)


def test_a_fit_that_did_not_ask_logs_nothing(fits: Fits) -> None:
    fits.fit(seeded("cosine", {10: decision()}), [LRControllerCallback()])
    assert not [name for _, metrics in fits.logged for name in metrics if "lrpilot" in name]


def test_a_fit_without_loggers_is_as_good(fits: Fits) -> None:
    trainer = fits.fit(seeded(), [LRControllerCallback(logger=True)], logger=False)
    assert trainer.global_step == 32
