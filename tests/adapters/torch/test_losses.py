"""Losses from a device: in order, never waited for, never piled up without bound."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from lrpilot.losses import Row
from lrpilot.torch import losses as module
from lrpilot.torch.losses import BATCH, CAPACITY, TorchLosses
from lrpilot.torch.streams import Passed, SideStream


class Device(SideStream):
    """A device whose copies are done when the test says so."""

    def __init__(self) -> None:
        self.done = 0
        self.copies = 0

    @contextmanager
    def behind_training(self) -> Iterator[None]:
        self.copies += 1
        yield

    def mark(self, *, timing: bool = False, training: bool = False) -> "Copy":
        return Copy(self, self.copies)


class Copy(Passed):
    def __init__(self, device: Device, number: int) -> None:
        self.device = device
        self.number = number

    def query(self) -> bool:
        return self.number <= self.device.done

    def synchronize(self) -> None:
        self.device.done = max(self.device.done, self.number)


@pytest.fixture
def device() -> Device:
    return Device()


@pytest.fixture
def losses(device: Device) -> TorchLosses:
    return TorchLosses(on_host=lambda tensor: False, side=lambda where: device)


def row(i: int, program: int = 0) -> Row:
    return (i, i, 0, program, (0.1,))


def read(losses: TorchLosses, numbers: range, program: int = 0) -> None:
    for i in numbers:
        assert losses.read(torch.tensor(float(i)), row(i, program)) is None


def test_a_device_loss_is_given_later_and_in_order(losses: TorchLosses, device: Device) -> None:
    read(losses, range(3 * BATCH))
    assert losses.ready() == []
    device.done = 2
    assert losses.ready() == [(row(i), float(i)) for i in range(2 * BATCH)]
    device.done = 3
    assert [value for _, value in losses.ready()] == [float(i) for i in range(2 * BATCH, 3 * BATCH)]


def test_a_later_change_of_the_tensor_does_not_reach_a_loss_that_was_read(
    losses: TorchLosses,
) -> None:
    loss = torch.tensor(1.0)
    losses.read(loss, row(0))
    loss.fill_(9.0)
    assert losses.drain() == [(row(0), 1.0)]


def test_drain_waits_for_all(losses: TorchLosses) -> None:
    read(losses, range(BATCH + 3))
    assert len(losses.drain()) == BATCH + 3
    assert losses.drain() == []


def test_a_device_far_behind_drops_losses_rather_than_memory(
    losses: TorchLosses, device: Device
) -> None:
    read(losses, range(CAPACITY + 10 * BATCH))
    assert device.copies == CAPACITY // BATCH
    assert losses.drain() == [(row(i), float(i)) for i in range(CAPACITY)]
    read(losses, range(BATCH))
    assert len(losses.drain()) == BATCH


def test_a_program_gets_each_of_its_losses_however_far_behind_the_device_is(
    losses: TorchLosses,
) -> None:
    read(losses, range(CAPACITY), program=1)
    losses.ready(flush=True)
    read(losses, range(CAPACITY, CAPACITY + 5), program=1)
    assert [value for _, value in losses.drain()] == [float(i) for i in range(CAPACITY + 5)]


def test_the_ring_is_allocated_once_and_goes_round(
    losses: TorchLosses, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    read(losses, range(1))
    losses.ready(flush=True)
    monkeypatch.setattr(torch, "empty", None)
    monkeypatch.setattr(torch, "stack", None)
    got = []
    for begin in range(1, 3 * CAPACITY, 5):  # never a whole batch: cells are sent for as they are
        read(losses, range(begin, begin + 5))
        got += losses.ready(flush=True)
        device.done = device.copies - 3  # some are always under way
    got += losses.drain()
    assert got == [(row(i), float(i)) for i in range(len(got))]
    assert len(got) >= 3 * CAPACITY


@pytest.mark.parametrize(
    ("kind", "value"),
    [(torch.float64, 1 / 3), (torch.float32, 0.1), (torch.bfloat16, 2.5), (torch.float16, 0.125)],
)
def test_a_loss_of_any_type_arrives_as_it_is(
    losses: TorchLosses, kind: torch.dtype, value: float
) -> None:
    loss = torch.tensor([value], dtype=kind, requires_grad=True)
    losses.read(loss, row(0))
    assert losses.drain() == [(row(0), loss.item())]


def test_while_a_graph_is_captured_nothing_is_asked_of_the_device(
    losses: TorchLosses,
    device: Device,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    read(losses, range(3))
    monkeypatch.setattr(module, "capturing", lambda: True)
    read(losses, range(3, 6))
    assert (losses.ready(flush=True), losses.drain(), device.copies) == ((), (), 0)
    assert [r.getMessage() for r in caplog.records if "graph.replay()" in r.getMessage()]
    assert len(caplog.records) == 1
    monkeypatch.undo()
    assert [value for _, value in losses.drain()] == [0.0, 1.0, 2.0]


def test_a_device_without_streams_is_read_batch_by_batch() -> None:
    losses = TorchLosses(on_host=lambda tensor: False)
    read(losses, range(BATCH + 1))
    assert len(losses.ready()) == BATCH
    assert len(losses.drain()) == 1


def test_host_losses_are_read_at_once() -> None:
    losses = TorchLosses()
    assert losses.read(2.0, row(0)) == 2.0
    assert losses.read(torch.tensor([3.0]), row(1)) == 3.0
    assert losses.ready() == ()
