"""The traces of a run's picture: losses, the LR, what was seen and what was decided."""

import math
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from typing import Any

from lrpilot_controller.core.model import Outcome, Verdict
from lrpilot_controller.story.lines import line_of, notable, step_of
from lrpilot_controller.story.model import DecisionTold, Point, Story

RAW = 180
"""Points of the loss; with the trend's 80, its breaks, and what follows at most 500 in all."""
DECISIONS = 30
_LRS, _SIGNALS, _INFINITE = 60, 30, 10
_HIGHEST = 1e300  # that is drawn

RED, AMBER, GREY = "#c0392b", "#e08e0b", "#8a8a8a"
_BLUE, _NAVY, _GREEN = "#9ec5e8", "#1f4e79", "#2e8b57"
_OF_VERDICT = {
    Verdict.IMPROVED: _GREEN,
    Verdict.WORSE: RED,
    Verdict.ROLLED_BACK: RED,
}

Plain = dict[str, Any]


def traces(story: Story) -> Iterator[Plain]:
    """All traces, as Plotly names what they are made of; one may have no points."""
    finite = [p for p in story.points if math.isfinite(p.loss)]
    _, top = heights(story)
    kept, left = ([p for p in finite if p.left is side] for side in (False, True))
    yield _loss("loss", kept, top, {"color": _BLUE, "size": 3})
    yield _loss("undone or probed", left, top, {"color": RED, "size": 3, "opacity": 0.5})
    trend = list(_broken(story))
    yield {
        **{"type": "scatter", "mode": "lines", "name": "smoothed", "hoverinfo": "skip"},
        **{
            "x": [short(x) for x, _ in trend],
            "y": [None if y is None else short(y) for _, y in trend],
        },
        "line": {"color": _NAVY, "width": 2},
    }
    broken = [p for p in story.points if not math.isfinite(p.loss)][-_INFINITE:]
    yield {
        **{"type": "scatter", "mode": "markers", "name": "not finite"},
        **{"x": [p.step for p in broken], "y": [short(top)] * len(broken)},
        "marker": {"color": RED, "symbol": "x", "size": 7},
    }
    changes = _changes(story)
    yield {
        **{"type": "scatter", "mode": "lines", "name": "LR", "yaxis": "y2", "showlegend": False},
        **{"x": [step for step, _ in changes], "y": [short(lr) for _, lr in changes]},
        "line": {"color": AMBER, "width": 2, "shape": "hv"},
    }
    signals = story.signals[-_SIGNALS:]
    yield _marks(
        "signal",
        [s.step for s in signals],
        1,
        {"symbol": "triangle-down", "color": AMBER, "size": 10},
        [
            f"<b>{escape(s.kind)}</b> since step {s.since}, severity {s.severity:.2g}"
            + "".join(f"<br>{escape(name)} {value:.4g}" for name, value in s.evidence.items())
            for s in signals
        ],
        _spaced([(s.step, s.kind.value, s.severity) for s in signals], 0.15 * story.step),
    )
    decisions = list(notable(story.decisions))[-DECISIONS:]
    done = [told.applied_step is not None for told in decisions]
    yield _marks(
        "decision",
        [step_of(told) for told in decisions],
        0,
        {
            "symbol": ["diamond" if applied else "diamond-open" for applied in done],
            "color": [_colour(told.outcome) for told in decisions],
            "size": 10,
        },
        [_hover(told) for told in decisions],
        _spaced([(step_of(t), str(t.decision.id), 0.0) for t in decisions], 0.025 * story.step),
    )


def _broken(story: Story) -> Iterator[tuple[float, float | None]]:
    """The trend, interrupted where steps were undone."""
    last = -math.inf
    for step, mean in story.trend:
        if any(last < b and a < step for a, b in story.undone) and last > -math.inf:
            yield step, None
        yield step, mean
        last = step


def _hover(told: DecisionTold) -> str:
    words = f"<b>{told.decision.id}.</b> {escape(line_of(told))}<br>{escape(told.decision.reason)}"
    return _folded(words)


def _colour(outcome: Outcome | None) -> str:
    return _OF_VERDICT.get(outcome.verdict, GREY) if outcome else GREY


def _spaced(labels: Sequence[tuple[int, str, float]], room: float) -> list[str]:
    """Labels by step and weight, without those that would stand on a weightier one."""
    found, taken = [""] * len(labels), list[int]()
    for i in sorted(range(len(labels)), key=lambda i: -labels[i][2]):
        step, label, _ = labels[i]
        if all(abs(step - other) >= room for other in taken):
            found[i] = label
            taken.append(step)
    return found


def _loss(name: str, points: Sequence[Point], top: float, marker: Plain) -> Plain:
    """Losses; what is above the top stands there, and says what it is when pointed at."""
    return {
        **{"type": "scatter", "mode": "markers", "name": name, "marker": marker},
        **{"x": [p.step for p in points], "y": [short(min(p.loss, top)) for p in points]},
        "customdata": [short(p.loss) for p in points],
        "hovertemplate": "step %{x}: %{customdata}<extra></extra>",
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


def _changes(story: Story) -> list[tuple[int, float]]:
    """Steps and LRs where the LR is another than before or after; some of them, if many."""
    points = [(p.step, p.lr) for p in story.points]
    if story.attempts == 1:  # a loss that was left out may have been the first at its LR
        points += _applied(story.decisions)
        points.sort(key=lambda point: point[0])
    points = [(step, lr) for step, lr in points if math.isfinite(lr) and lr > 0]
    ends = (0, len(points) - 1)
    kept = [
        point
        for i, point in enumerate(points)
        if i in ends or point[1] != points[i - 1][1] or point[1] != points[i + 1][1]
    ]
    if len(kept) <= _LRS:
        return kept
    return [kept[round(i * (len(kept) - 1) / (_LRS - 1))] for i in range(_LRS)]


def _applied(decisions: Iterable[DecisionTold]) -> Iterator[tuple[int, float]]:
    """The LRs that the trainer read back when it applied a decision."""
    for told in notable(decisions):
        if told.applied_step is not None and told.receipt and told.receipt.lrs_after:
            yield told.applied_step, told.receipt.lrs_after[0]


def heights(story: Story) -> tuple[float, float]:
    """The lowest and the highest loss that are drawn: a blow-up must not flatten the rest."""
    finite = [p.loss for p in story.points if math.isfinite(p.loss)]
    kept = [p.loss for p in story.points if math.isfinite(p.loss) and not p.left] or finite
    if not finite:
        return 0.0, 1.0
    top = max(kept) + 0.5 * (max(kept) - min(kept))
    return min(finite), min(max(finite), top) if math.isfinite(top) else max(finite)


def short(value: float) -> float:
    """Five digits are more than a picture shows; JSON has no infinity, which they may round to."""
    return float(f"{min(max(value, -_HIGHEST), _HIGHEST):.5g}")


def _folded(text: str, width: int = 70) -> str:
    """Over several lines: a box that is wider than the picture is cut off."""
    lines: list[str] = [""]
    for word in text.split(" "):
        if len(lines[-1]) + len(word) > width:
            lines.append("")
        lines[-1] += f" {word}" if lines[-1] else word
    return "<br>".join(lines[:8])
