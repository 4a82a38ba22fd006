"""The thread that writes: groups, order, failures, the end."""

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import Future

import pytest

from lrpilot_controller.core.events import SessionLost
from lrpilot_controller.journal import (
    Checkpoint,
    Journal,
    JournalEntryError,
    JournalUnavailable,
    JournalWriter,
    MemoryJournal,
    RunKey,
)
from lrpilot_controller.journal.base import Entry

RUN = RunKey("demo", "a")
WAIT = 10.0


def entry(number: int) -> Entry:
    return (RUN, float(number), SessionLost(str(number)))


class FaultyJournal(MemoryJournal):
    """Holds each commit until it is let go, and fails those that it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.groups: list[int] = []
        self.faults: dict[int, Exception] = {}
        self.entered = threading.Semaphore(0)
        self.gate = threading.Semaphore(0)

    def append(self, entries: Sequence[Entry]) -> list[int]:
        number = len(self.groups)
        self.groups.append(len(entries))
        self.entered.release()
        assert self.gate.acquire(timeout=WAIT)
        if fault := self.faults.get(number):
            raise fault
        return super().append(entries)

    def release(self, commits: int = 100) -> None:
        self.gate.release(commits)


def begin(writer: JournalWriter, journal: FaultyJournal) -> "Future[list[int]]":
    """Submits one entry and returns while its commit is under way."""
    first = writer.submit([entry(0)])
    assert journal.entered.acquire(timeout=WAIT)
    return first


def test_every_journal_through_a_writer(journal: Journal) -> None:
    writer = JournalWriter(journal)
    futures = [writer.submit([entry(i), entry(i)]) for i in range(50)]
    expected = [[2 * i + 1, 2 * i + 2] for i in range(50)]
    assert [future.result(WAIT) for future in futures] == expected
    assert writer.submit([]).result(WAIT) == []
    writer.close()
    assert [r.at for r in journal.records(RUN)] == [float(i // 2) for i in range(100)]


def test_what_waits_is_committed_together_in_order() -> None:
    journal = FaultyJournal()
    writer = JournalWriter(journal)
    begin(writer, journal)
    futures = [writer.submit([entry(i)]) for i in range(1, 31)]
    journal.release()
    assert [f.result(WAIT) for f in futures] == [[i + 1] for i in range(1, 31)]
    assert journal.groups == [1, 30]
    writer.close()


def test_groups_are_bounded() -> None:
    journal = FaultyJournal()
    writer = JournalWriter(journal, group=8)
    begin(writer, journal)
    futures = [writer.submit([entry(i)]) for i in range(20)]
    journal.release()
    for future in futures:
        future.result(WAIT)
    assert journal.groups == [1, 8, 8, 4]
    writer.close()


@pytest.mark.parametrize("fault", [JournalUnavailable("disk full"), OSError("gone"), KeyError("?")])
def test_a_failing_commit_fails_its_group_alone(fault: Exception) -> None:
    journal = FaultyJournal()
    journal.faults[1] = fault
    writer = JournalWriter(journal, group=3)
    before = begin(writer, journal)
    failing = [writer.submit([entry(i)]) for i in range(3)]
    after = [writer.submit([entry(i)]) for i in range(3, 5)]
    journal.release()
    assert before.result(WAIT) == [1]
    for future in failing:
        with pytest.raises(JournalUnavailable):
            future.result(WAIT)
    assert [f.result(WAIT) for f in after] == [[2], [3]]
    assert writer.submit([entry(9)]).result(WAIT) == [4]
    writer.close()


def test_an_impossible_entry_costs_only_its_own_submission() -> None:
    journal = FaultyJournal()
    writer = JournalWriter(journal)
    begin(writer, journal)
    good = writer.submit([entry(1)])
    bad = writer.submit([entry(2), (RUN, float("nan"), SessionLost("x"))])
    other = writer.submit([entry(3)])
    journal.release()
    assert good.result(WAIT) == [2]
    assert other.result(WAIT) == [3]
    with pytest.raises(JournalEntryError):
        bad.result(WAIT)
    assert [r.at for r in journal.records(RUN)] == [0.0, 1.0, 3.0]
    writer.close()


def test_a_checkpoint_is_saved_when_what_was_submitted_before_it_is_written(
    journal: Journal,
) -> None:
    writer = JournalWriter(journal)
    futures = [
        (writer.submit([entry(i)]), writer.save_checkpoint(RUN, i, f"{i}")) for i in range(1, 40)
    ]
    for number, (written, saved) in enumerate(futures, 1):
        assert written.result(WAIT) == [number]
        assert saved.result(WAIT) is None
    writer.close()
    assert journal.checkpoint(RUN) == Checkpoint(39, 39.0, "39")


def test_a_call_has_its_turn_between_two_transactions() -> None:
    journal = FaultyJournal()
    writer = JournalWriter(journal)
    begin(writer, journal)
    before = [writer.submit([entry(i)]) for i in range(3)]
    groups = writer.call(lambda: list(journal.groups))
    after = [writer.submit([entry(i)]) for i in range(2)]
    journal.release()
    assert groups.result(WAIT) == [1, 3]
    assert [f.result(WAIT) for f in (*before, *after)] == [[2], [3], [4], [5], [6]]
    assert journal.groups == [1, 3, 2]
    writer.close()


def test_a_failing_call_costs_nothing_else() -> None:
    journal = FaultyJournal()
    writer = JournalWriter(journal)
    journal.release()
    early = writer.save_checkpoint(RUN, 1, "of a record that is not there")
    broken = writer.call(lambda: 1 // 0)
    written = writer.submit([entry(1)])
    with pytest.raises(JournalEntryError, match="no record 1"):
        early.result(WAIT)
    with pytest.raises(JournalUnavailable, match="ZeroDivisionError"):
        broken.result(WAIT)
    assert written.result(WAIT) == [1]
    writer.close()
    with pytest.raises(JournalUnavailable, match="closed"):
        writer.save_checkpoint(RUN, 1, "state")


def test_a_submission_cannot_be_taken_back() -> None:
    journal = FaultyJournal()
    writer = JournalWriter(journal)
    begin(writer, journal)
    future = writer.submit([entry(1)])
    assert not future.cancel()
    journal.release()
    assert future.result(WAIT) == [2]
    writer.close()


def test_close_drains() -> None:
    journal = FaultyJournal()
    writer = JournalWriter(journal, group=2)
    begin(writer, journal)
    futures = [writer.submit([entry(i)]) for i in range(7)]
    journal.release()
    writer.close()
    assert all(future.done() for future in futures)
    assert sum(1 for _ in journal.records(RUN)) == 8
    writer.close()
    with pytest.raises(JournalUnavailable, match="closed"):
        writer.submit([entry(1)])


def test_callers_may_change_their_list() -> None:
    journal = FaultyJournal()
    writer = JournalWriter(journal)
    begin(writer, journal)
    entries = [entry(1)]
    future = writer.submit(entries)
    entries.clear()
    journal.release()
    assert future.result(WAIT) == [2]
    writer.close()


def test_an_empty_group_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        JournalWriter(MemoryJournal(), group=0)


def test_a_loop_appends_and_hears_of_failures(journal: Journal) -> None:
    writer = JournalWriter(journal)

    async def appends() -> list[list[int] | BaseException]:
        bad: Entry = (RUN, float("nan"), SessionLost("x"))
        return await asyncio.gather(
            *(writer.append([entry(i), entry(i)]) for i in range(20)),
            writer.append([bad]),
            return_exceptions=True,
        )

    *numbers, failure = asyncio.run(appends())
    assert numbers == [[2 * i + 1, 2 * i + 2] for i in range(20)]
    assert isinstance(failure, JournalEntryError)
    writer.close()


def test_a_loop_that_waits_no_more_hinders_nobody() -> None:
    journal = FaultyJournal()
    writer = JournalWriter(journal)

    async def cut_off() -> None:
        task = asyncio.create_task(writer.append([entry(1)]))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])

    begin(writer, journal)
    asyncio.run(cut_off())  # its loop is closed by the time of the commit
    after = writer.submit([entry(2)])
    journal.release()
    assert after.result(WAIT) == [3]
    assert [r.at for r in journal.records(RUN)] == [0.0, 1.0, 2.0]
    writer.close()
