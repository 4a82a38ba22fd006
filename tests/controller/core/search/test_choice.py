"""Which candidate wins, what its neighbours make of it, and how far below the edge it stays."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrpilot_controller.core.search.choice import below_edge, choose, rescue, vertex
from lrpilot_controller.core.search.job import Family
from lrpilot_controller.core.search.reference import Reference
from lrpilot_controller.core.search.standings import Standings

PLAIN, NORMALIZED = Family.PLAIN, Family.NORMALIZED
REFERENCE = Reference((9.9, 10.1) * 3, level=10.0, noise=0.1)


def standings(
    scores: dict[float, float],
    *,
    whole: bool = True,
    replay: bool = True,
    long: bool = False,
    spread: float = 0.0,
) -> Standings:
    """Candidates that all ran; the losses of each are `spread` around its score."""
    made = Standings(REFERENCE, replay, long)
    made.scores.update(scores)
    for x, score in scores.items():
        if whole and score < math.inf:
            made.halfway[x] = score
            made.tails[x] = tuple(score + spread * (-1) ** i for i in range(6))
    return made


def test_without_a_candidate_nothing_wins() -> None:
    for family in Family:
        assert choose(standings({}), family) is None
        assert choose(standings({0.0: math.inf, -0.5: math.inf}), family) is None
        assert choose(standings({0.0: 5.0}, whole=False), family) is None


def test_the_lowest_score_wins() -> None:
    for family in Family:
        assert choose(standings({-1.0: 9.0, -0.5: 5.0, 0.0: 7.0}), family) == -0.5


def test_a_candidate_that_was_given_up_half_way_does_not_win() -> None:
    tried = standings({0.0: 5.0, -0.5: 6.0})
    tried.scores[-1.0] = 1.0  # an estimate
    assert choose(tried, PLAIN) == 0.0


def test_of_those_that_tie_the_lowest_wins_for_normalized_optimizers_only() -> None:
    tied = {-1.0: 5.3, -0.5: 5.1, 0.0: 5.0}  # a fall of 5: within 3 % lies 5.15
    assert choose(standings(tied), PLAIN) == 0.0
    assert choose(standings(tied), NORMALIZED) == -0.5


def test_without_clear_progress_more_counts_as_a_tie() -> None:
    tied = {-1.0: 6.9, -0.5: 5.1, 0.0: 5.0}
    assert choose(standings(tied, long=True), NORMALIZED) == -1.0
    assert choose(standings(tied, long=True), PLAIN) == 0.0


def test_on_fresh_batches_what_noise_explains_is_a_tie() -> None:
    tied = {-0.5: 5.4, 0.0: 5.0}
    assert choose(standings(tied, spread=1.0), NORMALIZED) == 0.0
    assert choose(standings(tied, spread=1.0, replay=False), NORMALIZED) == -0.5


scores = st.dictionaries(
    st.integers(-12, 12).map(lambda n: n / 4),
    st.floats(-1e3, 1e3) | st.just(math.inf),
    min_size=1,
    max_size=7,
)


@given(scores, st.sampled_from(list(Family)), st.booleans(), st.booleans())
def test_whatever_wins_was_healthy(
    tried: dict[float, float], family: Family, long: bool, replay: bool
) -> None:
    made = standings(tried, long=long, replay=replay)
    winner = choose(made, family)
    if all(score == math.inf for score in tried.values()):
        assert winner is None
        return
    assert winner is not None
    assert tried[winner] < math.inf
    if family is PLAIN:
        assert tried[winner] == min(tried.values())


# -- between the neighbours


def test_the_vertex_of_a_parabola_is_found_exactly() -> None:
    for at in (-0.2, 0.0, 0.1, 0.24):
        tried = standings({x: 5 + (x - at) ** 2 for x in (-0.5, 0.0, 0.5)})
        assert vertex(tried, 0.0) == pytest.approx(at)


def test_without_neighbours_on_both_sides_it_is_the_winner() -> None:
    tried = standings({-0.5: 6.0, 0.0: 5.0, 0.5: 7.0})
    assert vertex(tried, -0.5) == -0.5
    assert vertex(tried, 0.5) == 0.5
    assert vertex(standings({0.0: 5.0}), 0.0) == 0.0


@given(scores)
def test_it_is_at_most_half_way_to_either_neighbour(tried: dict[float, float]) -> None:
    made = standings(tried)
    winner = choose(made, PLAIN)
    if winner is None:
        return
    at = vertex(made, winner)
    below = [x for x in tried if x < winner]
    above = [x for x in tried if x > winner]
    if not below or not above:
        assert at == winner
    else:
        assert (winner + max(below)) / 2 <= at <= (winner + min(above)) / 2


def test_a_far_worse_neighbour_counts_as_a_bad_one() -> None:
    """One that exploded says no more than one that gained half as much."""
    bad = vertex(standings({-0.5: 5.5, 0.0: 5.0, 0.5: 7.5}), 0.0)
    for worse in (1e9, math.inf):
        assert vertex(standings({-0.5: 5.5, 0.0: 5.0, 0.5: worse}), 0.0) == pytest.approx(bad)
    assert bad < 0


def test_equal_neighbours_leave_it_where_it_is() -> None:
    assert vertex(standings({-0.5: 5.0, 0.0: 5.0, 0.5: 5.0}), 0.0) == 0.0


# -- below the edge


def test_an_lr_stays_a_factor_below_the_lowest_that_diverged() -> None:
    tried = standings({-1.0: 6.0, 0.0: 5.0, 0.5: math.inf, 1.0: math.inf})
    assert below_edge(tried, 3.0) == pytest.approx(10**0.5 / 5)
    assert below_edge(tried, 0.01) == 0.01


def test_where_nothing_diverged_there_is_no_edge() -> None:
    assert below_edge(standings({0.0: 5.0}), 1e9) == 1e9


def test_a_base_that_is_absurd_against_the_edge_of_divergence_is_replaced() -> None:
    assert rescue(1e-4, edge=3.0) == pytest.approx(0.1)
    assert rescue(2.0, edge=3.0) == pytest.approx(0.1)


@pytest.mark.parametrize("base", [0.01, 0.1, 1.0])
def test_any_other_base_is_the_users_business(base: float) -> None:
    assert rescue(base, edge=3.0) is None
