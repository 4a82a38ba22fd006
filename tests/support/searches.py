"""A small training loop in a search, and decisions as a controller would send them."""

from collections.abc import Callable, Iterable
from typing import Any

import torch

from lrpilot.pilot import Pilot
from lrpilot.plan import Bounds
from lrpilot.run import RunInfo
from lrpilot.testing import FakeDaemon
from lrpilot.torch.losses import TorchLosses
from lrpilot.torch.trainer import TorchTrainer
from lrpilot_proto.v1 import model_pb2, session_pb2

LR = 0.1
Answer = Callable[[session_pb2.Report], model_pb2.Decision | None]


def constant(value: float, start: int = 0, end: int = 1) -> model_pb2.Segment:
    return model_pb2.Segment(
        shape="SHAPE_CONSTANT", start=start, end=end, start_value=value, end_value=value
    )


def replaces(value: float) -> model_pb2.Plan:
    """A plan of one LR for ever."""
    return model_pb2.Plan(kind="PLAN_KIND_REPLACE", segments=[constant(value)])


def program(number: int = 1, *, lr: float = 0.05, length: int = 4, **fields: Any) -> Any:
    """A program of one LR, on replayed batches, from the start."""
    fields = {
        "restore_snapshot": 1,
        "segments": [constant(lr)],
        "batches": "BATCHES_REPLAYED",
        "phase": "ladder",
        "lr": lr,
        "share": 0.25,
    } | fields
    fields = {name: value for name, value in fields.items() if value is not None}
    return model_pb2.Program(id=number, length=length, **fields)


def brings(made: Any, branch: int = 0, **fields: Any) -> model_pb2.Decision:
    """The decision that brings a program."""
    return model_pb2.Decision(
        **{
            "id": made.id,
            "action": "ACTION_PROGRAM",
            "branch": branch,
            "restore_rng": True,
            "program": made,
        }
        | fields
    )


def ends(number: int, branch: int, lr: float = 0.02, **fields: Any) -> model_pb2.Decision:
    """The decision that ends a search."""
    return model_pb2.Decision(
        **{
            "id": number,
            "action": "ACTION_PLAN",
            "branch": branch,
            "plan": replaces(lr),
        }
        | fields
    )


class Script:
    """A controller: one program after the other, then perhaps a last decision.

    Each entry makes a decision from the branch that training is on.
    """

    def __init__(self, *entries: Callable[[int], model_pb2.Decision]) -> None:
        self.entries = list(entries)

    def __call__(self, report: session_pb2.Report) -> model_pb2.Decision | None:
        body = report.WhichOneof("body")
        first = body == "snapshot" and report.snapshot.id == 1
        if not (first or body == "program") or not self.entries:
            return None
        branch = report.program.branch if body == "program" else report.snapshot.branch
        return self.entries.pop(0)(branch)


def runs(made: Any, **fields: Any) -> Callable[[int], model_pb2.Decision]:
    """An entry of a script."""
    return lambda branch: brings(made, branch, **fields)


def over(number: int, lr: float = 0.02, **fields: Any) -> Callable[[int], model_pb2.Decision]:
    """The last entry of a script."""
    return lambda branch: ends(number, branch, lr, **fields)


class Search:
    """A tiny model with dropout and batch norm, trained on batches that are all different."""

    def __init__(
        self,
        *entries: Callable[[int], model_pb2.Decision],
        search: bool = True,
        mode: str = "auto",
        lrs: tuple[float, float] = (LR, LR / 2),
        losses: Any = None,
        batches: bool = True,
        daemon: FakeDaemon | None = None,
    ) -> None:
        torch.set_num_threads(1)  # the model is small, and other tests run beside this one
        torch.manual_seed(0)
        self.model = torch.nn.Sequential(
            torch.nn.Linear(4, 8), torch.nn.BatchNorm1d(8), torch.nn.Dropout(0.3)
        )
        self.model.append(torch.nn.Linear(8, 1))
        parts = [list(self.model[:3].parameters()), list(self.model[3].parameters())]
        self.optimizer = torch.optim.Adam(
            [{"params": part, "lr": lr} for part, lr in zip(parts, lrs, strict=True)]
        )
        self.daemon = daemon or FakeDaemon(Script(*entries))
        trainer = TorchTrainer(self.optimizer, self.model)
        self.pilot = Pilot(
            trainer,
            self.daemon,
            RunInfo("p", "r", "a", mode=mode, total_steps=250, search=search, job="job"),
            losses or TorchLosses(),
            lambda base, searched=False: (
                Bounds(base * 1e-6, base * 1e6) if searched else Bounds(base * 1e-4, base)
            ),
            connect_timeout=5.0,
        )
        handle = self.optimizer.register_step_pre_hook(lambda *_: self.pilot.start())
        self.pilot.on_close(handle.remove)
        self.through_batches = batches
        self.losses: list[float] = []
        self.seen: list[float] = []  # which batches were trained on
        self._data = data()
        self._feed = iter(self.pilot.batches(self._data))

    def train(self, steps: int = 1) -> None:
        """So many steps."""
        for _ in range(steps):
            batch = next(self._feed if self.through_batches else self._data)
            self.losses.append(self.one(batch))
            self.pilot.step(self.losses[-1])

    def one(self, batch: torch.Tensor) -> float:
        """One step of the user's, without the pilot's."""
        self.seen.append(batch[0, 0].item())
        self.optimizer.zero_grad()
        loss = (self.model(batch) - batch.sum(1, keepdim=True)).square().mean()
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def feed(self, loader: Iterable[torch.Tensor]) -> None:
        """Take batches from another loader from now on."""
        self._data = iter(loader)  # type: ignore[assignment]
        self._feed = iter(self.pilot.batches(self._data))

    @property
    def state(self) -> list[torch.Tensor]:
        """Weights, buffers and optimizer state."""
        moments = [
            value
            for state in self.optimizer.state.values()
            for value in state.values()
            if isinstance(value, torch.Tensor)
        ]
        return [t.detach().clone() for t in [*self.model.state_dict().values(), *moments]]

    def reports(self, kind: str) -> list[Any]:
        """The reports of one kind."""
        return [getattr(r, kind) for r in self.daemon.reports if r.WhichOneof("body") == kind]

    @property
    def programs(self) -> list[int]:
        """The program of each train sample."""
        return [item[4] for item in self.daemon.items if item[1] == 1]


def data(start: int = 0) -> Any:
    """Batches without end, the i-th of which begins with i."""
    i = start
    while True:
        source = torch.Generator().manual_seed(i)
        batch = torch.randn(6, 4, generator=source)
        batch[0, 0] = i
        yield batch
        i += 1


def same(a: list[torch.Tensor], b: list[torch.Tensor]) -> bool:
    """To the last bit."""
    return len(a) == len(b) and all(map(torch.equal, a, b))
