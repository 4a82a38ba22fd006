"""A run in one picture: a Plotly figure as plain values, which needs no Plotly to be made.

From top to bottom on one axis of steps: the loss, raw and smoothed; what was seen and decided; the
LR on a log axis; and the newest decisions in words. Stretches that a rollback undid are shaded, and
those that a search's programs ran.
"""

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from typing import Any

from lrpilot_controller.core.model import Action, Outcome, Verdict
from lrpilot_controller.story.lines import line_of
from lrpilot_controller.story.model import DecisionTold, Point, Story

RAW = 200
"""Points of the loss; with the trend's 100 and what follows below at most 500 in all."""
_LRS, _SIGNALS, _DECISIONS, _INFINITE = 100, 40, 40, 20
_BANDS, _LINES, _WORDS = 40, 5, 110

_BLUE, _NAVY, _GREEN, _RED, _AMBER, _GREY = (
    *("#9ec5e8", "#1f4e79", "#2e8b57"),
    *("#c0392b", "#e08e0b", "#8a8a8a"),
)
_OF_VERDICT = {
    Verdict.IMPROVED: _GREEN,
    Verdict.WORSE: _RED,
    Verdict.ROLLED_BACK: _RED,
}

Plain = dict[str, Any]


class Picture:
    """The figure of a run's story, told with at most `RAW` points.

    Attributes:
        data: Plotly's traces.
        layout: Plotly's layout.
    """

    def __init__(self, story: Story) -> None:
        self.data = [trace for trace in _traces(story) if trace["x"]]
        self.layout = _layout(story)

    def to_json(self) -> str:
        """Strict JSON, as Plotly and the Optuna dashboard read it."""
        return json.dumps(
            {"data": self.data, "layout": self.layout}, separators=(",", ":"), allow_nan=False
        )


def _traces(story: Story) -> Iterator[Plain]:
    finite = [p for p in story.points if math.isfinite(p.loss)]
    _, top = _heights(story)
    kept, left = ([p for p in finite if p.left is side] for side in (False, True))
    yield _loss("loss", kept, {"color": _BLUE, "size": 3})
    yield _loss("undone or probed", left, {"color": _RED, "size": 3, "opacity": 0.5})
    yield {
        **{"type": "scatter", "mode": "lines", "name": "smoothed", "hoverinfo": "skip"},
        **{"x": [_short(x) for x, _ in story.trend], "y": [_short(y) for _, y in story.trend]},
        "line": {"color": _NAVY, "width": 2},
    }
    broken = [p for p in story.points if not math.isfinite(p.loss)][-_INFINITE:]
    yield {
        **{"type": "scatter", "mode": "markers", "name": "not finite"},
        **{"x": [p.step for p in broken], "y": [_short(top)] * len(broken)},
        "marker": {"color": _RED, "symbol": "x", "size": 7},
    }
    changes = _changes([p for p in story.points if math.isfinite(p.lr) and p.lr > 0])
    yield {
        **{"type": "scatter", "mode": "lines", "name": "LR", "yaxis": "y2", "showlegend": False},
        **{"x": [p.step for p in changes], "y": [_short(p.lr) for p in changes]},
        "line": {"color": _AMBER, "width": 2, "shape": "hv"},
    }
    signals = story.signals[-_SIGNALS:]
    yield _marks(
        "signal",
        [s.step for s in signals],
        1,
        {"symbol": "triangle-down", "color": _AMBER, "size": 10},
        [
            f"<b>{escape(s.kind)}</b> since step {s.since}, severity {s.severity:.2g}"
            + "".join(f"<br>{escape(name)} {value:.4g}" for name, value in s.evidence.items())
            for s in signals
        ],
        _spaced([(s.step, s.kind.value) for s in signals], 0.15 * max(story.step, 1)),
    )
    decisions = list(notable(story.decisions))[-_DECISIONS:]
    done = [told.applied_step is not None for told in decisions]
    yield _marks(
        "decision",
        [_step(told) for told in decisions],
        0,
        {
            "symbol": ["diamond" if applied else "diamond-open" for applied in done],
            "color": [_colour(told.outcome) for told in decisions],
            "size": 10,
        },
        [_hover(told) for told in decisions],
        _spaced([(_step(t), str(t.decision.id)) for t in decisions], 0.025 * max(story.step, 1)),
    )


def _hover(told: DecisionTold) -> str:
    words = f"<b>{told.decision.id}.</b> {escape(line_of(told))}<br>{escape(told.decision.reason)}"
    return _folded(words)


def _colour(outcome: Outcome | None) -> str:
    return _OF_VERDICT.get(outcome.verdict, _GREY) if outcome else _GREY


def notable(decisions: Iterable[DecisionTold]) -> Iterator[DecisionTold]:
    """Those that change something by themselves: no notes, and none of a search's programs."""
    for told in decisions:
        decision = told.decision
        if decision.action is not Action.NOTE and decision.program is None:
            yield told


def _spaced(labels: Iterable[tuple[int, str]], room: float) -> list[str]:
    """The labels, without those that would stand on the one before."""
    found, end = [], -math.inf
    for step, label in labels:
        fits = step >= end
        found.append(label if fits else "")
        end = step + room if fits else end
    return found


def _loss(name: str, points: Sequence[Point], marker: Plain) -> Plain:
    return {
        **{"type": "scatter", "mode": "markers", "name": name, "marker": marker},
        **{"x": [p.step for p in points], "y": [_short(p.loss) for p in points]},
    }


def _marks(
    name: str, steps: list[int], row: int, marker: Plain, told: list[str], labels: list[str]
) -> Plain:
    return {
        **{"type": "scatter", "mode": "markers+text", "name": name, "yaxis": "y3"},
        **{"x": steps, "y": [row] * len(steps), "marker": marker, "showlegend": False},
        **{"text": labels, "textposition": "middle right", "textfont": {"size": 10}},
        **{"hovertext": told, "hoverinfo": "x+text"},
    }


def _layout(story: Story) -> Plain:
    low, top = _heights(story)
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
            "range": [_short(low - room), _short(top + room)],
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
    return (
        f"<b>{escape(str(story.run))}</b>: {story.state}, step {story.step}<br>"
        f"<span style='font-size:11px'>{len(story.signals)} signals, "
        f"{sum(t.applied_step is not None for t in notable(story.decisions))} decisions applied; "
        f"cost: {cost.rolled_back_steps} steps undone, {cost.probe_steps} probed"
        f" ({100 * spent / max(story.step, 1):.0f} %), {cost.wait_seconds:.2g} s waited</span>"
    )


def _shapes(story: Story) -> list[Plain]:
    """Bands of what was undone and of searches, and a line where each decision took effect."""
    bands = [(a, b, _RED, "undone") for a, b in story.undone if b > a][-_BANDS:]
    bands += [(a, b, _AMBER, "search") for a, b in _programs(story.decisions)][-_BANDS:]
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
            **{"x0": _step(told), "x1": _step(told), "layer": "below"},
            "line": {"color": _GREY, "width": 1, "dash": "dot"},
        }
        for told in applied[-_DECISIONS:]
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


def _heights(story: Story) -> tuple[float, float]:
    """The lowest and the highest loss that are drawn: a blow-up must not flatten the rest."""
    finite = [p.loss for p in story.points if math.isfinite(p.loss)]
    kept = [p.loss for p in story.points if math.isfinite(p.loss) and not p.left] or finite
    if not finite:
        return 0.0, 1.0
    top = max(kept) + 0.5 * (max(kept) - min(kept))
    return min(finite), min(max(finite), top) if math.isfinite(top) else max(finite)


def _changes(points: Sequence[Point]) -> list[Point]:
    """Where the LR is another than before or after; those that matter little are left out."""
    ends = (0, len(points) - 1)
    kept = [
        p
        for i, p in enumerate(points)
        if i in ends or p.lr != points[i - 1].lr or p.lr != points[i + 1].lr
    ]
    if len(kept) <= _LRS:
        return kept
    return [kept[round(i * (len(kept) - 1) / (_LRS - 1))] for i in range(_LRS)]


def _step(told: DecisionTold) -> int:
    return told.decision.step if told.applied_step is None else told.applied_step


def _short(value: float) -> float:
    """Five digits are more than a picture shows."""
    return float(f"{value:.5g}")


def _cut(text: str) -> str:
    return text if len(text) <= _WORDS else text[: _WORDS - 1] + "…"


def _folded(text: str, width: int = 70) -> str:
    """Over several lines: a box that is wider than the picture is cut off."""
    lines: list[str] = [""]
    for word in text.split(" "):
        if len(lines[-1]) + len(word) > width:
            lines.append("")
        lines[-1] += f" {word}" if lines[-1] else word
    return "<br>".join(lines[:8])
