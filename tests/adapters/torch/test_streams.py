"""The next optimizer step waits for a copy of what it changes, on the device."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch._dynamo.testing import CompileCounter

from lrpilot.torch import streams
from lrpilot.torch.streams import Passed, SideStream, StepGate
from lrpilot.torch.trainer import TorchTrainer


class Side(SideStream):
    """Writes down what the training stream waits for."""

    def __init__(self) -> None:
        self.held: list[Passed] = []

    @contextmanager
    def behind_training(self) -> Iterator[None]:
        yield

    def hold_training(self, event: Passed) -> None:  # type: ignore[override]
        self.held.append(event)


@pytest.fixture
def side() -> Side:
    return Side()


@pytest.fixture
def optimizer() -> Iterator[torch.optim.Optimizer]:
    weight = torch.nn.Parameter(torch.ones(2))
    weight.grad = torch.ones(2)
    return torch.optim.SGD([weight], lr=0.1)


def test_where_steps_are_seen_the_next_one_waits(
    side: Side, optimizer: torch.optim.Optimizer
) -> None:
    gate, copied = StepGate([optimizer]), Passed()
    optimizer.step()
    gate.hold(side, copied)
    assert side.held == []
    optimizer.step()
    assert side.held == [copied]
    optimizer.step()
    assert side.held == [copied]


def test_whoever_else_writes_to_the_weights_has_it_waited_for_at_once(
    side: Side, optimizer: torch.optim.Optimizer
) -> None:
    gate, copied = StepGate([optimizer]), Passed()
    optimizer.step()
    gate.hold(side, copied)
    gate.release()
    assert side.held == [copied]
    optimizer.step()
    assert side.held == [copied]


def test_before_any_step_was_seen_training_waits_at_once(
    side: Side, optimizer: torch.optim.Optimizer
) -> None:
    gate, copied = StepGate([optimizer]), Passed()
    gate.hold(side, copied)
    assert side.held == [copied]


def test_once_a_step_was_captured_its_replays_are_not_trusted_to_wait(
    side: Side, optimizer: torch.optim.Optimizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, copied = StepGate([optimizer]), Passed()
    optimizer.step()
    with monkeypatch.context() as patch:
        patch.setattr(streams, "capturing", lambda: True)
        optimizer.step()
    optimizer.step()
    gate.hold(side, copied)
    assert side.held == [copied]


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # torch's own, as it compiles
def test_a_compiled_step_has_no_gate_and_no_graph_break(
    side: Side, optimizer: torch.optim.Optimizer
) -> None:
    gate, copied = StepGate([optimizer]), Passed()
    counter = CompileCounter()
    step = torch.compile(optimizer.step, backend=counter, fullgraph=False)
    for _ in range(3):
        step()
    compiled = counter.frame_count
    for _ in range(3):
        gate.hold(side, copied)
        step()
    assert side.held == [copied] * 3
    assert counter.frame_count == compiled


def test_a_closed_gate_leaves_the_optimizer_alone(optimizer: torch.optim.Optimizer) -> None:
    gate = StepGate([optimizer])
    gate.close()
    assert not optimizer._optimizer_step_pre_hooks


def test_of_a_step_that_is_replayed_the_lrs_are_read_at_the_boundary(
    optimizer: torch.optim.Optimizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    rig = TorchTrainer(optimizer, None, schedulers=[scheduler])
    monkeypatch.setattr("lrpilot.torch.trainer.capturing", lambda: True)
    optimizer.step()
    scheduler.step()
    assert rig.used_lrs is None
    assert rig.get_lrs() == pytest.approx([0.01])
