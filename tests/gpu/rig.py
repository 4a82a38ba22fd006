"""A training step on a device under a pilot, whose daemon is the check's own."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from lrpilot.pilot import Pilot
from lrpilot.plan import Bounds
from lrpilot.run import RunInfo
from lrpilot.testing import FakeDaemon
from lrpilot.torch.losses import TorchLosses
from lrpilot.torch.memory import SnapshotMemory
from lrpilot.torch.slots import Slots
from lrpilot.torch.trainer import TorchTrainer
from lrpilot_proto.v1 import model_pb2
from support.moved import Locks, moved

LR = 1e-3
WIDTH, DEPTH, ROWS = 64, 2, 32


class Rig:
    """A job on `device`.

    On the CPU it is taken for a device: losses go through the ring, snapshots to the host.

    Args:
        device: where it trains.
        place: where snapshots lie.
        width: of its layers.
        depth: how many layers.
        piloted: whether it has a pilot.
        tensor_lr: whether the LR is a tensor.
    """

    def __init__(
        self,
        device: str,
        *,
        place: str = "host",
        width: int = WIDTH,
        depth: int = DEPTH,
        rows: int = ROWS,
        piloted: bool = True,
        tensor_lr: bool = True,
    ) -> None:
        torch.manual_seed(0)
        layers = [layer for _ in range(depth) for layer in (nn.Linear(width, width), nn.Tanh())]
        self.device = torch.device(device)
        self.model = nn.Sequential(*layers, nn.BatchNorm1d(width), nn.Linear(width, 1)).to(device)
        self.inputs = torch.randn(rows, width, device=device)
        self.targets = self.inputs.sum(1, keepdim=True)
        lr = torch.tensor(LR, device=device) if tensor_lr else LR
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=lr, capturable=self.cuda)
        self.loss_of: Callable[[Tensor, Tensor], Tensor] = self._loss
        self.update: Callable[[], Any] = self.optimizer.step
        self.daemon = FakeDaemon()
        self.trainer: TorchTrainer | None = None
        self.pilot: Pilot | None = None
        if piloted:
            self.trainer = TorchTrainer(self.optimizer, self.model, snapshots=self._slots(place))
            self.pilot = Pilot(
                self.trainer,
                self.daemon,
                RunInfo("gpu", "run", "attempt"),
                TorchLosses() if self.cuda else TorchLosses(on_host=lambda tensor: False),
                lambda base: Bounds(0.0, base),
            )

    @property
    def cuda(self) -> bool:
        """Whether this is a device in earnest."""
        return self.device.type == "cuda"

    def _slots(self, place: str) -> Callable[..., Slots]:
        if self.cuda or place == "device":
            return lambda *args: Slots(*args, memory=SnapshotMemory(place))
        return moved(Locks())

    def train(self) -> Tensor:
        """One step; its loss, on the device."""
        loss = self.loss_of(self.inputs, self.targets)
        self.optimizer.zero_grad(set_to_none=not self.cuda)
        loss.backward()
        self.update()
        return loss

    def _loss(self, inputs: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.mse_loss(self.model(inputs), targets)

    def compile(self, backend: Any) -> None:
        """Compile what a step consists of."""
        self.loss_of = torch.compile(self._loss, backend=backend)
        self.update = torch.compile(self.optimizer.step, backend=backend)

    def captured(self) -> Callable[[], Tensor]:
        """The step as a CUDA graph; on the CPU the step as it is."""
        if not self.cuda:
            return self.train
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                self.train()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            loss = self.train()

        def replay() -> Tensor:
            graph.replay()
            return loss

        return replay

    def scale(self, first: float, last: float, steps: int) -> None:
        """Let the daemon lead the LR along a line, from the next step on."""
        assert self.pilot is not None
        begin = self.pilot.step_count
        line = model_pb2.Segment(
            shape="SHAPE_LINEAR",
            start=begin,
            end=begin + steps,
            start_value=first,
            end_value=last,
        )
        plan = model_pb2.Plan(kind="PLAN_KIND_SCALE", segments=[line])
        number = len(self.pilot.decisions) + 1
        self.daemon.decide(model_pb2.Decision(id=number, action="ACTION_PLAN", plan=plan))

    def weights(self) -> list[Tensor]:
        """A copy of the parameters and buffers."""
        return [value.detach().clone() for value in self.model.state_dict().values()]

    def wait(self) -> None:
        """Until the device is through with its work."""
        if self.cuda:
            torch.cuda.synchronize()

    def close(self) -> None:
        """Let go of it."""
        if self.pilot is not None:
            self.pilot.close()


def same(ours: list[Any], theirs: list[Any]) -> bool:
    """Whether two sets of tensors are equal to the last bit."""
    return all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
