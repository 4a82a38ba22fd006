"""What the daemon does with a session's events: record, feed, record what follows, then speak."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from lrpilot_controller.config import Config, RunSection
from lrpilot_controller.core.engine import Engine
from lrpilot_controller.core.events import (
    Commanded,
    Configured,
    Decided,
    FellBack,
    Input,
    PriorAnswered,
    ProgramEnded,
    ReceiptArrived,
    Requested,
    SaidGoodbye,
    SearchEnded,
    SessionLost,
    SessionOpened,
    SnapshotTaken,
)
from lrpilot_controller.core.model import (
    Action,
    Attempt,
    Decision,
    DecisionStatus,
    Mode,
    Receipt,
    Signal,
)
from lrpilot_controller.core.settings import CoreSettings, Reaction, Reactions
from lrpilot_controller.core.telemetry import Samples
from lrpilot_controller.errors import JournalUnavailable, LRPilotError, NotNow
from lrpilot_controller.journal import MemoryJournal, RunKey
from lrpilot_controller.journal.base import Entry
from lrpilot_controller.journal.writer import JournalWriter
from lrpilot_controller.server.live import LiveRun
from lrpilot_controller.server.runs import Runs
from support.streams import ATTEMPT

KEY = RunKey("demo", "exp-1")
SEARCHING = replace(
    ATTEMPT,
    max_lr=1e3,
    search=True,
    total_steps=2000,
    can_program=True,
    can_replay=True,
    job="mlp/adamw/64",
)
IDLE = replace(SEARCHING, search=False)
START = SnapshotTaken("t1", 1, 1, 0, 0, True)
OLD = Decision(1, Action.CUT, "as an older version decides", 0, 0, factor=0.5)
LOSSES = Samples(
    "t1",
    first_seq=1,
    validation=(False,) * 40,
    step=tuple(range(40)),
    branch=(0,) * 40,
    program=(0,) * 40,
    loss=(1.0,) * 40,
    lrs=((0.1,),),
)


@dataclass
class Link:
    """A session that keeps what it is told."""

    decided: list[Decision] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)

    def decide(self, decision: Decision) -> None:
        self.decided.append(decision)

    def prove(self, snapshot: int) -> None:
        pass

    def see(self, signal: Signal) -> None:
        pass

    def end(self, error: LRPilotError) -> None:
        self.ended.append(str(error))


class Priors:
    """Answers as it is told to, and counts the questions."""

    deadline_s = 0.2

    def __init__(self, answer: PriorAnswered | Exception | None) -> None:
        self.answer = answer
        self.asked: list[tuple[RunKey, str]] = []

    def ask(self, run: RunKey, attempt: Attempt) -> "Future[PriorAnswered]":
        self.asked.append((run, attempt.id))
        future: Future[PriorAnswered] = Future()
        if isinstance(self.answer, Exception):
            future.set_exception(self.answer)
        elif self.answer is not None:
            future.set_result(replace(self.answer, attempt=attempt.id))
        return future


class House:
    """A daemon's runs on a journal, without its server."""

    def __init__(self) -> None:
        self.journal = MemoryJournal()
        self.writer = JournalWriter(self.journal)
        self.priors = Priors(PriorAnswered("", None, "no earlier run of this job"))
        self.link = Link()
        self.config = Config()
        self.restart()

    def restart(self) -> None:
        """Another daemon on the same journal."""
        self.runs = Runs(self.journal, self.writer, self.config, self.priors)

    async def open(self, attempt: Attempt = SEARCHING, link: Link | None = None) -> LiveRun:
        self.link = link or Link()
        return await self.runs.open(KEY, attempt, self.link)

    async def feed(self, run: LiveRun, *events: Any) -> None:
        for event in events:
            await self.runs.take(run, self.link, event)

    def inputs(self) -> list[Input]:
        return [r.event for r in self.journal.records(KEY) if isinstance(r.event, Input)]

    def names(self) -> list[str]:
        return [type(event).__name__ for event in self.inputs()]

    def programs(self) -> list[Decision]:
        records = self.journal.records(KEY, kinds=[Decided])
        made = [r.event.decision for r in records if isinstance(r.event, Decided)]
        return [decision for decision in made if decision.program is not None]


@pytest.fixture
def house() -> Iterator[House]:
    made = House()
    yield made
    made.writer.close()


def play(story: Callable[[], Awaitable[None]]) -> None:
    async def whole() -> None:
        await story()

    asyncio.run(whole())


def applied(decision: Decision, number: int, step: int = 0) -> ReceiptArrived:
    status = DecisionStatus.APPLIED
    receipt = Receipt(decision.id, status, step, 0, 0, (0.1,), (0.1,), 0.001)
    return ReceiptArrived("t1", number, receipt)


# -- the first program


def test_a_run_that_is_to_search_is_told_to_wait_for_its_first_program(house: House) -> None:
    async def story() -> None:
        run = await house.open()
        assert run.engine.will_search
        await house.feed(run, START)
        (decision,) = house.programs()
        assert decision in house.link.decided or decision in run.unanswered.values()
        assert decision.program is not None
        assert decision.program.id == decision.id

    play(story)


@pytest.mark.parametrize("change", [{"search": False}, {"mode": Mode.OBSERVE}])
def test_a_run_that_does_not_search_need_not_wait(house: House, change: dict[str, Any]) -> None:
    async def story() -> None:
        run = await house.open(replace(SEARCHING, **change))
        assert not run.engine.will_search

    play(story)


def test_the_reports_of_a_search_reach_the_engine_once_each(house: House) -> None:
    async def story() -> None:
        run = await house.open()
        await house.feed(run, START)
        (first,) = house.programs()
        assert first.program is not None
        losses = (2.0,) * first.program.length
        ended = ProgramEnded("t1", 3, first.id, 0, losses, "length", 0, 0.01)
        await house.feed(run, applied(first, 2), ended, ended)
        assert len(house.programs()) == 2
        assert run.next_report == 4
        second = house.programs()[1]
        back = FellBack("t1", 4, second.id, 8, 1, "no word within 250 ms", 0.25)
        await house.feed(run, back, back, Requested("t1", 5, "finish", 90, 10))
        assert not run.engine.will_search
        assert house.names().count("ProgramEnded") == house.names().count("FellBack") == 1
        assert house.names()[-1] == "Requested"

    play(story)


def test_a_restarted_daemon_goes_on_with_the_same_program(house: House) -> None:
    async def story() -> None:
        run = await house.open()
        await house.feed(run, START)
        (sent,) = house.programs()
        house.restart()
        run = await house.open()
        assert run.unanswered == {sent.id: sent}
        assert run.engine.will_search
        assert house.programs() == [sent]

    play(story)


def test_where_a_replay_differs_the_journal_stands(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    """As after an update that decides otherwise: nothing recorded is decided again."""

    async def story() -> None:
        await house.open(replace(ATTEMPT, can_snapshot=True))
        [number] = house.journal.append([(KEY, 0.0, Decided(replace(OLD, id=7)))])
        house.restart()
        run = await house.open(ATTEMPT)
        assert f"first at record {number}" in caplog.text
        assert run.unanswered.keys() == {7}
        blown_up = replace(LOSSES, loss=(math.nan,) * 40)
        await house.feed(run, START, applied(OLD, 2), blown_up)
        made = [r.event.decision.id for r in house.journal.records(KEY, kinds=[Decided])]
        assert made[:2] == [7, 8]

    play(story)


# -- what earlier runs found


def test_a_search_is_told_what_earlier_runs_found_before_it_begins(house: House) -> None:
    house.priors.answer = PriorAnswered("", 0.03, "run demo/exp-0")

    async def story() -> None:
        await house.open()
        assert house.priors.asked == [(KEY, "t1")]
        assert house.inputs() == [
            Configured(CoreSettings()),
            SessionOpened(SEARCHING),
            PriorAnswered("t1", 0.03, "run demo/exp-0"),
        ]

    play(story)


def test_an_attempt_is_asked_for_once_whatever_happens_to_its_streams(house: House) -> None:
    async def story() -> None:
        await house.open()
        await house.open()
        house.restart()
        await house.open()
        assert house.priors.asked == [(KEY, "t1")]
        assert house.names().count("PriorAnswered") == 1
        await house.open(replace(SEARCHING, id="t2", resumes=None), house.link)

    with pytest.raises(LRPilotError, match="live session of another attempt"):
        play(story)


def test_each_attempt_is_asked_for(house: House) -> None:
    async def story() -> None:
        run = await house.open()
        await house.feed(run, SaidGoodbye("t1", 1, "finished", 0))
        await house.runs.close(run, house.link)
        await house.open(replace(SEARCHING, id="t2"))
        assert [attempt for _, attempt in house.priors.asked] == ["t1", "t2"]

    play(story)


@pytest.mark.parametrize("change", [{"search": False}, {"mode": Mode.OBSERVE}, {"resumes": "t0"}])
def test_nobody_is_asked_for_a_run_that_does_not_search(
    house: House, change: dict[str, Any]
) -> None:
    async def story() -> None:
        await house.open(replace(SEARCHING, **change))
        assert house.priors.asked == []
        assert house.names() == ["Configured", "SessionOpened"]

    play(story)


def test_an_answer_that_does_not_come_is_waited_for_no_longer_than_a_moment(house: House) -> None:
    house.priors.answer = None

    async def story() -> None:
        begin = asyncio.get_running_loop().time()
        await house.open()
        assert 0.1 < asyncio.get_running_loop().time() - begin < 2.0
        answer = house.inputs()[-1]
        assert answer == PriorAnswered("t1", None, "no answer: it did not come within 0.2 s")

    play(story)


def test_a_memory_that_is_broken_costs_the_run_nothing(house: House) -> None:
    house.priors.answer = OSError("the disk is gone")

    async def story() -> None:
        run = await house.open()
        assert house.inputs()[-1] == PriorAnswered("t1", None, "no answer: the disk is gone")
        assert run.engine.will_search

    play(story)


# -- a session that takes over


def test_what_a_new_session_brings_about_is_not_told_to_the_one_before(house: House) -> None:
    async def story() -> None:
        first = Link()
        await house.open(link=first)
        house.link = Link()
        await house.runs.open(KEY, replace(SEARCHING, id="t2", resumes="t1"), house.link)
        assert first.decided == []
        assert len(first.ended) == 1

    play(story)


def test_a_trainer_whose_run_was_dropped_meanwhile_gets_decisions_that_it_heeds(
    house: House,
) -> None:
    async def story() -> None:
        run = await house.open(replace(SEARCHING, last_decision=7))
        await house.feed(run, START, LOSSES)
        assert [decision.id for decision in house.link.decided][:1] == [8]

    play(story)


class Full(MemoryJournal):
    """Takes what a trainer says, but not what follows from it, while it is `full`."""

    full = False

    def append(self, entries: Any) -> list[int]:
        if self.full and not all(isinstance(event, Input) for _, _, event in entries):
            raise JournalUnavailable("the disk is full")
        return super().append(entries)


def test_a_session_of_a_run_that_was_loaded_anew_writes_no_more(house: House) -> None:
    async def story() -> None:
        house.journal = Full()
        house.writer.close()
        house.writer = JournalWriter(house.journal)
        house.restart()
        run = await house.open()
        await house.feed(run, START, LOSSES)  # a program was sent, which the next attempt ends
        old, new = house.link, Link()
        house.journal.full = True
        other = replace(SEARCHING, id="t2", resumes="t1")
        with pytest.raises(JournalUnavailable):
            await house.runs.open(KEY, other, new)
        house.journal.full = False
        assert len(old.ended) == 1  # its run is of no use any more
        await house.runs.open(KEY, other, new)
        names = house.names()
        with pytest.raises(JournalUnavailable, match="loaded anew"):
            await house.runs.take(run, old, replace(LOSSES, first_seq=41))
        await house.runs.close(run, old)
        assert house.names() == names
        assert new.ended == []

    play(story)


# -- a person's search


SEARCH = Commanded("search", "ann", "another data set")


def test_a_person_may_start_a_search(house: House) -> None:
    async def story() -> None:
        run = await house.open(IDLE)
        await house.feed(run, START)
        await house.runs.command(KEY, SEARCH)
        assert run.engine.will_search
        assert house.inputs()[-1] == SEARCH
        assert [d.action for d in house.link.decided] == [Action.PROGRAM]

    play(story)


def test_a_search_needs_a_trainer_that_is_there(house: House) -> None:
    async def story() -> None:
        with pytest.raises(NotNow, match="no live session"):
            await house.runs.command(KEY, SEARCH)
        run = await house.open(IDLE)
        await house.runs.close(run, house.link)
        assert isinstance(house.inputs()[-1], SessionLost)
        with pytest.raises(NotNow, match="no live session"):
            await house.runs.command(KEY, SEARCH)

    play(story)


@pytest.mark.parametrize(
    ("attempt", "reason"),
    [
        (SEARCHING, "is searching already"),
        (replace(IDLE, can_program=False), "cannot run programs"),
        (replace(IDLE, mode=Mode.OBSERVE), "mode is observe"),
    ],
)
def test_a_search_that_cannot_begin_says_why_and_leaves_no_trace(
    house: House, attempt: Attempt, reason: str
) -> None:
    async def story() -> None:
        await house.open(attempt)
        with pytest.raises(NotNow, match=reason):
            await house.runs.command(KEY, SEARCH)
        assert "Commanded" not in house.names()

    play(story)


# -- what a person set


def observing(run: str) -> Config:
    settings = CoreSettings(reactions=Reactions(plateau=Reaction.CUT))
    return Config(settings, (RunSection(run, Mode.OBSERVE, {"overfit": "stop"}),))


def test_a_run_is_configured_before_its_first_session_and_when_something_changed(
    house: House,
) -> None:
    async def story() -> None:
        await house.open()
        house.restart()
        await house.open()
        assert house.names() == ["Configured", "SessionOpened", "PriorAnswered", "SessionOpened"]
        house.config = observing("demo/*")
        house.restart()
        run = await house.open()
        assert house.names()[4:] == ["Configured", "SessionOpened"]
        assert run.engine.view is not None
        assert run.engine.view.reactions == Reactions(plateau=Reaction.CUT, overfit=Reaction.STOP)

    play(story)


def test_a_replay_needs_the_journal_alone(house: House) -> None:
    async def story() -> None:
        house.config = observing("demo/*")
        house.restart()
        run = await house.open()
        engine = Engine()
        for event in house.inputs():
            engine.feed(event)
        assert engine.view == run.engine.view

    play(story)


@pytest.mark.parametrize(("pattern", "mode"), [("demo/*", Mode.OBSERVE), ("a/*", Mode.AUTO)])
def test_a_section_lowers_the_mode_of_the_runs_that_it_means(
    house: House, pattern: str, mode: Mode
) -> None:
    async def story() -> None:
        house.config = observing(pattern)
        house.restart()
        run = await house.open()
        assert run.attempt is not None
        assert run.attempt.mode is mode
        assert run.engine.will_search is (mode is Mode.AUTO)
        assert len(house.priors.asked) == (mode is Mode.AUTO)

    play(story)


def test_what_is_never_answered_does_not_pile_up(house: House) -> None:
    """The newest is kept: it is the one that is in flight."""

    async def story() -> None:
        run = await house.open()
        for number in range(1, 1001):
            run.made(Decided(replace(OLD, id=number, status=DecisionStatus.SENT)))
        assert len(run.unanswered) == 100
        assert max(run.unanswered) == 1000

    play(story)


def fail(house: House, kind: type) -> Callable[[], None]:
    """From now on the journal takes no event of this kind; gives what ends that."""
    real = house.journal.append

    def append(entries: Sequence[Entry]) -> list[int]:
        if any(isinstance(event, kind) for _, _, event in entries):
            raise JournalUnavailable("the disk is full")
        return real(entries)

    house.journal.append = append  # type: ignore[method-assign]
    return lambda: setattr(house.journal, "append", real)


@pytest.mark.parametrize("back", [False, True])
def test_a_session_whose_commit_failed_is_lost_unless_its_trainer_is_back(
    house: House, back: bool
) -> None:
    """Its stream may be cut at the same time, and its end be noticed long after that."""

    async def story() -> None:
        run, old = await house.open(), house.link
        in_order = fail(house, Decided)
        with pytest.raises(JournalUnavailable):
            await house.feed(run, START)
        in_order()
        if back:
            await house.open()
        await house.runs.close(run, old)
        assert house.runs.is_live(KEY) == back

    asyncio.run(story())
    assert isinstance(house.inputs()[-1], SessionLost) != back
    assert len(house.programs()) == back, "what the failed commit held is decided when loaded"


def test_a_session_that_was_not_taken_over_after_all_writes_nothing_beside_the_next(
    house: House,
) -> None:
    """It is told so: the run was loaded afresh, and only one may be fed."""

    async def story() -> None:
        run, old = await house.open(), house.link
        await house.feed(run, START)
        in_order = fail(house, SearchEnded)
        with pytest.raises(JournalUnavailable):
            await house.open(replace(SEARCHING, mode=Mode.OBSERVE))
        in_order()
        assert len(old.ended) == 1
        await house.open()
        with pytest.raises(JournalUnavailable):
            await house.runs.take(run, old, LOSSES)
        await house.runs.close(run, old)

    asyncio.run(story())
    assert isinstance(house.inputs()[-1], SessionOpened)


def test_a_goodbye_whose_acknowledgement_was_lost_is_said_once_and_the_run_is_over(
    house: House,
) -> None:
    """The trainer comes back to ask whether it was heard, and that is not a new beginning."""
    goodbye = SaidGoodbye("t1", 2, "finished", 0)

    async def story() -> None:
        run = await house.open(IDLE)
        await house.feed(run, START, goodbye)
        await house.runs.close(run, house.link)
        again = await house.open(IDLE)
        assert again.next_report == 3, "the welcome acknowledges it"
        await house.runs.close(again, house.link)

    play(story)
    assert house.inputs()[-1] == goodbye
    assert house.names().count("SessionOpened") == 1
