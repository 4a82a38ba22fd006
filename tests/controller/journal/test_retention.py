"""What is thinned and dropped, when, and what never is."""

import logging
import math
from collections.abc import Iterator

import pytest

from lrpilot_controller.core.events import SessionLost, SessionOpened, SignalSeen
from lrpilot_controller.core.model import Attempt, ParamGroup, Signal, SignalKind
from lrpilot_controller.core.telemetry import Samples, Thinned
from lrpilot_controller.journal import Journal, JournalWriter, RunKey
from lrpilot_controller.journal.retention import DAY_S, MOST_ROWS, Keep, Retention
from lrpilot_controller.story import tell

A, B = RunKey("demo", "a"), RunKey("demo", "b")
NOW = 1e9
SIZE = 200  # samples of a record


@pytest.fixture
def writer(journal: Journal) -> Iterator[JournalWriter]:
    made = JournalWriter(journal)
    yield made
    made.close()


class Trainer:
    """Adds telemetry to a run, as a daemon would."""

    def __init__(self, journal: Journal, retention: Retention | None, run: RunKey = A) -> None:
        self.journal, self.retention, self.run = journal, retention, run
        self.step = 0
        attempt = Attempt("t1", (ParamGroup("all", 0.1),), 0.0, 1.0)
        self.last = journal.append([(run, NOW, SessionOpened(attempt))])[0]

    def train(self, steps: int, at: float = NOW) -> None:
        for _ in range(steps // SIZE):
            these = range(self.step, self.step + SIZE)
            samples = Samples(
                "t1", self.step + 1, (False,) * SIZE, tuple(these), (0,) * SIZE, (0,) * SIZE,
                tuple(math.sin(k * k) for k in these), ((0.1,),),
            )  # fmt: skip
            (self.last,) = self.journal.append([(self.run, at, samples)])
            if self.retention is not None:
                found = [r for r in self.journal.records(self.run, after=self.last - 1)]
                self.retention.heard(self.run, found)
            self.step += SIZE

    def signal(self) -> None:
        seen = Signal(SignalKind.SPIKE, self.step, self.step - 3, 0.5, {})
        self.journal.append([(self.run, NOW, SignalSeen(seen))])

    def checkpoint(self) -> int:
        self.journal.save_checkpoint(self.run, self.last, "state")
        return self.last

    def held(self) -> int:
        """Samples that are held one by one."""
        return sum(r.items for r in self.journal.telemetry(self.run) if r.whole)


def retention_of(
    journal: Journal, writer: JournalWriter, most_bytes: float = math.inf, **keep: float
) -> Retention:
    made = Keep(**{"samples": 10_000} | keep)  # type: ignore[arg-type]
    return Retention(journal, writer, made, most_bytes, clock=lambda: NOW)


def nobody(_: RunKey) -> bool:
    return False


def test_the_newest_samples_are_kept_one_by_one(journal: Journal, writer: JournalWriter) -> None:
    retention = retention_of(journal, writer)
    trainer = Trainer(journal, retention)
    for _ in range(20):
        trainer.train(4000)
        trainer.checkpoint()
        retention.look(nobody)
        assert trainer.held() <= 1.25 * 10_000 + 4000 + SIZE
    trainer.train(4000)
    trainer.checkpoint()
    assert trainer.held() >= 10_000
    newest = [r.event for r in journal.records(A, kinds=[Samples])]
    assert all(isinstance(event, Samples) for event in newest)
    story = tell(A, journal.records(A))
    assert (story.received, story.step) == (84_000, 84_000)
    assert story.thinned is not None
    assert story.thinned.count == 84_000 - trainer.held()


def test_what_an_engine_needs_is_never_thinned(
    journal: Journal, writer: JournalWriter, caplog: pytest.LogCaptureFixture
) -> None:
    retention = retention_of(journal, writer, most_bytes=1)
    trainer = Trainer(journal, retention)
    caplog.set_level(logging.INFO)
    for _ in range(3):
        trainer.train(20_000)
        retention.look(nobody)
    assert trainer.held() == 60_000
    assert caplog.text.count("run demo/a has no kept state") == 1
    first = trainer.checkpoint()
    trainer.train(20_000)
    second = trainer.checkpoint()
    trainer.train(20_000)
    before = list(journal.records(A, after=first))
    retention.look(nobody)
    assert list(journal.records(A, after=first)) == before
    assert trainer.held() == 40_000
    trainer.checkpoint()
    trainer.train(SIZE)
    retention.look(nobody)
    assert trainer.held() == 20_000 + SIZE
    assert journal.telemetry(A)[0].n < second < journal.telemetry(A)[-1].n


def test_a_run_full_of_evidence_is_thinned_too(journal: Journal, writer: JournalWriter) -> None:
    """What is around the newest signals stays whole, what is around the oldest does not."""
    retention = retention_of(journal, writer)
    trainer = Trainer(journal, retention)
    for _ in range(30):
        trainer.train(2000)
        trainer.signal()
        trainer.checkpoint()
        if trainer.step % 10_000 == 0:
            retention.look(nobody)
    trainer.train(10_000)
    trainer.checkpoint()
    trainer.train(SIZE)
    trainer.checkpoint()
    retention.look(nobody)
    assert 10_000 + 10 * 512 <= trainer.held() <= 2 * 10_000 + 10 * SIZE
    steps = {
        step
        for r in journal.records(A, kinds=[Samples])
        if isinstance(r.event, Samples)
        for step in r.event.step
    }
    assert {58_000 - 256, 58_000, 58_000 + 256} <= steps
    assert 2000 not in steps


def test_what_is_left_of_a_long_run_is_bounded(journal: Journal, writer: JournalWriter) -> None:
    retention = retention_of(journal, writer, samples=1000)
    trainer = Trainer(journal, None)
    rows = []
    for _ in range(4):
        # Each stands for a million samples.
        for _ in range(20):
            trainer.train(SIZE)
            first = trainer.step - SIZE + 1
            found = next(journal.records(A, after=trainer.last - 1)).event
            assert isinstance(found, Samples)
            wide = Thinned(found, tuple(range(first, first + SIZE)), first + SIZE, SIZE, 1)
            journal.thin(A, trainer.last, trainer.last, wide)
        rows.append(
            sum(len(r.event.seq) for r in journal.records(A) if isinstance(r.event, Thinned))
        )
    assert rows[-1] == 16_000 > MOST_ROWS
    trainer.train(2000)
    trainer.checkpoint()
    retention.look(nobody)
    left = [r.event for r in journal.records(A) if isinstance(r.event, Thinned)]
    assert sum(len(event.seq) for event in left) < MOST_ROWS / 10
    assert sum(event.train for event in left) + trainer.held() == trainer.step


def test_near_the_journals_limit_the_oldest_runs_that_are_over_go_first(
    journal: Journal, writer: JournalWriter
) -> None:
    trainers = [Trainer(journal, None, RunKey("demo", f"r{i}")) for i in range(6)]
    for i, trainer in enumerate(trainers):
        trainer.train(8000, at=NOW + i)
        trainer.checkpoint()
    full = journal.size()
    live = trainers[0].run
    retention = retention_of(journal, writer, most_bytes=0.8 * full / 0.9)
    retention.look(lambda run: run == live)
    assert journal.size() <= 0.8 * full
    held = [trainer.held() for trainer in trainers]
    assert held[0] == 8000, "a run with a session keeps its newest samples"
    assert held == sorted(held[:1]) + sorted(held[1:])
    assert held[-1] == 8000
    assert held[1] <= SIZE
    assert len(journal.runs()) == 6, "no run is dropped for room"


def test_runs_expire_by_their_last_record(journal: Journal, writer: JournalWriter) -> None:
    for run, days in ((A, 3.5), (B, 2.5)):
        journal.append([(run, NOW - days * DAY_S, SessionLost("t1"))])
    assert retention_of(journal, writer).expired() == []
    assert retention_of(journal, writer, days=3).expired() == [A]
    assert retention_of(journal, writer, days=0.5).expired() == [A, B]
    journal.append([(A, NOW, SessionLost("t1"))])
    assert retention_of(journal, writer, days=0.5).expired() == [B]


def test_a_run_of_a_dropped_ones_name_is_thinned_as_any_other(
    journal: Journal, writer: JournalWriter
) -> None:
    retention = retention_of(journal, writer)
    for _ in range(2):
        trainer = Trainer(journal, retention)
        trainer.train(20_000)
        trainer.checkpoint()
        retention.look(nobody)
        assert trainer.held() <= 10_000 + SIZE
        journal.forget(A)
        retention.forgotten(A)
