"""A session in which a message is missing ends, and never for what was rightly let go of."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrpilot_controller.core.events import Noticed
from lrpilot_controller.core.telemetry import Samples
from lrpilot_controller.errors import OutOfOrder
from lrpilot_controller.server.order import Order


def samples(first: int, count: int = 1, dropped: int = 0) -> Samples:
    columns = (False,) * count, (0,) * count, (0,) * count, (0,) * count, (1.0,) * count
    return Samples("a", first, *columns, ((0.1,),), dropped)


def notice(seq: int) -> Noticed:
    return Noticed("a", seq, "x", 0, "")


def test_samples_in_order_and_again() -> None:
    order = Order(5, 1)
    for first in (5, 6, 1, 5, 7):
        order.check(samples(first))
    order.check(samples(4, 10))
    order.check(samples(14))


def test_samples_before_which_some_are_missing() -> None:
    order = Order(5, 1)
    order.check(samples(5, 5))
    with pytest.raises(OutOfOrder, match="item 11 on came, but items from 10 on are missing"):
        order.check(samples(11))
    order.check(samples(10, 2))


def test_reports_before_which_one_is_missing() -> None:
    order = Order(1, 3)
    for seq in (3, 1, 4):
        order.check(notice(seq))
    with pytest.raises(OutOfOrder, match="report 6 came, but report 5 is missing"):
        order.check(notice(6))
    order.check(notice(5))


def test_an_older_trainer_does_not_say_where_its_reports_begin() -> None:
    order = Order(1, None)
    order.check(notice(7))


@given(
    kept=st.lists(st.booleans(), min_size=1, max_size=60),
    resent=st.integers(0, 59),
)
def test_a_trainer_that_drops_what_it_has_no_room_for_is_never_refused(
    kept: list[bool], resent: int
) -> None:
    """Also where it sends again, with a count of what it dropped later."""
    total = kept.count(False)
    for start, dropped in ((0, None), (min(resent, len(kept) - 1), total)):
        order = Order(start + 1, None)
        for k in range(start, len(kept)):
            if kept[k]:
                so_far = kept[:k].count(False) if dropped is None else dropped
                order.check(replace(samples(k + 1), dropped=so_far))
