"""Snapshots that lie elsewhere than their tensors: exact, allocated once, given back."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor, nn

from lrpilot.pilot import Pilot
from lrpilot.plan import Bounds
from lrpilot.run import RunInfo
from lrpilot.testing import FakeDaemon
from lrpilot.torch.losses import TorchLosses
from lrpilot.torch.memory import SnapshotMemory
from lrpilot.torch.slots import Slots
from lrpilot.torch.streams import Passed, SideStream
from lrpilot.torch.trainer import TorchTrainer
from lrpilot.trainer import NoRoom
from support.moved import Locks, moved


class Job:
    """Trains in memory that is taken for a device's."""

    def __init__(self, memory: SnapshotMemory | None = None) -> None:
        torch.manual_seed(0)
        convolution = nn.Conv2d(3, 8, 3).to(memory_format=torch.channels_last)
        body = nn.Sequential(convolution, nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(32, 1))
        self.model, self.others = body, nn.Linear(2, 2)
        self.optimizer = torch.optim.AdamW(body.parameters(), lr=0.1)
        self.locks = Locks()
        self.slots = moved(self.locks, memory=memory)(self.model, [self.optimizer])

    def step(self) -> float:
        loss = self.model(torch.randn(4, 3, 4, 4)).square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()


def test_training_goes_on_from_a_moved_copy_as_if_nothing_had_happened() -> None:
    job = Job()
    for slot in (0, 1, 0):
        job.step()
        job.slots.save(slot)
        first = [job.step() for _ in range(5)]
        job.slots.restore(slot, rng=True)
        assert [job.step() for _ in range(5)] == first


def test_a_slot_is_locked_once_and_again_only_where_its_tensors_change() -> None:
    job = Job()
    job.slots.save(0)  # no optimizer state yet
    job.step()
    for _ in range(5):
        job.slots.save(0)
    assert (job.locks.taken, job.locks.held) == (2, 1)
    job.slots.discard(0)
    assert job.locks.held == 0


def test_nothing_stays_locked() -> None:
    job = Job()
    for slot in range(4):
        job.slots.save(slot)
    assert job.locks.held == 4
    job.slots.close()
    assert job.locks.held == 0
    other = Job()
    other.slots.save(0)
    locks = other.locks
    del other
    assert locks.held == 0


def test_memory_that_is_not_to_be_had_is_told_and_nothing_is_kept() -> None:
    job = Job()
    job.locks.refuse = True
    with pytest.raises(NoRoom, match="snapshots='device'"):
        job.slots.save(0)
    assert not job.slots.usable
    with pytest.raises(RuntimeError, match="nothing was saved"):
        job.slots.restore(0, rng=True)


def test_over_the_limit_nothing_is_taken() -> None:
    job = Job(SnapshotMemory("host", 1e-6, on_host=lambda tensor: False))
    with pytest.raises(NoRoom, match="max_snapshot_gib"):
        job.slots.save(0)
    assert (job.locks.taken, job.slots.usable) == (0, False)


def test_without_room_for_a_third_copy_two_go_on() -> None:
    job = Job()
    job.step()
    size = sum(t.numel() * 4 for t in job.model.parameters()) * 3
    job = Job(SnapshotMemory("host", 2.5 * size / (1 << 30), on_host=lambda tensor: False))
    job.slots.save(0)
    job.step()
    job.slots.save(1)
    job.slots.save(0)
    with pytest.raises(NoRoom):
        job.slots.save(2)
    assert job.slots.usable
    job.slots.restore(0, rng=True)


def test_the_size_is_told_before_memory_is_locked(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "lrpilot")
    job = Job()
    told: list[int] = []
    job.locks.on_take = lambda: told.append(len(caplog.records))
    job.slots.save(0)
    assert told == [1]
    assert "two copies of" in caplog.text


class Timed(SideStream):
    """Takes three seconds for each copy, and says which tensors were copied beside training."""

    def __init__(self) -> None:
        self.inside = False
        self.marks = self.waits = 0

    @contextmanager
    def behind_training(self) -> Iterator[None]:
        self.inside = True
        yield
        self.inside = False

    def mark(self, *, timing: bool = False, training: bool = False) -> "At":
        self.marks += 1
        return At(3000.0 * self.marks)

    def hold_training(self, event: object) -> None:
        self.waits += 1


class At(Passed):
    def __init__(self, time: float) -> None:
        self.time = time

    def elapsed_time(self, end: "At") -> float:
        return end.time - self.time


def test_the_time_that_a_device_took_is_known_by_the_next_copy() -> None:
    job = Job()
    side = Timed()
    slots = moved(Locks(), lambda where: side)(job.model, [job.optimizer])
    assert slots.save(0) is None
    assert slots.save(1) == 3.0


def test_only_what_the_optimizer_alone_changes_is_copied_while_training_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job = Job()
    job.step()
    side, beside = Timed(), list[int]()
    copy = torch._foreach_copy_

    def seen(to: list[Tensor], source: list[Tensor], **options: bool) -> None:
        if side.inside:
            beside.extend(tensor.data_ptr() for tensor in source)
        copy(to, source, **options)

    monkeypatch.setattr(torch, "_foreach_copy_", seen)
    moved(Locks(), lambda where: side)(job.model, [job.optimizer]).save(0)
    states = [t for s in job.optimizer.state.values() for t in s.values()]
    assert set(beside) == {t.data_ptr() for t in [*job.model.parameters(), *states]}
    assert not set(beside) & {buffer.data_ptr() for buffer in job.model.buffers()}


def test_a_pilot_that_settles_lets_copies_come_before_other_writers_of_the_weights() -> None:
    job, side = Job(), Timed()
    trainer = TorchTrainer(job.optimizer, job.model, snapshots=moved(Locks(), lambda where: side))
    pilot = Pilot(
        trainer, FakeDaemon(), RunInfo("p", "r", "a"), TorchLosses(), lambda lr: Bounds(0, lr)
    )
    for _ in range(2):
        pilot.step(job.step())  # the first takes a snapshot, before any step was seen
    before = side.waits
    trainer.snapshot(1)
    assert side.waits == before
    pilot.settle()
    assert side.waits == before + 1


def test_a_graph_under_capture_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    job = Job()
    monkeypatch.setattr("lrpilot.torch.slots.capturing", lambda: True)
    with pytest.raises(RuntimeError, match="captured"):
        job.slots.save(0)
    with pytest.raises(RuntimeError, match="captured"):
        job.slots.restore(0, rng=True)


def test_objects_beside_the_model_are_counted_too() -> None:
    class Average:
        weights = torch.zeros(1 << 20)

        def state_dict(self) -> dict[str, Tensor]:
            return {"weights": self.weights}

        def load_state_dict(self, state: dict[str, Tensor]) -> None:
            self.weights = state["weights"]

    model = nn.Linear(2, 2)
    make: Callable[[float], Slots] = lambda limit: Slots(  # noqa: E731
        model, [torch.optim.SGD(model.parameters())], [Average()], SnapshotMemory("auto", limit)
    )
    make(0.0085).save(0)
    with pytest.raises(NoRoom):
        make(0.0075).save(0)
