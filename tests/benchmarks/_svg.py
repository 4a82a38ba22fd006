"""Pictures without a plotting library: the few shapes of an SVG that the benchmarks' need."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

RED, BLUE, ORANGE, GREY = "#c0392b", "#2471a3", "#ca6f1e", "#7f8c8d"
INK, PALE = "#222", "#e5e8e8"
Point = tuple[float, float]


@dataclass(frozen=True)
class Panel:
    """A frame in the picture, and the numbers at its edges.

    Attributes:
        left, right, top, bottom: Its place, in pixels.
        first, last: The x at its left and right edge.
        low, high: The y at its lower and upper edge.
    """

    left: float
    right: float
    top: float
    bottom: float
    first: float
    last: float
    low: float
    high: float

    def x(self, value: float) -> float:
        """Where an x lies, in pixels."""
        return self.left + (self.right - self.left) * (value - self.first) / (
            (self.last - self.first) or 1
        )

    def y(self, value: float) -> float:
        """Where a y lies, in pixels."""
        return self.top + (self.bottom - self.top) * (self.high - value) / (
            (self.high - self.low) or 1
        )

    def at(self, points: Iterable[Point]) -> list[Point]:
        """Where points lie; those above or below the frame lie on its edge."""
        low, high = min(self.low, self.high), max(self.low, self.high)
        return [(self.x(x), self.y(min(max(y, low), high))) for x, y in points]


def document(width: float, height: float, parts: Sequence[str]) -> str:
    """The whole picture, on white so that it can be read on any page."""
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif"><rect width="100%" height="100%" fill="white"/>\n'
        f"{body}\n</svg>\n"
    )


def line(points: Sequence[Point], colour: str, width: float = 1.2) -> str:
    """A line through points."""
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}"/>'


def upright(x: float, top: float, bottom: float, colour: str = GREY, dashes: str = "3 3") -> str:
    """A vertical line; an empty `dashes` makes it a solid one."""
    dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
    return f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{bottom}" stroke="{colour}"{dashed}/>'


def flat(left: float, right: float, y: float, colour: str) -> str:
    """A horizontal line."""
    return f'<line x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}" stroke="{colour}"/>'


def band(left: float, right: float, top: float, bottom: float, colour: str) -> str:
    """A pale rectangle behind what is drawn after it."""
    return (
        f'<rect x="{left:.1f}" y="{top}" width="{max(right - left, 1.0):.1f}" '
        f'height="{bottom - top}" fill="{colour}" fill-opacity="0.12"/>'
    )


def ticks(low: float, high: float, about: int) -> list[float]:
    """Round numbers within the range: whole multiples of 1, 2 or 5 times a power of ten."""
    wanted = (high - low) / about
    decade = 10.0 ** math.floor(math.log10(wanted))
    every = next(decade * m for m in (1, 2, 5, 10) if decade * m >= wanted)
    return [k * every for k in range(math.ceil(low / every), math.floor(high / every) + 1)]


def text(
    x: float,
    y: float,
    words: str,
    *,
    colour: str = INK,
    size: int = 13,
    anchor: str = "start",
    bold: bool = False,
) -> str:
    """Words; `anchor` says which end of them x is: start, middle or end."""
    weight = ' font-weight="bold"' if bold else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}" font-size="{size}" '
        f'text-anchor="{anchor}"{weight}>{escape(words, quote=False)}</text>'
    )
