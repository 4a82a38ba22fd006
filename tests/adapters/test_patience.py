"""How long training may wait at program boundaries."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrpilot.patience import EACH_S, IN_ALL_S, SHARE, Patience


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def wait_in_vain(clock: Clock, patience: Patience) -> float:
    def wait(seconds: float) -> bool:
        clock.now += seconds
        return False

    return patience.wait(wait, patience.allowance())[1]


def test_each_wait_is_short_and_all_of_them_are_bounded() -> None:
    clock = Clock()
    patience = Patience(clock)
    waits = [wait_in_vain(clock, patience) for _ in range(50)]
    assert waits[0] == pytest.approx(EACH_S)
    assert sum(waits) <= IN_ALL_S + SHARE * (clock.now - 100.0) + 1e-9
    assert waits[-1] < 0.001


def test_a_longer_run_may_wait_longer() -> None:
    clock = Clock()
    patience = Patience(clock)
    while wait_in_vain(clock, patience) > 0.001:
        pass
    clock.now += 10.0
    assert patience.allowance() == pytest.approx(0.1, abs=0.001)
    clock.now += 1000.0
    assert patience.allowance() == EACH_S


def test_what_costs_no_step_is_counted_but_not_charged() -> None:
    clock = Clock()
    patience = Patience(clock)

    def wait(seconds: float) -> bool:
        clock.now += 9.0
        return True

    assert patience.wait(wait, 10.0, charged=False) == (True, 9.0)
    assert patience.seconds == 9.0
    assert patience.allowance() == EACH_S


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 0.3)), max_size=100))
def test_the_budget_is_never_passed_by_more_than_one_wait(
    events: list[tuple[float, float]],
) -> None:
    clock = Clock()
    patience = Patience(clock)
    for trained, took in events:
        clock.now += trained
        allowed = patience.allowance()
        assert 0 <= allowed <= EACH_S

        def wait(seconds: float, took: float = took) -> bool:
            clock.now += took
            return True

        if allowed > 0:
            patience.wait(wait, allowed)
        assert patience.seconds <= IN_ALL_S + SHARE * (clock.now - 100.0) + 0.3 + 1e-9
