"""Numbers, tables and marks of a Markdown page."""

from collections.abc import Iterable, Sequence

_BEGIN, _END = "<!-- tables -->", "<!-- end of tables -->"


def number(value: float) -> str:
    """An excess, as the tables tell it: ".018"."""
    text = f"{value:.3f}".replace("-0.000", "0.000")
    return text.replace("0.", ".", 1) if abs(value) < 0.9995 else f"{value:.2f}"


def percent(value: float) -> str:
    """A share, as the tables tell it."""
    return f"{100 * value:.1f} %" if 0 < value < 0.1 else f"{100 * value:.0f} %"


def markdown(head: Sequence[object], lines: Iterable[Sequence[object]]) -> str:
    """A Markdown table, numbers to the right."""
    rule = ("---", *("---:" for _ in head[1:]))
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in (head, rule, *lines))


def quote(told: str, page: str) -> str:
    """The page with what is between its two marks replaced."""
    before, rest = page.split(_BEGIN, 1)
    _, after = rest.split(_END, 1)
    return f"{before}{_BEGIN}\n{told}\n{_END}{after}"
