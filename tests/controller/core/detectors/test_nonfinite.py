"""One non-finite loss is noted, two in a row are a divergence, a streak speaks once."""

import math

import pytest

from lrpilot_controller.core.detectors import NonFiniteDetector

BAD = [math.nan, math.inf, -math.inf]


def heard(train: list[float | None], val: list[float | None] | None = None) -> list[tuple]:
    detector = NonFiniteDetector()
    return [
        (signal.kind, signal.step, signal.since, signal.severity, signal.evidence["count"])
        for step, loss in enumerate(train)
        for signal in detector.update(step, loss, val[step] if val else None, None)
    ]


@pytest.mark.parametrize("bad", BAD)
def test_one_alone_is_noted(bad: float) -> None:
    assert heard([1.0, bad, 1.0, 1.0]) == [("nonfinite", 1, 1, 0.3, 1)]


@pytest.mark.parametrize("bad", BAD)
def test_two_in_a_row_are_certain_and_a_divergence_at_the_same_step(bad: float) -> None:
    assert heard([1.0, bad, math.nan]) == [
        ("nonfinite", 1, 1, 0.3, 1),
        ("nonfinite", 2, 1, 1.0, 2),
        ("divergence", 2, 1, 1.0, 2),
    ]


def test_the_rest_of_a_streak_is_silent_until_a_finite_loss() -> None:
    first = heard([math.nan] * 50)
    assert len(first) == 3
    again = heard([math.nan] * 50 + [1.0] + [math.nan] * 50)
    assert again[3:] == [
        ("nonfinite", 51, 51, 0.3, 1),
        ("nonfinite", 52, 51, 1.0, 2),
        ("divergence", 52, 51, 1.0, 2),
    ]


def test_steps_without_a_report_do_not_end_a_streak() -> None:
    assert ("divergence", 3, 1, 1.0, 2) in heard([1.0, math.nan, None, math.nan])


def test_every_second_one_is_only_noted() -> None:
    assert {kind for kind, *_ in heard([1.0, math.nan] * 20)} == {"nonfinite"}


def test_huge_but_finite_is_not_its_business() -> None:
    assert heard([1e308, -1e308, 1e300]) == []


def test_a_validation_is_noted_but_never_a_divergence() -> None:
    found = heard([1.0] * 9, [None, math.nan, None, math.inf, math.nan, None, 2.0, None, math.nan])
    assert found == [
        ("nonfinite", 1, 1, 0.3, 1),
        ("nonfinite", 3, 1, 0.3, 2),
        ("nonfinite", 8, 8, 0.3, 1),
    ]
