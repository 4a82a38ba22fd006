"""What is allowed to whom: counted per identity and in all, and refused with the limit's name."""

import asyncio
import logging
import os
from contextlib import ExitStack
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from lrpilot_controller.config import load_config
from lrpilot_controller.core.events import SessionLost
from lrpilot_controller.errors import LimitReached
from lrpilot_controller.journal import MemoryJournal, RunKey
from lrpilot_controller.journal.sqlite import SqliteFile
from lrpilot_controller.server.identity import LOCAL, Identity, Role
from lrpilot_controller.server.intake import LOOK_S, RECOUNT_S, Intake, Room
from lrpilot_controller.server.limits import PATIENCE_S, Door, Meter, ServerLimits
from lrpilot_controller.server.seldom import GAP_S, Seldom

ANN = Identity("ann", Role.TRAINER)
BOB = Identity("bob", Role.TRAINER)


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def refused(name: str, value: int) -> Any:
    """A refusal that names the limit and its value, and says what to do."""
    return pytest.raises(LimitReached, match=rf"the limit is server\.{name} = {value}: \w+")


def test_the_section_of_the_file_sets_each_limit(tmp_path: Path) -> None:
    file = tmp_path / "lrpilot.toml"
    named = {field.name: 7 + i for i, field in enumerate(fields(ServerLimits))}
    file.write_text("[server]\n" + "".join(f"{name} = {at}\n" for name, at in named.items()))
    assert load_config(file).server == ServerLimits(**named)
    assert load_config(None).server == ServerLimits()


# -- sessions and calls


def test_an_identity_has_so_many_sessions_and_another_one_its_own(clock: Clock) -> None:
    door = Door(ServerLimits(max_sessions_per_identity=3), clock)
    with ExitStack() as open_:
        for _ in range(3):
            open_.enter_context(door.session(ANN))
        with refused("max_sessions_per_identity", 3), door.session(ANN):
            pass
        with door.session(BOB):
            pass
    with door.session(ANN):  # those that ended count no more
        pass


def test_all_together_have_so_many_sessions(clock: Clock) -> None:
    door = Door(ServerLimits(max_sessions=2), clock)
    with door.session(ANN), door.session(LOCAL):
        for who in (BOB, LOCAL):
            with refused("max_sessions", 2), door.session(who):
                pass


def test_every_job_of_the_owner_may_come_back_at_once(clock: Clock) -> None:
    """After a restart of the daemon, and once more a minute later."""
    door = Door(ServerLimits(max_sessions=1000), clock)
    for _ in range(2):
        with ExitStack() as open_:
            for _ in range(1000):
                open_.enter_context(door.session(LOCAL))
        clock.now += 60


def test_a_loop_that_opens_sessions_is_refused_and_told_when(clock: Clock) -> None:
    door = Door(ServerLimits(new_sessions_per_minute=60, max_sessions_per_identity=10), clock)

    for some in (60, 10):
        for _ in range(some):
            with door.session(ANN):
                pass
        with (
            pytest.raises(LimitReached, match=r"new_sessions_per_minute = 60: try again in 1 s"),
            door.session(ANN),
        ):
            pass
        clock.now += 10
    with door.session(BOB):
        pass


def test_operators_may_call_so_often(clock: Clock) -> None:
    door = Door(ServerLimits(operator_calls_per_second=2), clock)
    for _ in range(20):
        door.call(ANN)
    with refused("operator_calls_per_second", 2):
        door.call(ANN)
    door.call(BOB)
    clock.now += 1
    door.call(ANN)


# -- samples


def meter(clock: Clock, **limits: int) -> Meter:
    with Door(ServerLimits(**limits), clock).session(ANN) as made:
        return made


def test_five_thousand_steps_per_second_are_never_held_back(clock: Clock) -> None:
    one = meter(clock)
    for _ in range(100_000):
        clock.now += 0.02
        assert one.charge(100) == 0.0


def test_what_an_outage_left_may_be_sent_at_once(clock: Clock) -> None:
    one = meter(clock)
    assert [one.charge(4096) for _ in range(200_000 // 4096)] == [0.0] * 48


def test_a_session_that_is_too_fast_is_held_to_the_rate_then_refused(clock: Clock) -> None:
    one, begin, sent = meter(clock, samples_per_second=1000), clock.now, 0
    with refused("samples_per_second", 1000):
        while True:
            pause = one.charge(1000)
            sent += 1000
            clock.now += pause
    took = clock.now - begin
    assert took >= PATIENCE_S
    assert sent <= 1000 * (took + 10) + 1000


def test_a_pause_forgives_a_session_that_was_held_back(clock: Clock) -> None:
    one = meter(clock, samples_per_second=1000)
    for _ in range(20):
        one.charge(11_000)
        clock.now += 20.0
        assert one.charge(50) == 0.0


def test_small_messages_count_too(clock: Clock) -> None:
    one = meter(clock, samples_per_second=1000)
    paused = [one.charge(1) > 0 for _ in range(300)]
    assert paused.index(True) == 200


def test_one_identity_s_sessions_share_a_rate(clock: Clock) -> None:
    door = Door(ServerLimits(samples_per_second_per_identity=1000), clock)
    with door.session(ANN) as one, door.session(ANN) as two, door.session(BOB) as other:
        assert one.charge(9000) == 0.0
        assert two.charge(9000) > 0.0
        assert other.charge(9000) == 0.0
    with door.session(LOCAL) as one, door.session(LOCAL) as two:
        assert one.charge(9000) == two.charge(9000) == 0.0


# -- runs, attempts, disk


def journal_of(*runs: RunKey) -> MemoryJournal:
    journal = MemoryJournal()
    for run in runs:
        journal.append([(run, 0.0, SessionLost("a"))])
    return journal


def test_so_many_runs_of_a_project_and_in_all(clock: Clock) -> None:
    journal = journal_of(RunKey("p", "1"), RunKey("p", "2"), RunKey("q", "1"))
    limits = ServerLimits(max_runs=4, max_runs_per_project=3)

    async def story() -> None:
        intake = Intake(journal, limits, clock=clock)
        await intake.run(RunKey("p", "3"))
        with refused("max_runs_per_project", 3):
            await intake.run(RunKey("p", "4"))
        with refused("max_runs", 4):
            await intake.run(RunKey("r", "1"))
        for known in (RunKey("p", "3"), RunKey("p", "1"), RunKey("q", "1")):
            await intake.run(known)

    asyncio.run(story())


def test_runs_that_were_removed_make_room(clock: Clock) -> None:
    there = [RunKey("p", "1")]

    class Pruned(MemoryJournal):
        def runs(self) -> list[RunKey]:
            return there

    async def story() -> None:
        intake = Intake(Pruned(), ServerLimits(max_runs=1), clock=clock)
        with refused("max_runs", 1):
            await intake.run(RunKey("p", "2"))
        there.clear()
        clock.now += RECOUNT_S
        await intake.run(RunKey("p", "2"))

    asyncio.run(story())


def test_so_many_attempts_of_a_run() -> None:
    intake = Intake(journal_of(), ServerLimits(max_attempts_per_run=3))
    intake.attempt(RunKey("p", "1"), 2)
    with refused("max_attempts_per_run", 3):
        intake.attempt(RunKey("p", "1"), 3)


def test_a_large_journal_takes_no_new_run_then_nothing(
    tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    journal, log = tmp_path / "journal.db", tmp_path / "journal.db-wal"
    room = Room(SqliteFile(journal), ServerLimits(max_journal_mib=10, min_free_mib=0), clock)

    def size(mib: float) -> None:
        for file in (journal, log):
            file.touch()
            os.truncate(file, int(mib * (1 << 19)))
        clock.now += LOOK_S

    for mib, new_runs, running in ((9, 1, 1), (10.5, 0, 1), (11.5, 0, 0), (10.5, 0, 1), (2, 1, 1)):
        size(mib)
        for allowed, new in ((new_runs, True), (running, False)):
            for _ in range(3):
                if allowed:
                    room.check(new=new)
                else:
                    with refused("max_journal_mib", 10):
                        room.check(new=new)
    told = [record.getMessage() for record in caplog.records]
    assert [text.split(":")[0] for text in told] == [
        "no new run is taken, those under way go on",
        "nothing is recorded any more, training goes on",
        "no new run is taken, those under way go on",
        "there is room in the journal again",
    ]


def test_a_full_disk_is_noticed_before_it_is_full(tmp_path: Path) -> None:
    """More than any disk has."""
    huge = 10**9
    with refused("min_free_mib", huge):
        Room(SqliteFile(tmp_path / "journal.db"), ServerLimits(min_free_mib=huge)).check(new=False)
    Room(SqliteFile(tmp_path / "journal.db"), ServerLimits(min_free_mib=0)).check(new=True)


def test_a_storage_that_was_removed_takes_nothing_until_it_is_back(
    tmp_path: Path, clock: Clock
) -> None:
    folder = tmp_path / "store"
    folder.mkdir()
    room = Room(SqliteFile(folder / "journal.db"), ServerLimits(min_free_mib=0), clock)
    room.check(new=True)
    folder.rmdir()
    clock.now += LOOK_S
    with pytest.raises(LimitReached, match="cannot be looked at"):
        room.check(new=False)
    folder.mkdir()
    clock.now += LOOK_S
    room.check(new=True)


# -- the log


def test_a_peer_cannot_fill_the_log(caplog: pytest.LogCaptureFixture, clock: Clock) -> None:
    caplog.set_level(logging.INFO)
    seldom = Seldom(logging.getLogger("refusals"), clock)
    for i in range(1000):
        seldom.info("ann", f"refused {i}")
    seldom.info("bob", "refused too")
    clock.now += GAP_S
    seldom.info("ann", "refused again")
    assert caplog.messages == [
        "refused 0",
        "refused too",
        "refused again (999 more like this since the last time)",
    ]
