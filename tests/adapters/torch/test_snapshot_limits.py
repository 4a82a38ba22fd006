"""A run whose snapshots find no room goes on guarded, and is told what to set."""

import logging
from functools import partial
from typing import Any

import pytest
import torch

import lrpilot
from lrpilot.pilot import Pilot
from lrpilot.plan import Bounds
from lrpilot.run import RunInfo
from lrpilot.testing import FakeDaemon
from lrpilot.torch.losses import TorchLosses
from lrpilot.torch.memory import SnapshotMemory
from lrpilot.torch.slots import Slots
from lrpilot.torch.trainer import TorchTrainer


class Run:
    def __init__(self, limit_gib: float | None, *, off: bool = False) -> None:
        self.model = torch.nn.Linear(64, 64)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=0.1)
        self.daemon = FakeDaemon()
        slots = None if off else partial(Slots, memory=SnapshotMemory("auto", limit_gib))
        trainer = TorchTrainer(self.optimizer, self.model, snapshots=slots)
        info = RunInfo("p", "r", "a", total_steps=100)
        self.pilot = Pilot(trainer, self.daemon, info, TorchLosses(), lambda base: Bounds(0, base))
        self.pilot.start()

    def train(self, steps: int) -> None:
        for _ in range(steps):
            loss = self.model(torch.ones(1, 64)).square().mean()
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.pilot.step(loss)

    @property
    def notices(self) -> list[str]:
        return [r.notice.text for r in self.daemon.reports if r.WhichOneof("body") == "notice"]


MIB = 1 / 1024  # of a GiB; a copy with Adam's state takes 49 KiB here


def test_within_the_limit_it_is_told_once_how_much_it_will_be(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "lrpilot")
    run = Run(0.1 * MIB)
    told = [r.getMessage() for r in caplog.records if "two copies" in r.getMessage()]
    run.train(30)
    assert len(told) == 1
    assert "two copies of 0.0476 MiB each in host memory (limit 0.1 MiB)" in told[0]
    assert run.pilot.summary().snapshots > 0
    assert run.daemon.hello is not None
    assert run.daemon.hello.capabilities.snapshot
    assert len([r for r in caplog.records if "two copies" in r.getMessage()]) == 1


def test_over_it_there_are_no_rollbacks_and_training_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    run = Run(0.05 * MIB)
    run.train(30)
    assert "max_snapshot_gib=" in caplog.text
    assert "goes on without rollbacks" in caplog.text
    assert not [r for r in caplog.records if r.exc_info]
    assert len(run.notices) == 1
    assert run.pilot.summary().snapshots == 0
    assert run.daemon.hello is not None
    assert not run.daemon.hello.capabilities.snapshot
    assert len(run.daemon.losses) == 30


def test_without_snapshots_nothing_is_told_and_nothing_is_promised(
    caplog: pytest.LogCaptureFixture,
) -> None:
    run = Run(None, off=True)
    run.train(3)
    assert not caplog.records
    assert run.daemon.hello is not None
    assert not run.daemon.hello.capabilities.snapshot


@pytest.mark.parametrize(
    "keywords",
    [{"snapshots": "disk"}, {"max_snapshot_gib": 0}, {"max_snapshot_gib": "8GiB"}],
)
def test_what_cannot_be_is_refused_with_what_can(keywords: dict[str, Any]) -> None:
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(ValueError, match=r"one of auto, device, host, off|GiB > 0"):
        lrpilot.attach(optimizer, model=model, **keywords)


def test_attach_passes_on_what_was_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LRPILOT", "off")
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    pilot = lrpilot.attach(optimizer, model=model, snapshots="off")
    assert not pilot._trainer.can_snapshot
    pilot = lrpilot.attach(optimizer, model=model, snapshots="host", max_snapshot_gib=1e-9)
    with pytest.raises(MemoryError, match="max_snapshot_gib"):
        pilot._trainer.snapshot(0)
