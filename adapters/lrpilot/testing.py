"""For those who write or test adapters: a transport without a daemon, and the contract suite.

Every adapter, ours or a third party's, must pass `TrainerContract`: subclass it in a pytest file,
name the subclass `Test...`, and implement `rig`.
"""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from lrpilot.client.base import Item, Message, Status
from lrpilot.trainer import TrainerPort
from lrpilot_proto.v1 import model_pb2, session_pb2


class FakeDaemon:
    """A `Transport` that keeps what it is given; a test says what the daemon answers.

    Args:
        answer: called on each report, in order; what it returns is sent at once, as by a daemon
            that answers within no time.
        searches: what the welcome says of a search; whether there is an `answer` unless given.

    Attributes:
        items: the telemetry pushed so far.
        reports: the reports so far.
        hello: the newest Hello; None before the first step.
        urgencies: how often a flush was asked for at once.
        waits: the seconds that the training thread would have waited, each time.
        status: how the line stands; connected, unless a test says otherwise.
    """

    def __init__(
        self,
        answer: Callable[[session_pb2.Report], model_pb2.Decision | None] | None = None,
        searches: bool | None = None,
    ) -> None:
        self._answer = answer
        self._searches = answer is not None if searches is None else searches
        self.status = Status(connected=True, welcomed=True)
        self.waits: list[float] = []
        self.inbox: deque[Message] = deque()
        self.items: list[Item] = []
        self.reports: list[session_pb2.Report] = []
        self.hello: session_pb2.Hello | None = None
        self.urgencies = 0
        self.closed = False

    def start(self) -> None:
        """Nothing to look for."""

    def wait_ready(self, timeout_s: float) -> bool:
        """It always answers."""
        return True

    def wait(self, timeout_s: float) -> bool:
        """Whether the test has said something; takes no time."""
        if not self.inbox:
            self.waits.append(timeout_s)
        return bool(self.inbox)

    def open(self, hello: session_pb2.Hello) -> None:
        """Keep the Hello, and welcome it."""
        self.hello = session_pb2.Hello()
        self.hello.CopyFrom(hello)
        searches = self._searches and hello.search
        self.inbox.append(session_pb2.Welcome(mode=hello.mode, searches=searches))

    def push(self, item: Item) -> None:
        """Keep the item."""
        self.items.append(item)

    def urgent(self) -> None:
        """Count it."""
        self.urgencies += 1

    def report(self, report: session_pb2.Report) -> None:
        """Keep the report, and answer it."""
        self.reports.append(report)
        decision = self._answer(report) if self._answer is not None else None
        if decision is not None:
            self.inbox.append(decision)

    def close(self, timeout_s: float = 2.0) -> None:
        """Remember it."""
        self.closed = True
        self.status = Status(welcomed=True)

    def decide(self, decision: model_pb2.Decision) -> None:
        """Let the daemon send a decision."""
        self.inbox.append(decision)

    def prove(self, snapshot: int) -> None:
        """Let the daemon call a snapshot proven."""
        self.inbox.append(session_pb2.SnapshotProven(id=snapshot))

    @property
    def receipts(self) -> list[model_pb2.Receipt]:
        """The receipts among the reports."""
        return [r.receipt for r in self.reports if r.WhichOneof("body") == "receipt"]

    @property
    def results(self) -> list[session_pb2.ProgramResult]:
        """The results of programs among the reports."""
        return [r.program for r in self.reports if r.WhichOneof("body") == "program"]

    @property
    def losses(self) -> list[float]:
        """The train losses among the items."""
        return [item[5] for item in self.items if item[1] == session_pb2.ITEM_KIND_TRAIN]


@dataclass
class Rig:
    """A freshly built training set-up for one contract test.

    Attributes:
        trainer: the adapter under test, with two param groups or more at different LRs.
        step: trains one step on the i-th batch of a fixed list and returns its loss, computed
            before the update; dropout and the like draw from the global generators.
        draw: draws a number from a generator that the trainer restores.
        stopped: whether the loop was asked to end.
    """

    trainer: TrainerPort
    step: Callable[[int], float]
    draw: Callable[[], float]
    stopped: Callable[[], bool]


class TrainerContract(ABC):
    """What every `TrainerPort` promises."""

    @abstractmethod
    def rig(self) -> Rig:
        """A new set-up, the same one each time: it seeds the global generators."""

    def test_lrs_are_read_back_as_they_were_written(self) -> None:
        trainer = self.rig().trainer
        wanted = [lr * 0.3 for lr in trainer.get_lrs()]
        trainer.set_lrs(wanted)
        assert trainer.get_lrs() == wanted

    def test_every_group_has_a_name_and_a_base_lr(self) -> None:
        trainer = self.rig().trainer
        assert len(trainer.get_lrs()) >= 2
        assert len(trainer.group_names) == len(trainer.base_lrs) == len(trainer.get_lrs())
        assert len(set(trainer.group_names)) == len(trainer.group_names)

    def test_writing_an_lr_leaves_the_native_one(self) -> None:
        trainer = self.rig().trainer
        native = trainer.get_native_lrs()
        trainer.set_lrs([lr * 0.3 for lr in native])
        assert trainer.get_native_lrs() == native

    def test_an_lr_that_was_written_is_the_one_that_trains(self) -> None:
        moved = self.rig()
        trained = [moved.step(0), moved.step(1)]
        still = self.rig()
        still.trainer.set_lrs([0.0 for _ in still.trainer.get_lrs()])
        untrained = [still.step(0), still.step(1)]
        assert trained[0] == untrained[0]
        assert trained[1] != untrained[1]

    def test_restore_is_exact(self) -> None:
        rig = self.rig()
        for i in range(50):
            rig.step(i)
        self._replays(rig, 50)

    def test_restore_is_exact_from_before_the_first_step(self) -> None:
        self._replays(self.rig(), 0)

    def test_a_slot_can_be_used_again(self) -> None:
        rig = self.rig()
        for start in (0, 5):
            self._replays(rig, start)

    def test_a_slot_can_be_restored_twice(self) -> None:
        rig = self.rig()
        rig.trainer.snapshot(0)
        runs = []
        for _ in range(3):
            runs.append([rig.step(i) for i in range(10)])
            rig.trainer.restore(0, rng=True)
        assert runs[0] == runs[1] == runs[2]

    def test_slots_are_apart(self) -> None:
        rig = self.rig()
        rig.trainer.snapshot(0)
        first = [rig.step(i) for i in range(10)]
        rig.trainer.snapshot(1)
        second = [rig.step(i) for i in range(10)]
        rig.trainer.restore(0, rng=True)
        assert [rig.step(i) for i in range(10)] == first
        rig.trainer.restore(1, rng=True)
        assert [rig.step(i) for i in range(10)] == second

    def test_taking_a_snapshot_changes_nothing(self) -> None:
        plain = self.rig()
        expected = [plain.step(i) for i in range(20)]
        watched = self.rig()
        seen = []
        for i in range(20):
            watched.trainer.snapshot(i % 2)
            seen.append(watched.step(i))
        assert seen == expected

    def test_restore_leaves_the_lrs_alone(self) -> None:
        rig = self.rig()
        rig.trainer.snapshot(0)
        rig.step(0)
        wanted = [lr * 0.5 for lr in rig.trainer.get_lrs()]
        rig.trainer.set_lrs(wanted)
        rig.trainer.restore(0, rng=True)
        assert rig.trainer.get_lrs() == wanted

    def test_random_generators_are_restored_only_when_asked(self) -> None:
        rig = self.rig()
        rig.trainer.snapshot(0)
        first = rig.draw()
        rig.trainer.restore(0, rng=False)
        assert rig.draw() != first
        rig.trainer.restore(0, rng=True)
        assert rig.draw() == first

    def test_a_stop_reaches_the_loop(self) -> None:
        rig = self.rig()
        assert not rig.stopped()
        rig.trainer.request_stop()
        assert rig.stopped()

    @staticmethod
    def _replays(rig: Rig, start: int) -> None:
        rig.trainer.snapshot(0)
        first = [rig.step(start + i) for i in range(20)]
        rig.trainer.restore(0, rng=True)
        assert [rig.step(start + i) for i in range(20)] == first
