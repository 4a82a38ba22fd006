"""Losses from a device: in order, never waited for, never piled up without bound."""

import pytest
import torch
from torch import Tensor

from lrpilot.losses import Row
from lrpilot.torch.losses import BATCH, MAX_IN_FLIGHT, TorchLosses


class Device:
    """A device whose copies are done when the test says so."""

    def __init__(self) -> None:
        self.done = 0
        self.copies = 0

    def to_host(self, values: Tensor) -> tuple[Tensor, "Copy"]:
        self.copies += 1
        return values.clone(), Copy(self, self.copies)


class Copy:
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
    return TorchLosses(device.to_host, on_host=lambda tensor: False)


def row(i: int) -> Row:
    return (i, i, 0, 0, (0.1,))


def test_a_device_loss_is_given_later_and_in_order(losses: TorchLosses, device: Device) -> None:
    for i in range(3 * BATCH):
        assert losses.read(torch.tensor(float(i)), row(i)) is None
    assert losses.ready() == []
    device.done = 2
    arrived = losses.ready()
    assert arrived == [(row(i), float(i)) for i in range(2 * BATCH)]
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
    for i in range(BATCH + 3):
        losses.read(torch.tensor(float(i)), row(i))
    assert len(losses.drain()) == BATCH + 3
    assert losses.drain() == []


def test_a_device_far_behind_drops_losses_rather_than_memory(
    losses: TorchLosses, device: Device
) -> None:
    pushed = (MAX_IN_FLIGHT + 10) * BATCH
    for i in range(pushed):
        losses.read(torch.tensor(float(i)), row(i))
    assert device.copies == MAX_IN_FLIGHT
    assert len(losses.drain()) == MAX_IN_FLIGHT * BATCH


def test_host_losses_are_read_at_once() -> None:
    losses = TorchLosses()
    assert losses.read(2.0, row(0)) == 2.0
    assert losses.read(torch.tensor([3.0]), row(1)) == 3.0
    assert losses.ready() == []
