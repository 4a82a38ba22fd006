"""Questions of an engine: put to earlier interventions, the answers recorded when they come."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future
from dataclasses import replace

import pytest

from lrpilot_controller.config import Config
from lrpilot_controller.core.engine import Engine
from lrpilot_controller.core.events import Answered, Asked, Decided, Input, SessionLost
from lrpilot_controller.core.model import Attempt, Decision, Question, SignalKind
from lrpilot_controller.core.replay import Replay
from lrpilot_controller.core.settings import CoreSettings, TuneSettings
from lrpilot_controller.core.telemetry import Samples
from lrpilot_controller.journal import MemoryJournal, RunKey
from lrpilot_controller.journal.codec import identical
from lrpilot_controller.journal.writer import JournalWriter
from lrpilot_controller.server import asking
from lrpilot_controller.server.asking import Asking
from lrpilot_controller.server.live import LiveRun
from lrpilot_controller.server.runs import Runs
from support.journaled import NoLink, NoPriors
from support.streams import ATTEMPT, descent, explosion

KEY = RunKey("demo", "exp-1")
TUNED = CoreSettings(tune=TuneSettings(factors=True))


class Advisor:
    """Answers as it is told to; keeps what it was asked."""

    def __init__(self) -> None:
        self.says: float | Exception | None = 0.5
        self.asked: list[tuple[int, SignalKind]] = []
        self.late: list[tuple[Question, Future[Answered]]] = []

    def advise(self, run: RunKey, attempt: Attempt, question: Question) -> "Future[Answered]":
        self.asked.append((question.id, question.kind))
        answer: Future[Answered] = Future()
        if isinstance(self.says, Exception):
            answer.set_exception(self.says)
        elif self.says is None:
            self.late.append((question, answer))
        else:
            answer.set_result(Answered(attempt.id, question.id, self.says, "as told"))
        return answer


class House:
    """A daemon's runs with an advisor, without its server."""

    def __init__(self, settings: CoreSettings = TUNED) -> None:
        self.journal = MemoryJournal()
        self.writer = JournalWriter(self.journal)
        self.advisor = Advisor()
        self.settings = settings
        self.link = NoLink()
        self.restart()

    def restart(self) -> None:
        self.runs = Runs(self.journal, self.writer, Config(self.settings), NoPriors())
        self.runs.listeners.append(Asking(self.advisor, self.runs).record)

    async def open(self, attempt: Attempt = ATTEMPT) -> LiveRun:
        self.link = NoLink()
        return await self.runs.open(KEY, attempt, self.link)

    async def train(self, run: LiveRun, losses: list[float]) -> None:
        first, count = run.next_seq, len(losses)
        steps, zeros = tuple(range(first - 1, first - 1 + count)), (0,) * count
        samples = Samples(
            "t1", first, (False,) * count, steps, zeros, zeros, tuple(losses), ((0.1,),)
        )
        await self.runs.take(run, self.link, samples)

    def answers(self) -> list[Answered]:
        found = (record.event for record in self.journal.records(KEY, kinds=[Answered]))
        return [event for event in found if isinstance(event, Answered)]

    def decisions(self) -> list[Decision]:
        found = (record.event for record in self.journal.records(KEY, kinds=[Decided]))
        return [event.decision for event in found if isinstance(event, Decided)]

    async def told(self, count: int) -> None:
        """Once so many answers are recorded."""
        while len(self.answers()) < count:
            await asyncio.sleep(0.005)


@pytest.fixture
def house() -> Iterator[House]:
    made = House()
    yield made
    made.writer.close()


def play(story: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(story(), 30))  # type: ignore[arg-type]


def test_answers_are_recorded_before_a_signal_needs_them(house: House) -> None:
    async def story() -> None:
        run = await house.open()
        await house.told(4)
        assert [event.factor for event in house.answers()] == [0.5] * 4
        assert run.engine.questions == []
        await house.train(run, [*descent(200), *explosion(40)])
        assert house.decisions()[-1].factor == 0.5
        await house.told(5)  # the next one of its kind, for the next time

    play(story)


def test_a_replay_of_the_journal_asks_nobody_and_decides_the_same(house: House) -> None:
    async def story() -> None:
        run = await house.open()
        await house.told(4)
        await house.train(run, [*descent(200), *explosion(40)])
        await house.told(5)
        await house.runs.close(run, house.link)

    play(story)
    replay = Replay(Engine().feed)
    for record in house.journal.records(KEY):
        replay.take(record.n, record.event)
    assert house.decisions()[-1].factor == 0.5
    assert replay.difference(identical) is None
    assert replay.missing() == []


def test_no_decision_waits_for_an_answer(house: House) -> None:
    house.advisor.says = None

    async def story() -> None:
        run = await house.open()
        await house.train(run, [*descent(200), *explosion(40)])
        (decision,) = house.decisions()
        assert (decision.factor, decision.rule) == (1 / 3, 1 / 3)
        first = house.advisor.late[:4]
        for question, answer in first:
            answer.set_result(Answered("t1", question.id, 0.5, "late"))
        await house.told(4)  # recorded, and of no use where the rule has decided
        assert SignalKind.DIVERGENCE in [question.kind for question in run.engine.questions]

    play(story)


def test_an_answer_that_does_not_come_is_told_as_that(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "DEADLINE_S", 0.05)
    house.advisor.says = None

    async def story() -> None:
        await house.open()
        await house.told(4)
        for answer in house.answers():
            assert answer.factor is None
            assert answer.reason == "no answer: it did not come within 0.05 s"

    play(story)
    assert all(answer.cancelled() for _, answer in house.advisor.late)


def test_a_memory_that_is_broken_leaves_it_to_the_rule(house: House) -> None:
    house.advisor.says = OSError("the disk is gone")

    async def story() -> None:
        run = await house.open()
        await house.told(4)
        assert house.answers()[0] == Answered("t1", 1, None, "no answer: the disk is gone")
        await house.train(run, [*descent(200), *explosion(40)])
        assert house.decisions()[-1].factor == 1 / 3

    play(story)


def test_what_was_not_answered_is_asked_again_when_the_trainer_comes_back(house: House) -> None:
    house.advisor.says = None

    async def story() -> None:
        await house.open()
        while len(house.advisor.asked) < 4:
            await asyncio.sleep(0.005)
        house.restart()
        house.advisor.says = 0.5
        await house.open()
        await house.told(4)
        assert house.advisor.asked == 2 * house.advisor.asked[:4]
        questions = list(house.journal.records(KEY, kinds=[Asked]))
        assert len(questions) == 4  # they are the same ones

    play(story)


def test_an_answer_to_a_run_without_a_session_is_not_recorded(house: House) -> None:
    house.advisor.says = None

    async def story() -> None:
        run = await house.open()
        while len(house.advisor.late) < 4:
            await asyncio.sleep(0.005)
        await house.runs.close(run, house.link)
        await asyncio.sleep(0.05)
        # An advisor that is busy need not work for nobody.
        assert all(answer.cancelled() for _, answer in house.advisor.late)
        await house.open()  # they are asked again, for whoever is there
        while len(house.advisor.late) < 8:
            await asyncio.sleep(0.005)
        await house.runs.close(run, house.link)
        assert house.answers() == []

    play(story)
    inputs = [r.event for r in house.journal.records(KEY) if isinstance(r.event, Input)]
    assert isinstance(inputs[-1], SessionLost)


def test_a_daemon_that_tunes_nothing_asks_nothing() -> None:
    house = House(CoreSettings())

    async def story() -> None:
        run = await house.open(replace(ATTEMPT))
        await house.train(run, [*descent(200), *explosion(40)])
        assert house.decisions()[-1].rule is None

    play(story)
    assert house.advisor.asked == []
    house.writer.close()
