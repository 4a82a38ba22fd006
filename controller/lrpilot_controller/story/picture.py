"""A run in one picture: a Plotly figure as plain values, which needs no Plotly to be made.

From top to bottom on one axis of steps: the loss, raw and smoothed; what was seen and decided; the
LR on a log axis; and the newest decisions in words. Stretches that a rollback undid are shaded, and
those that a search's programs ran.
"""

import json
from collections.abc import Iterable
from html import escape

from lrpilot_controller.story.lines import count_of, line_of, notable, step_of
from lrpilot_controller.story.model import DecisionTold, Story
from lrpilot_controller.story.traces import (
    AMBER,
    DECISIONS,
    GREY,
    RAW,
    RED,
    Plain,
    heights,
    short,
    traces,
)

__all__ = ["RAW", "Picture"]

_BANDS, _LINES, _WORDS = 40, 5, 110


class Picture:
    """The figure of a run's story, told with at most `RAW` points.

    Attributes:
        data: Plotly's traces.
        layout: Plotly's layout.
    """

    def __init__(self, story: Story) -> None:
        self.data = [trace for trace in traces(story) if trace["x"]]
        self.layout = _layout(story)

    def to_json(self) -> str:
        """Strict JSON, as Plotly and the Optuna dashboard read it."""
        return json.dumps(
            {"data": self.data, "layout": self.layout}, separators=(",", ":"), allow_nan=False
        )


def _layout(story: Story) -> Plain:
    low, top = heights(story)
    room = 0.04 * (top - low) or 0.5
    grid = {"gridcolor": "#ececec", "zeroline": False}
    return {
        "title": {"text": _title(story), "x": 0.01, "font": {"size": 14}},
        **{"paper_bgcolor": "white", "plot_bgcolor": "white", "hovermode": "closest"},
        "font": {"size": 11, "color": "#333"},
        "margin": {"l": 64, "r": 12, "t": 56, "b": 36 + 15 * len(_log(story))},
        "legend": {
            **{"orientation": "h", "x": 1, "xanchor": "right", "y": 1.0, "yanchor": "top"},
            "bgcolor": "rgba(255,255,255,0.7)",
        },
        "xaxis": {"anchor": "y2", **grid, "title": {"text": "step", "standoff": 2}},
        "yaxis": {
            **{"domain": [0.47, 1.0], **grid, "title": {"text": "train loss"}},
            "range": [short(low - room), short(top + room)],
        },
        "yaxis3": {
            **{"domain": [0.31, 0.44], "range": [-0.6, 1.6], "fixedrange": True, "zeroline": False},
            **{"tickvals": [0, 1], "ticktext": ["decisions", "signals"], "gridcolor": "#ececec"},
        },
        "yaxis2": {
            **{"domain": [0.0, 0.28], "type": "log", "exponentformat": "power", **grid},
            **{"title": {"text": "LR"}, "nticks": 5},
        },
        "shapes": _shapes(story),
        "annotations": _log(story),
    }


def _title(story: Story) -> str:
    cost = story.cost
    spent = cost.rolled_back_steps + cost.probe_steps
    applied = sum(told.applied_step is not None for told in notable(story.decisions))
    return (
        f"<b>{escape(str(story.run))}</b>: {story.state}, step {story.step}<br>"
        f"<span style='font-size:11px'>{count_of(len(story.signals), 'signal')}, "
        f"{count_of(applied, 'decision')} applied; cost: {cost.rolled_back_steps} steps undone, "
        f"{cost.probe_steps} probed ({100 * spent / max(story.step, 1):.0f} %), "
        f"{cost.wait_seconds:.2g} s waited</span>"
    )


def _shapes(story: Story) -> list[Plain]:
    """Bands of what was undone and of searches, and a line where each decision took effect."""
    bands = [(a, b, RED, "undone") for a, b in story.undone if b > a][-_BANDS:]
    bands += [(a, b, AMBER, "search") for a, b in _programs(story.decisions)][-_BANDS:]
    shapes = [
        {
            **{"type": "rect", "xref": "x", "yref": "paper", "y0": 0, "y1": 1, "x0": a, "x1": b},
            **{"fillcolor": colour, "opacity": 0.1, "line": {"width": 0}, "layer": "below"},
            "label": {
                **{"text": name if b - a > 0.06 * story.step else "", "font": {"size": 9}},
                "textposition": "top center",
            },
        }
        for a, b, colour, name in bands
    ]
    applied = [t for t in notable(story.decisions) if t.applied_step is not None]
    return shapes + [
        {
            **{"type": "line", "xref": "x", "yref": "paper", "y0": 0, "y1": 1},
            **{"x0": step_of(told), "x1": step_of(told), "layer": "below"},
            "line": {"color": GREY, "width": 1, "dash": "dot"},
        }
        for told in applied[-DECISIONS:]
    ]


def _programs(decisions: Iterable[DecisionTold]) -> list[tuple[int, int]]:
    """The steps [from, to) of programs; those that follow each other are one stretch."""
    spans: list[tuple[int, int]] = []
    for told in decisions:
        begin = told.applied_step
        if told.decision.program is None or begin is None:
            continue
        if spans and begin <= spans[-1][1] + 1:
            spans[-1] = (spans[-1][0], begin + told.steps)
        else:
            spans.append((begin, begin + told.steps))
    return spans


def _log(story: Story) -> list[Plain]:
    """The newest searches and decisions in words, below the picture."""
    lines = [
        f"search: {result.end.replace('_', ' ')}, LR {result.lr:.3g} after {result.steps} steps"
        for result in story.searches[-1:]
    ]
    decisions = list(notable(story.decisions))
    room = _LINES - len(lines)
    more = len(decisions) - room
    lines += [f"{told.decision.id}. {line_of(told)}" for told in decisions[-room:]]
    if more > 0:
        lines[-room] += f"  (and {more} before)"
    return [
        {
            **{"xref": "paper", "yref": "paper", "x": 0, "y": 0, "yanchor": "top"},
            **{"xanchor": "left", "align": "left", "yshift": -32 - 15 * i, "showarrow": False},
            **{"text": escape(_cut(line)), "font": {"size": 11}},
        }
        for i, line in enumerate(lines)
    ]


def _cut(text: str) -> str:
    return text if len(text) <= _WORDS else text[: _WORDS - 1] + "…"
