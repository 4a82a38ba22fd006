"""What the detectors are worth on streams of all kinds: floors below which no change may fall.

The figures are in controller/README.md; `python -m tests.benchmarks.detection` prints them.
"""

import pytest

from benchmarks.detection import judge, too_high
from benchmarks.detection.too_high_streams import load
from lrpilot_controller.core.model import SignalKind

LOWER_ENDS = {"divergence": 0.85, "oscillation": 0.88, "plateau": 0.72, "spike": 0.65}


@pytest.fixture(scope="module")
def found() -> judge.Events:
    return judge.events(judge.corpus())


def test_the_lower_ends_of_f1(found: judge.Events) -> None:
    low = {verdict.kind: verdict.low for verdict in judge.verdicts(found)}
    assert {kind: low[kind] for kind, floor in LOWER_ENDS.items() if low[kind] < floor} == {}


def test_delays_and_false_alarms(found: judge.Events) -> None:
    seen = {verdict.kind: verdict for verdict in judge.verdicts(found)}
    assert seen["divergence"].false_alarms <= 0.02
    assert seen["divergence"].delay <= 2.5
    assert seen["plateau"].precision >= 0.75
    assert seen["plateau"].delay <= 0.3


@pytest.mark.parametrize("name", judge.MOVES)
def test_where_every_loss_is_moved_the_events_are_the_same(name: str, found: judge.Events) -> None:
    elsewhere = judge.events(judge.moved(judge.MOVES[name]))
    assert judge.same_share(found, elsewhere) >= 0.98
    pairs = zip(judge.verdicts(found), judge.verdicts(elsewhere), strict=True)
    assert all(abs(a.f1 - b.f1) <= 0.01 for a, b in pairs)


def test_a_rate_too_high_is_seen_and_a_right_one_is_not() -> None:
    runs = too_high.judge(load())

    def share(multiples: set[float], by: float) -> float:
        these = [run for run in runs if run.stream["multiple"] in multiples]
        return sum(run.signalled({SignalKind.TOO_HIGH}, by) for run in these) / len(these)

    assert share({30.0}, too_high.DEADLINE) >= 0.85
    assert share({10.0}, too_high.DEADLINE) >= 0.5
    assert share({0.3, 1.0}, float("inf")) <= 0.03
