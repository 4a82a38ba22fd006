"""Several ranks of one run, as threads over a store in memory; the test is rank 0's daemon."""

import datetime
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.distributed as dist

from lrpilot.client.alone import Alone
from lrpilot.pilot import Pilot
from lrpilot.plan import Bounds
from lrpilot.run import RunInfo
from lrpilot.testing import FakeDaemon
from lrpilot.torch.losses import TorchLosses
from lrpilot.torch.ranks import StoreRanks, Unread
from lrpilot.torch.trainer import TorchTrainer

LR = 0.1


def store(timeout_s: float = 60.0) -> Any:
    """A store of this process."""
    made = dist.HashStore()
    made.set_timeout(datetime.timedelta(seconds=timeout_s))
    return made


class Rank:
    """One rank: a model that all ranks train alike, under a pilot of its own.

    Attributes:
        lrs: the LR of each step that was made.
        seen: the number of each batch that was trained on.
    """

    def __init__(
        self,
        notes: Any,
        rank: int,
        world: int,
        daemon: FakeDaemon | None,
        state: dict[str, Any] | None = None,
        **run: Any,
    ) -> None:
        self.rank = rank
        self.meeting: threading.Barrier | None = None
        source = torch.Generator().manual_seed(0)
        self.model = torch.nn.Linear(4, 2)
        with torch.no_grad():
            for parameter in self.model.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=source))
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=LR, momentum=0.9)
        self.trainer = TorchTrainer(self.optimizer, self.model)
        fields = {"mode": "auto", "total_steps": 250, "world_size": world, **run}
        self.pilot = Pilot(
            self.trainer,
            daemon or Alone(),
            RunInfo("p", "r", "a", **fields),
            TorchLosses() if rank == 0 else Unread(),
            lambda base, searched=False: (
                Bounds(base * 1e-6, base * 1e6) if searched else Bounds(base * 1e-4, base)
            ),
            connect_timeout=5.0,
            ranks=StoreRanks(dist.PrefixStore("run", notes), rank, world),
        )
        if state is not None:
            self.pilot.load_state_dict(state)
        handle = self.optimizer.register_step_pre_hook(lambda *_: self.pilot.start())
        self.pilot.on_close(handle.remove)
        self.lrs: list[float] = []
        self.seen: list[float] = []
        self.feed: Iterator[torch.Tensor] = iter(self.pilot.batches(batches()))

    def step(self, batch: torch.Tensor | None = None, loss: float | None = None) -> None:
        """One step of a user's loop, on the next batch unless one is given."""
        batch = next(self.feed) if batch is None else batch
        self.seen.append(batch[0, 0].item())
        self.optimizer.zero_grad()
        out = (self.model(batch) - batch.sum(1, keepdim=True)).square().mean()
        out.backward()
        if self.meeting is not None:
            self.meeting.wait(60)
        self.optimizer.step()
        self.lrs.append(self.optimizer.param_groups[0]["lr"])
        self.pilot.step(out.item() if loss is None else loss)

    @property
    def state(self) -> list[torch.Tensor]:
        """Weights and momentum."""
        moments = [s["momentum_buffer"] for s in self.optimizer.state.values()]
        return [t.detach().clone() for t in [*self.model.parameters(), *moments]]


def batches() -> Iterator[torch.Tensor]:
    """The i-th begins with i."""
    i = 0
    while True:
        batch = torch.randn(6, 4, generator=torch.Generator().manual_seed(i))
        batch[0, 0] = i / 100
        yield batch
        i += 1


class Crew:
    """So many ranks, each in a thread of its own while it trains.

    Args:
        world: how many.
        daemon: rank 0's.
        timeout_s: how long one waits for another.
        each: further arguments of each rank's run.
        run: further arguments of all.
    """

    def __init__(
        self,
        world: int,
        daemon: FakeDaemon | None = None,
        *,
        timeout_s: float = 60.0,
        each: Sequence[dict[str, Any]] | None = None,
        **run: Any,
    ) -> None:
        torch.set_num_threads(1)
        self.daemon = daemon or FakeDaemon()
        notes = store(timeout_s)
        self.ranks = [
            Rank(
                notes,
                rank,
                world,
                self.daemon if rank == 0 else None,
                **(run | (each[rank] if each else {})),
            )
            for rank in range(world)
        ]

    def train(
        self,
        steps: int,
        before: Callable[[Rank, int], Any] = lambda rank, k: None,
        *,
        only: Sequence[int] | None = None,
        free: bool = False,
    ) -> None:
        """So many steps on all ranks at once; `before` is called in front of each."""

        def loop(rank: Rank) -> None:
            for k in range(steps):
                before(rank, k)
                rank.step()

        self.do(loop, only=only, free=free)

    def do(
        self,
        what: Callable[[Rank], Any],
        *,
        only: Sequence[int] | None = None,
        free: bool = False,
    ) -> None:
        """Do something on all ranks at once; the first exception is raised here.

        They meet in each step, as in a collective; `free` ones may be any number of steps apart.
        """
        failed: list[BaseException] = []
        meeting = threading.Barrier(len(self.ranks if only is None else only))

        def run(rank: Rank) -> None:
            rank.meeting = None if free else meeting
            try:
                what(rank)
            except BaseException as error:
                failed.append(error)
                meeting.abort()
                rank.pilot.close()  # nobody waits for it

        threads = [
            threading.Thread(target=run, args=(rank,), daemon=True)
            for rank in self.ranks
            if only is None or rank.rank in only
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
            assert not thread.is_alive(), "a rank hangs"
        if failed:
            raise failed[0]

    @property
    def alike(self) -> bool:
        """Whether all ranks ran at the same LRs, and stand at the same weights, to the last bit."""
        first, *others = self.ranks
        return all(
            one.lrs == first.lrs and all(map(torch.equal, one.state, first.state)) for one in others
        )

    @property
    def lrs(self) -> list[float]:
        """Rank 0's LRs."""
        return self.ranks[0].lrs


def dawdle(seconds: float) -> None:
    """Be late; longer sleeps than asked for do no harm."""
    if seconds > 0:
        time.sleep(seconds)
