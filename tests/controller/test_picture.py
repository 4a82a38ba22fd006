"""A run's picture: what is marked in it, how large it may be, and that Plotly takes it."""

import json
import math
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrpilot_controller.core.events import Event
from lrpilot_controller.journal.base import Record, RunKey
from lrpilot_controller.story import Story, tell
from lrpilot_controller.story.picture import RAW, Picture
from lrpilot_controller.story.trend import Trend
from support.searcher import Searcher
from support.streams import Quadratic, Trainer, events_of

RUN = RunKey("demo", "a<b>&c")


def story_of(events: Sequence[Event]) -> Story:
    return tell(RUN, (Record(n, 0.0, e) for n, e in enumerate(events, 1)), points=RAW)


def drawn(story: Story) -> tuple[dict[str, Any], dict[str, Any]]:
    """The traces by name, and the layout; Plotly itself has checked them."""
    figure = json.loads(Picture(story).to_json())
    go.Figure(data=figure["data"], layout=figure["layout"])
    return {trace["name"]: trace for trace in figure["data"]}, figure["layout"]


@pytest.fixture(scope="module")
def rescued() -> Story:
    """A run that blew up at once, was rolled back, and then went well."""
    run = Quadratic(edge=0.05)
    run.run(2500)
    run.goodbye()
    return story_of(events_of(run))


def test_loss_lr_signals_decisions_and_what_was_undone_are_marked(rescued: Story) -> None:
    traces, layout = drawn(rescued)
    assert {"loss", "undone or probed", "smoothed", "LR", "signal", "decision"} <= set(traces)
    assert traces["signal"]["x"] == [signal.step for signal in rescued.signals]
    applied = [told for told in rescued.decisions if told.applied_step is not None]
    assert set(traces["decision"]["x"]) <= {told.applied_step for told in applied}
    assert traces["LR"]["yaxis"] == "y2"
    assert layout["yaxis2"]["type"] == "log"
    assert traces["LR"]["y"][-1] == pytest.approx(rescued.lrs[0], rel=1e-4)
    bands = [s for s in layout["shapes"] if s["type"] == "rect"]
    assert [(band["x0"], band["x1"]) for band in bands] == list(rescued.undone)
    lines = [note["text"] for note in layout["annotations"]]
    assert any("rolled back, LR" in line for line in lines)


def test_a_blow_up_does_not_flatten_the_rest(rescued: Story) -> None:
    _, layout = drawn(rescued)
    kept = [p.loss for p in rescued.points if not p.left and math.isfinite(p.loss)]
    assert layout["yaxis"]["range"][1] < 2 * max(kept)


def test_the_programs_of_a_search_are_one_band() -> None:
    run = Searcher()
    run.search()
    run.go_on(40)
    _, layout = drawn(story_of(events_of(run)))
    bands = [s for s in layout["shapes"] if s.get("label", {}).get("text") == "search"]
    assert len(bands) == 1
    assert "search: found" in layout["annotations"][0]["text"]


def test_a_run_of_which_nothing_is_known_yet_is_drawn_and_its_name_is_no_markup() -> None:
    _, layout = drawn(story_of([]))
    assert "a&lt;b&gt;&amp;c" in layout["title"]["text"]


@given(
    losses=st.lists(st.floats(), min_size=1, max_size=400),
    repeat=st.integers(1, 20),
)
def test_it_has_500_points_at_most_and_is_strict_json(losses: list[float], repeat: int) -> None:
    trainer = Trainer()
    trainer.train(losses * repeat)
    story = story_of(events_of(trainer))
    text = Picture(story).to_json()
    figure = json.loads(text, parse_constant=pytest.fail)
    assert sum(len(trace["x"]) for trace in figure["data"]) <= 500
    assert len(text) < 60_000


@given(
    values=st.lists(st.floats(-1e3, 1e3), max_size=300),
    cut=st.integers(0, 300),
    limit=st.integers(2, 20),
)
def test_a_trend_is_the_means_of_stretches_however_they_arrive(
    values: list[float], cut: int, limit: int
) -> None:
    whole, parts = Trend(limit), Trend(limit)
    steps = list(range(len(values)))
    whole.extend(0, steps, values)
    parts.extend(0, steps[:cut], values[:cut])
    parts.extend(0, steps[cut:], values[cut:])
    means = whole.means()
    assert means == parts.means()
    assert len(means) <= limit
    for mean in means:
        part = values[mean.first : mean.last + 1]
        assert mean.value == pytest.approx(sum(part) / len(part), abs=1e-6)


def test_a_trend_leaves_out_what_is_not_finite() -> None:
    trend = Trend(4)
    trend.extend(0, [0, 1, 2, 3], [1.0, math.nan, 3.0, math.inf])
    trend.extend(1, [4], [math.nan])
    ((attempt, first, last, value),) = trend.means()
    assert (attempt, first, last, value) == (0, 0, 3, 2.0)


def test_a_trend_of_more_attempts_than_it_may_have_means_tells_of_the_newest() -> None:
    trend = Trend(4)
    for attempt in range(50):
        trend.extend(attempt, range(20), [float(attempt)] * 20)
    assert [(m.attempt, m.first, m.last, m.value) for m in trend.means()] == [
        (attempt, 0, 19, float(attempt)) for attempt in range(46, 50)
    ]
