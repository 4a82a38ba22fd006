"""What every journal promises."""

import math
import threading
from dataclasses import replace

import pytest

from lrpilot_controller.core.events import (
    Answered,
    Asked,
    Commanded,
    Decided,
    Event,
    FellBack,
    Noticed,
    PriorAnswered,
    ProgramEnded,
    Requested,
    SearchEnded,
    SessionLost,
    SessionOpened,
    SignalSeen,
)
from lrpilot_controller.core.findings import Candidate, Reach, SearchEnd, SearchResult, Sweep
from lrpilot_controller.core.model import (
    Action,
    Attempt,
    Decision,
    ParamGroup,
    Question,
    Signal,
    SignalKind,
)
from lrpilot_controller.core.plans import Batches, Plan, PlanKind, Program, Segment, Shape, StopRule
from lrpilot_controller.core.telemetry import Samples, Thinned
from lrpilot_controller.journal import (
    Checkpoint,
    Journal,
    JournalEntryError,
    JournalUnavailable,
    Record,
    RunKey,
)

A, B = RunKey("demo", "a"), RunKey("demo", "b")


def samples(first: int, count: int = 4, attempt: str = "t1") -> Samples:
    seqs = range(first, first + count)
    return Samples(
        attempt=attempt,
        first_seq=first,
        validation=(False,) * count,
        step=tuple(seqs),
        branch=(0,) * count,
        program=(0,) * count,
        loss=tuple(1 / (seq + 1) for seq in seqs),
        lrs=((0.1, 0.01),),
    )


def lost(number: int) -> SessionLost:
    return SessionLost(f"attempt-{number}")


def test_run_key_reads_as_project_and_name() -> None:
    assert str(A) == "demo/a"


def test_first_opening_is_generation_1(journal: Journal) -> None:
    assert journal.generation == 1


def test_it_grows_above_a_generation_that_somebody_has_seen(journal: Journal) -> None:
    for seen, then in ((1, 1), (7, 8), (3, 8), (8, 8)):
        journal.outgrow(seen)
        assert journal.generation == then
    assert journal.append([(RunKey("demo", "a"), 0.0, SessionLost("t1"))]) == [1]


def test_empty(journal: Journal) -> None:
    assert journal.runs() == []
    assert list(journal.records(A)) == []
    assert journal.append([]) == []
    assert journal.runs() == []


def test_numbers_count_per_run_without_gaps(journal: Journal) -> None:
    assert journal.append([(A, 1.0, lost(1)), (B, 2.0, lost(2)), (A, 3.0, lost(3))]) == [1, 1, 2]
    assert journal.append([(B, 4.0, lost(4))]) == [2]
    assert journal.append([(A, 5.0, lost(5))]) == [3]
    assert list(journal.records(A)) == [
        Record(1, 1.0, lost(1)),
        Record(2, 3.0, lost(3)),
        Record(3, 5.0, lost(5)),
    ]
    assert list(journal.records(B)) == [Record(1, 2.0, lost(2)), Record(2, 4.0, lost(4))]


def test_runs_are_in_order_of_first_appearance(journal: Journal) -> None:
    keys = [RunKey("z", "1"), RunKey("a", "2"), RunKey("m", "ü/🚀")]
    for key in keys:
        journal.append([(key, 0.0, lost(0))])
    journal.append([(keys[0], 0.0, lost(0))])
    assert journal.runs() == keys


def test_same_name_in_two_projects(journal: Journal) -> None:
    other = RunKey("other", "a")
    journal.append([(A, 0.0, lost(1)), (other, 0.0, lost(2))])
    assert [r.event for r in journal.records(other)] == [lost(2)]


def test_after_and_kinds(journal: Journal) -> None:
    signal = Signal(SignalKind.SPIKE, 7, 5, 0.5, {"z": math.inf})
    decision = Decision(1, Action.CUT, "because", 7, 0, signal)
    happened: list[Event] = [
        samples(0),
        SignalSeen(signal),
        samples(4),
        Decided(decision),
        Noticed("t1", 1, "foreign_lr", 8, "text"),
    ]
    journal.append([(A, float(i), event) for i, event in enumerate(happened)])
    everything = [Record(i + 1, float(i), event) for i, event in enumerate(happened)]
    assert list(journal.records(A)) == everything
    assert list(journal.records(A, after=3)) == everything[3:]
    assert list(journal.records(A, after=-1)) == everything
    assert list(journal.records(A, after=5)) == []
    kinds = (Decided, SignalSeen)
    assert list(journal.records(A, kinds=kinds)) == [everything[1], everything[3]]
    assert list(journal.records(A, after=2, kinds=kinds)) == [everything[3]]
    assert list(journal.records(A, kinds=())) == []


DECAY = Plan(
    PlanKind.REPLACE,
    (
        Segment(Shape.CONSTANT, 40, 400, 0.03, 0.03),
        Segment(Shape.ONE_MINUS_SQRT, 400, 500, 0.03, 0.0),
        Segment(Shape.STEP, 500, 600, 0.03, 0.001, 3),
    ),
)
PROGRAM = Program(
    id=4,
    segments=(Segment(Shape.EXPONENTIAL, 0, 30, 1e-6, 1.0),),
    length=30,
    fallback=DECAY,
    stop=StopRule(loss_cap=9.5, ema_cap=4.0, ema_decay=0.8, ema_rise=1.5),
    restore_snapshot=1,
    restore_at_end=True,
    batches=Batches.REPLAYED,
    fallback_snapshot=2,
    phase="range test",
    lr=0.0316,
    share=0.25,
)
RESULT = SearchResult(
    SearchEnd.FOUND,
    0.0316,
    240,
    "the lowest of 7",
    2.31,
    (Candidate(0.0316, 0.4, 30), Candidate(0.316, math.inf, 9)),
    Sweep((1e-6, 1e-3), (2.3, math.inf)),
    Reach(0.0316, 30, 0.1, 1.5, 1.91),
)


@pytest.mark.parametrize(
    "event",
    [
        SessionOpened(Attempt("t1", (ParamGroup("all", 0.1),), 0.0, 1.0, plan=DECAY)),
        PriorAnswered("t1", 0.0316, "run demo/b", (Reach(0.1, 24, 0.0, 1.5, None),)),
        PriorAnswered("t1", None, "no earlier run of this job"),
        Asked("t1", Question(3, SignalKind.DIVERGENCE, 1 / 3, 1 / 9, 0.9)),
        Answered("t1", 3, 0.25, "12 earlier interventions"),
        Answered("t1", 4, None, "no answer: it did not come within 10 s"),
        Decided(Decision(4, Action.PROGRAM, "a", 0, 0, program=PROGRAM, save_snapshot=True)),
        ProgramEnded("t1", 3, 4, 0, (2.3, 9.6, math.inf, math.nan), "loss_cap", 2, 0.004),
        FellBack("t1", 4, 4, 30, 2, "no word within 250 ms", 0.25),
        Requested("t1", 5, "finish", 31, 200),
        Commanded("search", "ann", "the job changed"),
        SearchEnded("t1", RESULT),
    ],
    ids=lambda event: type(event).__name__,
)
def test_what_a_search_says_is_kept_as_it_was_said(journal: Journal, event: Event) -> None:
    journal.append([(A, 1.0, event)])
    (record,) = journal.records(A, kinds=[type(event)])
    assert repr(record.event) == repr(event)  # a NaN is not equal to itself


def test_kinds_must_be_event_classes(journal: Journal) -> None:
    with pytest.raises(TypeError, match="not a class of events"):
        journal.records(A, kinds=[Signal])


def test_many_records_come_in_order(journal: Journal) -> None:
    """More than a page, with kinds that alternate."""
    events: list[Event] = [samples(i, 1) if i % 3 else lost(i) for i in range(1500)]
    journal.append([(A, float(i), event) for i, event in enumerate(events)])
    assert [r.n for r in journal.records(A)] == list(range(1, 1501))
    found = [r.event for r in journal.records(A, kinds=[Samples, SessionLost])]
    assert found == events
    assert [r.event for r in journal.records(A, kinds=[SessionLost])] == events[::3]


def test_reading_ends_where_the_run_ended_when_it_began(journal: Journal) -> None:
    journal.append([(A, 0.0, lost(i)) for i in range(300)])
    reading = journal.records(A, kinds=[SessionLost, Noticed])
    first = next(reading)
    journal.append([(A, 0.0, Noticed("t", 1, "k", 0, "")), (A, 0.0, lost(300))])
    assert [first.n, *(r.n for r in reading)] == list(range(1, 301))


def test_the_newest_two_checkpoints_of_each_run_are_kept(journal: Journal) -> None:
    assert journal.checkpoint(A) is None
    journal.append([(key, float(i), lost(i)) for i in range(1, 10) for key in (A, B)])
    for n in (2, 4, 7):
        journal.save_checkpoint(A, n, f"a{n}")
    journal.save_checkpoint(B, 1, "b1")
    assert journal.checkpoint(A) == Checkpoint(7, 7.0, "a7")
    assert journal.checkpoint(A, before=7) == Checkpoint(7, 7.0, "a7")
    assert journal.checkpoint(A, before=6) == Checkpoint(4, 4.0, "a4")
    assert journal.checkpoint(A, before=3) is None
    assert journal.checkpoint(B) == Checkpoint(1, 1.0, "b1")


def test_a_checkpoint_may_be_saved_again_or_late(journal: Journal) -> None:
    journal.append([(A, float(i), lost(i)) for i in range(1, 6)])
    for n, state in ((3, "x" * 5000), (5, "five"), (3, "ü\n🚀\0" * 100), (1, "too old to be kept")):
        journal.save_checkpoint(A, n, state)
    assert journal.checkpoint(A) == Checkpoint(5, 5.0, "five")
    assert journal.checkpoint(A, before=4) == Checkpoint(3, 3.0, "ü\n🚀\0" * 100)
    assert journal.checkpoint(A, before=2) is None


@pytest.mark.parametrize(("key", "n"), [(A, 2), (A, 0), (A, -1), (B, 1)])
def test_a_checkpoint_belongs_to_a_record(journal: Journal, key: RunKey, n: int) -> None:
    journal.append([(A, 0.0, lost(0))])
    with pytest.raises(JournalEntryError, match=rf"'{key}' has no record {n}"):
        journal.save_checkpoint(key, n, "state")
    assert journal.checkpoint(key) is None
    assert journal.runs() == [A]


def test_a_checkpoint_is_text(journal: Journal) -> None:
    journal.append([(A, 0.0, lost(0))])
    with pytest.raises(JournalEntryError, match="surrogates"):
        journal.save_checkpoint(A, 1, "\ud800")
    assert journal.checkpoint(A) is None


def test_many_runs_are_read_across(journal: Journal) -> None:
    """Of each run all records of some kinds and the newest of others, in one order."""
    keys = [RunKey("many", str(i)) for i in range(450)]
    for key in keys:
        happened: list[Event] = [samples(0), lost(1), samples(4), samples(8), lost(2), samples(12)]
        journal.append([(key, float(i), event) for i, event in enumerate(happened, 1)])
    journal.append([(A, 1.0, Noticed("t", 1, "k", 0, ""))])
    found = list(journal.across([SessionLost, Noticed], [Samples, Thinned], 2))
    assert [key for key, _ in found] == [*keys, A]
    assert {tuple(record.n for record in records) for _, records in found[:-1]} == {(2, 4, 5, 6)}
    assert found[0][1] == [r for r in journal.records(keys[0]) if r.n in (2, 4, 5, 6)]
    assert list(journal.across([SessionLost], [], 1))[-1][0] == keys[-1]


def thinned(first: int, count: int, attempt: str = "t1") -> Thinned:
    """Of so many items the first and the last."""
    rows = replace(samples(first, 2, attempt), step=(first, first + count - 1))
    return Thinned(rows, (first, first + count - 1), first + count, count, 256)


def test_telemetry_is_thinned_and_everything_else_stays(journal: Journal) -> None:
    events: list[Event] = [samples(0), lost(1), samples(4), samples(8), lost(2), samples(12)]
    journal.append([(key, float(i), event) for i, event in enumerate(events, 1) for key in (A, B)])
    journal.save_checkpoint(A, 5, "state")
    assert journal.telemetry(A) == [(n, 4, True) for n in (1, 3, 4, 6)]
    journal.thin(A, 1, 4, thinned(0, 12))
    assert journal.telemetry(A) == [(4, 12, False), (6, 4, True)]
    assert list(journal.records(A)) == [
        Record(2, 2.0, lost(1)),
        Record(4, 4.0, thinned(0, 12)),
        Record(5, 5.0, lost(2)),
        Record(6, 6.0, samples(12)),
    ]
    assert [r.n for r in journal.records(A, after=2)] == [4, 5, 6]
    assert [r.n for r in journal.records(A, kinds=[Thinned])] == [4]
    assert journal.checkpoint(A) == Checkpoint(5, 5.0, "state")
    assert journal.append([(A, 7.0, lost(3))]) == [7]
    assert [r.event for r in journal.records(B)] == events


def test_what_was_thinned_can_be_thinned_again(journal: Journal) -> None:
    journal.append([(A, 1.0, samples(first)) for first in range(0, 40, 4)])
    journal.thin(A, 1, 3, thinned(0, 12))
    journal.thin(A, 4, 6, thinned(12, 12))
    journal.thin(A, 3, 6, thinned(0, 24))
    assert list(journal.records(A)) == [
        Record(6, 1.0, thinned(0, 24)),
        *(Record(7 + i, 1.0, samples(24 + 4 * i)) for i in range(4)),
    ]


@pytest.mark.parametrize(("key", "last"), [(A, 2), (A, 3), (A, 4), (B, 1)])
def test_only_telemetry_of_the_attempt_is_thinned(journal: Journal, key: RunKey, last: int) -> None:
    events = [samples(0), lost(1), samples(0, attempt="t2")]
    journal.append([(A, 0.0, event) for event in events])
    with pytest.raises(JournalEntryError, match=rf"record {last} of run '{key}' is not the tele"):
        journal.thin(key, 1, last, thinned(0, 4))
    assert [r.event for r in journal.records(A)] == events


def test_when_runs_were_last_seen(journal: Journal) -> None:
    journal.append([(A, 5.0, lost(1)), (B, 3.0, lost(1)), (B, 4.0, lost(1))])
    assert journal.last_seen() == [(B, 4.0), (A, 5.0)]
    journal.append([(B, 6.0, lost(1))])
    assert journal.last_seen() == [(A, 5.0), (B, 6.0)]


def test_a_forgotten_run_is_gone_and_its_name_begins_anew(journal: Journal) -> None:
    journal.append([(key, float(i), lost(i)) for i in range(2500) for key in (A, B)])
    journal.save_checkpoint(B, 2000, "state")
    journal.forget(B)
    journal.forget(B)
    assert (journal.runs(), list(journal.records(B)), journal.checkpoint(B)) == ([A], [], None)
    assert journal.append([(B, 0.0, lost(0))]) == [1]
    while journal.sweep():
        assert [r.event for r in journal.records(B)] == [lost(0)]
    assert journal.append([(B, 0.0, lost(1))]) == [2]
    assert journal.checkpoint(B) is None
    assert sum(1 for _ in journal.records(A)) == 2500


def test_size_follows_what_is_held(journal: Journal) -> None:
    wide = samples(0, 4000)
    noise = replace(wide, loss=tuple(math.sin(i * i) for i in range(4000)))
    before = journal.size()
    journal.append([(key, 0.0, noise) for key in [A, B] * 20])
    full = journal.size()
    assert full > before + 40 * 4000 * 7  # a double that is noise, and zlib
    journal.forget(A)
    while journal.sweep():
        pass
    assert before < journal.size() < 0.6 * full


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param((A, math.nan, lost(1)), id="time"),
        pytest.param((RunKey("demo", "\ud800"), 0.0, lost(1)), id="name"),
        pytest.param((RunKey("demo", "a\0b"), 0.0, lost(1)), id="nul"),
        pytest.param((A, 0.0, samples(1 << 63)), id="sequence"),
        pytest.param((A, 0.0, SessionLost("\ud800")), id="attempt"),
        pytest.param(
            (A, 0.0, Samples("t", 0, (), (1,), (0,), (0,), (1.0,), ((0.1,),))), id="columns"
        ),
        pytest.param(
            (A, 0.0, Samples("t", 0, (False,), (1 << 64,), (0,), (0,), (1.0,), ((0.1,),))),
            id="integer",
        ),
    ],
)
def test_all_or_nothing(journal: Journal, bad: tuple[RunKey, float, Event]) -> None:
    with pytest.raises(JournalEntryError):
        journal.append([(A, 0.0, lost(0)), (B, 0.0, lost(0)), bad])
    assert journal.runs() == []
    assert journal.append([(A, 0.0, lost(0))]) == [1]


def test_closed(journal: Journal) -> None:
    journal.close()
    journal.close()
    with pytest.raises(JournalUnavailable, match="closed"):
        journal.append([(A, 0.0, lost(1))])
    with pytest.raises(JournalUnavailable, match="closed"):
        journal.runs()
    with pytest.raises(JournalUnavailable, match="closed"):
        list(journal.records(A))
    with pytest.raises(JournalUnavailable, match="closed"):
        journal.save_checkpoint(A, 1, "state")
    with pytest.raises(JournalUnavailable, match="closed"):
        journal.checkpoint(A)
    for call in (journal.last_seen, journal.sweep, journal.size):
        with pytest.raises(JournalUnavailable, match="closed"):
            call()
    for about in (journal.telemetry, journal.forget):
        with pytest.raises(JournalUnavailable, match="closed"):
            about(A)
    with pytest.raises(JournalUnavailable, match="closed"):
        journal.thin(A, 1, 1, thinned(0, 4))


def test_threads_append_and_read(journal: Journal) -> None:
    failures: list[BaseException] = []

    def work(key: RunKey) -> None:
        try:
            for i in range(50):
                journal.append([(key, 0.0, lost(i)), (A, 0.0, lost(i))])
                assert sum(1 for _ in journal.records(key)) == i + 1
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(RunKey("p", str(k)),)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert [r.n for r in journal.records(A)] == list(range(1, 201))
