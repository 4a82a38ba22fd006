"""When a pilot takes snapshots, and which of its two slots holds which."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrpilot.snapshots import LONGEST, SHORTEST, SnapshotKeeper


class Bench:
    """A keeper, with a clock that copying moves."""

    def __init__(self, total_steps: int | None = None, cost: float = 0.0) -> None:
        self.now = 0.0
        self.cost = cost
        self.copied: list[int] = []
        self.keeper = SnapshotKeeper(self.copy, total_steps, lambda: self.now)

    def copy(self, slot: int) -> None:
        self.now += self.cost
        self.copied.append(slot)

    def train(self, steps: int, until: int, seconds: float) -> int:
        """Steps of so many seconds, with every snapshot proven at once; how many were taken."""
        taken = self.keeper.taken
        for step in range(steps, until):
            self.now += seconds
            if step >= self.keeper.next_step and (made := self.keeper.take(step)):
                self.keeper.prove(made[0], step)
        return self.keeper.taken - taken


def test_the_start_state_is_proven_by_definition() -> None:
    bench = Bench()
    assert bench.keeper.next_step == 0
    assert bench.keeper.take(0) == (1, True)
    assert bench.copied == [0]
    assert bench.keeper.slot_of(1) == 0
    assert bench.keeper.taken == 1


def test_the_next_one_waits_for_its_proof_in_the_other_slot() -> None:
    bench = Bench()
    bench.keeper.take(0)
    assert bench.keeper.take(100) == (2, False)
    assert bench.keeper.take(200) is None  # one at a time
    assert bench.keeper.next_step == math.inf  # and no more questions until the daemon has spoken
    assert (bench.keeper.slot_of(1), bench.keeper.slot_of(2)) == (0, 1)
    bench.keeper.prove(2, 250)
    assert bench.keeper.next_step == 250
    assert bench.keeper.take(250) == (3, False)
    assert bench.copied == [0, 1, 0]
    assert (bench.keeper.slot_of(1), bench.keeper.slot_of(2)) == (None, 1)


def test_a_proof_that_comes_before_the_next_is_due_changes_no_date() -> None:
    bench = Bench()
    bench.keeper.take(0)
    bench.keeper.take(100)
    due = bench.keeper.next_step
    bench.keeper.prove(2, 120)
    assert bench.keeper.next_step == due == 200


@pytest.mark.parametrize("number", [0, 1, 3, 99])
def test_a_proof_of_another_snapshot_proves_nothing(number: int) -> None:
    bench = Bench()
    bench.keeper.take(0)
    bench.keeper.take(100)
    bench.keeper.prove(number, 150)
    assert bench.keeper.take(200) is None


def test_after_a_rollback_the_proven_one_is_still_held() -> None:
    bench = Bench()
    bench.keeper.take(0)
    bench.keeper.take(100)
    bench.keeper.rolled_back(150)
    assert (bench.keeper.slot_of(1), bench.keeper.slot_of(2)) == (0, None)
    assert bench.keeper.next_step == 250
    bench.keeper.prove(2, 160)  # the daemon's word crossed the rollback
    assert bench.keeper.take(250) == (3, False)
    assert bench.copied == [0, 1, 1]
    assert bench.keeper.slot_of(1) == 0


@pytest.mark.parametrize(
    ("total", "interval"),
    [(None, 100), (1000, 40), (100, SHORTEST), (1, SHORTEST), (10**7, LONGEST)],
)
def test_the_interval_follows_the_horizon(total: int | None, interval: int) -> None:
    bench = Bench(total)
    bench.keeper.take(0)
    assert bench.keeper.next_step == interval


def test_copying_stays_within_its_share_of_the_time() -> None:
    bench = Bench(cost=0.5)  # fifty steps' worth
    bench.keeper.take(0)
    bench.train(0, 100_000, 0.01)
    assert bench.keeper.taken > 10
    assert bench.keeper.seconds <= 0.012 * bench.now
    assert bench.keeper.seconds == pytest.approx(0.5 * bench.keeper.taken)


def test_a_cheap_copy_is_made_as_often_as_is_useful() -> None:
    bench = Bench(1000, cost=1e-6)
    bench.keeper.take(0)
    assert bench.train(0, 1000, 0.01) == 24


def test_a_clock_that_stands_still_is_no_harm() -> None:
    bench = Bench(1000)
    bench.keeper.take(0)
    assert bench.train(0, 1000, 0.0) == 24


def test_a_kept_one_takes_the_place_of_what_waits_and_stays_over_a_rollback() -> None:
    bench = Bench()
    bench.keeper.take(0)
    bench.keeper.take(100)
    assert bench.keeper.held(after_keep=False) == {1, 2}
    assert bench.keeper.held(after_keep=True) == {1, 3}
    assert bench.keeper.keep(0) == 3
    bench.keeper.rolled_back(120)
    assert (bench.keeper.slot_of(1), bench.keeper.slot_of(2), bench.keeper.slot_of(3)) == (
        0,
        None,
        1,
    )
    bench.keeper.prove(2, 130)  # crossed on its way: it is gone
    bench.keeper.prove(3, 130)
    assert bench.keeper.keep(0) == 4
    assert bench.keeper.held(after_keep=False) == {3, 4}


def test_a_kept_one_gives_way_to_the_next_by_the_interval() -> None:
    bench = Bench()
    bench.keeper.take(0)
    bench.keeper.keep(0)
    assert bench.keeper.take(100) == (3, False)
    bench.keeper.prove(2, 110)
    assert bench.keeper.held(after_keep=False) == {1, 3}


def test_while_paused_none_is_due() -> None:
    bench = Bench()
    bench.keeper.take(0)
    bench.keeper.take(100)
    bench.keeper.pause()
    bench.keeper.prove(2, 120)
    bench.keeper.rolled_back(130)
    assert bench.keeper.next_step == math.inf
    bench.keeper.resume(140)
    assert bench.keeper.next_step == 240
    bench.keeper.resume(500)  # nothing was paused
    assert bench.keeper.next_step == 240


def test_what_was_given_up_stays_so() -> None:
    bench = Bench()
    bench.keeper.pause()
    bench.keeper.give_up()
    bench.keeper.resume(10)
    assert not bench.keeper.usable
    assert bench.keeper.next_step == math.inf


@given(
    st.lists(
        st.tuples(st.sampled_from(["take", "prove", "rollback", "keep"]), st.integers(0, 50)),
        max_size=60,
    )
)
def test_a_proven_snapshot_is_only_ever_replaced_by_a_proven_one(
    events: list[tuple[str, int]],
) -> None:
    held: dict[int, int] = {}  # what each slot really holds
    keeper = SnapshotKeeper(lambda slot: held.update({slot: keeper.taken + 1}), None, lambda: 0.0)
    keeper.take(0)
    proven, waiting = 1, 0
    for step, (event, number) in enumerate(events, 1):
        if event == "take" and (made := keeper.take(step)):
            assert made == (keeper.taken, False)
            waiting = made[0]
        elif event == "keep":
            waiting = keeper.keep(0)
        elif event == "prove":
            keeper.prove(number, step)
            proven, waiting = (number, 0) if waiting and number == waiting else (proven, waiting)
        elif event == "rollback":
            kept = waiting and keeper.slot_of(waiting) is not None
            keeper.rolled_back(step)
            kept = kept and keeper.slot_of(waiting) is not None  # on the daemon's word
            waiting = waiting if kept else 0
        slot = keeper.slot_of(proven)
        assert slot is not None
        assert held[slot] == proven
