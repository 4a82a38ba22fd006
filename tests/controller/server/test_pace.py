"""How often trainers are asked to flush, by how busy the daemon is."""

import asyncio
import time

from hypothesis import given
from hypothesis import strategies as st

from lrpilot_controller.server.pace import MOST_MS, UTMOST_MS, FlushPace


def crowded(sessions: int = 1000) -> FlushPace:
    """That of a daemon with so many sessions."""
    pace = FlushPace()
    pace.sessions = sessions
    return pace


def opened(pace: FlushPace, sessions: int) -> None:
    """One opens, the last of so many."""
    pace.sessions = sessions
    pace.opened()


def after(pace: FlushPace, ticks: int, busy: float, late_s: float = 0.0) -> int:
    """What it asks for after so many ticks alike."""
    for _ in range(ticks):
        pace.tick(busy, late_s)
    return pace.flush_ms


def test_a_daemon_with_time_asks_for_nothing() -> None:
    assert after(crowded(), 100, busy=0.5) == 0


def test_a_busy_one_asks_for_more_and_more_up_to_the_most_and_then_less_again() -> None:
    pace = crowded()
    first = after(pace, 3, busy=0.9)
    assert 250 < first < after(pace, 3, busy=0.9) < MOST_MS
    assert after(pace, 50, busy=0.9) == MOST_MS
    assert after(pace, 50, busy=0.65) == MOST_MS  # neither too much nor too little
    assert 0 < after(pace, 10, busy=0.3) < MOST_MS
    assert after(pace, 100, busy=0.3) == 0


def test_one_busy_moment_is_no_load() -> None:
    pace = crowded()
    pace.tick(1.0, 0.05)
    assert after(pace, 1, busy=0.2) == 0


def test_nobody_is_asked_for_less_than_what_is_no_load_anyway() -> None:
    """A daemon that starts, or on a busy host, is busy by itself; its few jobs are not to wait."""
    assert after(crowded(1), 50, busy=1.0) == after(crowded(25), 50, busy=1.0) == 0
    assert 250 < after(crowded(50), 50, busy=1.0) <= 500
    pace = crowded(300)
    assert after(pace, 50, busy=1.0) == 3000
    pace.sessions = 1
    assert pace.flush_ms == 0


def test_a_loop_that_comes_late_is_busy_whoever_has_the_core() -> None:
    assert after(crowded(), 10, busy=0.3, late_s=0.5) > 0


def test_far_too_much_is_answered_in_larger_steps() -> None:
    assert after(crowded(), 5, busy=1.0) > after(crowded(), 5, busy=0.8) > 0


def test_only_far_too_much_is_asked_to_wait_longest_and_for_as_long_as_it_is_busy() -> None:
    pace = crowded()
    assert after(pace, 50, busy=0.85) == MOST_MS
    assert after(pace, 10, busy=1.0) == UTMOST_MS
    assert after(pace, 50, busy=0.85) == UTMOST_MS
    assert after(pace, 20, busy=0.3) < MOST_MS


def test_a_storm_of_openings_is_answered_before_it_is_a_load() -> None:
    pace = crowded()
    for sessions in range(1, 301):
        opened(pace, sessions)
    assert 700 <= pace.flush_ms < MOST_MS
    for sessions in range(301, 2001):
        opened(pace, sessions)
    assert pace.flush_ms == MOST_MS
    assert after(pace, 100, busy=0.3) == 0  # they had little to say


def test_a_few_sessions_at_once_are_no_storm_nor_are_many_one_after_the_other() -> None:
    few, slowly = FlushPace(), FlushPace()
    for sessions in range(1, 51):
        opened(few, sessions)
    for sessions in range(1, 1001):
        opened(slowly, sessions)
        after(slowly, 4, busy=0.3)
    assert few.flush_ms == slowly.flush_ms == 0


@given(st.lists(st.tuples(st.floats(0, 8), st.floats(0, 60)), max_size=200))
def test_it_never_asks_for_less_than_is_worth_it_or_for_more_than_the_most(
    ticks: list[tuple[float, float]],
) -> None:
    pace = crowded()
    for busy, late_s in ticks:
        pace.tick(busy, late_s)
        assert pace.flush_ms == 0 or 250 < pace.flush_ms <= UTMOST_MS


async def _under_load() -> int:
    pace = crowded()
    keeping = asyncio.create_task(pace.keep())
    deadline = time.monotonic() + 30
    while not pace.flush_ms and time.monotonic() < deadline:
        time.sleep(0.4)  # a loop that something holds up
        await asyncio.sleep(0)
    keeping.cancel()
    return pace.flush_ms


def test_it_notices_by_itself() -> None:
    assert asyncio.run(_under_load()) > 0
