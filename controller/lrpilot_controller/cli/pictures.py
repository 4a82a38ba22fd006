"""Pictures in the terminal: a run's loss and LR over its steps, a search's loss over the LR."""

import math
from collections.abc import Sequence
from typing import Protocol

from lrpilot_controller.core.findings import SearchEnd, SearchResult
from lrpilot_controller.story import Story


class Dot(Protocol):
    """A point of the curve, of a story or of a message that tells one."""

    @property
    def step(self) -> int: ...
    @property
    def loss(self) -> float: ...
    @property
    def lr(self) -> float: ...
    @property
    def left(self) -> bool: ...


def picture(story: Story, width: int = 90, height: int = 16) -> str:
    """Loss and LR over the steps as text; what a rollback left, or a search tried, is dotted."""
    import plotext as plt

    loss = loss_chart(story.points, width, height, title=f"train loss of {story.run}")
    lr = lr_chart(story.points, width, max(7, height // 2), title="learning rate")
    return str(plt.uncolorize(f"{loss}\n{lr}"))  # it resets colours that it never set


def loss_chart(
    points: Sequence[Dot],
    width: int,
    height: int,
    *,
    title: str = "",
    steps: bool = True,
    marks: Sequence[int] = (),
) -> str:
    """Train loss over the steps, in colours.

    `steps` says whether the axis below is drawn; `marks` are steps with a line from top to bottom.
    """
    import plotext as plt

    _begin(points, width, height, title, steps)
    finite = [p for p in points if math.isfinite(p.loss)]
    if not finite:
        return str(plt.build())
    kept = sorted(p.loss for p in finite if not p.left) or sorted(p.loss for p in finite)
    top = kept[-1] + 0.5 * (kept[-1] - kept[0])  # a blow-up must not flatten the rest
    heights = [min(p.loss, top) for p in finite]
    _heights(_round(min(heights), max(heights), height // 2))
    for step in marks:
        plt.vline(step, color="gray")
    for left, marker, colour, label in (
        (True, ".", "red", "rolled back or probed"),
        (False, "braille", "cyan", "train loss"),
    ):
        part = [(p.step, y) for p, y in zip(finite, heights, strict=True) if p.left is left]
        if part:
            plt.plot(*zip(*part, strict=True), marker=marker, color=colour, label=title and label)
    return str(plt.build())


def lr_chart(
    points: Sequence[Dot], width: int, height: int, *, title: str = "", steps: bool = True
) -> str:
    """The LR of the first param group over the steps, in colours, on a log axis."""
    import plotext as plt

    _begin(points, width, height, title, steps)
    applied = [p for p in points if math.isfinite(p.lr) and p.lr > 0]
    if applied:
        lrs = [p.lr for p in applied]
        plt.plot([p.step for p in applied], lrs, marker="braille", color="orange")
        plt.yscale("log")
        inside = [lr for lr in _ticks(min(lrs), max(lrs)) if min(lrs) < lr < max(lrs)]
        _heights([min(lrs), *inside[:: len(inside) // max(1, height // 2) + 1], max(lrs)])
    return str(plt.build())


def _begin(points: Sequence[Dot], width: int, height: int, title: str, steps: bool) -> None:
    """An empty chart; charts of the same points and width have their steps at the same places."""
    import plotext as plt

    plt.clear_figure()
    plt.theme("clear")
    plt.limit_size(False, False)
    plt.plot_size(width, height)
    plt.xaxes(steps, bool(title))  # a title stands on the upper one
    plt.yaxes(True, False)
    if title:
        plt.title(title)
    first, last = min((p.step for p in points), default=0), max((p.step for p in points), default=1)
    plt.xlim(first, max(last, first + 1))
    ticks = _round(first, last, width // 14) if steps else []
    plt.xticks(ticks, [f"{tick:,.0f}" for tick in ticks])


def _heights(values: Sequence[float]) -> None:
    """Labels of the upright axis, all of one width."""
    import plotext as plt

    plt.yticks(values, [f"{value:>8.3g}" for value in values])


def _round(low: float, high: float, count: int) -> list[float]:
    """Some `count` round numbers between two; one of the two where they are the same."""
    if not high > low:
        return [low]
    rough = (high - low) / max(count, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * next(size for size in (1, 2, 5, 10) if size * power >= rough * 0.999)
    return [n * step for n in range(math.ceil(low / step), math.floor(high / step) + 1)] or [low]


def search_picture(result: SearchResult, width: int = 90, height: int = 16) -> str:
    """Loss against LR as text, as LR finders draw it, with the choice as a vertical line.

    Empty where the search tried nothing. The line of dots is the range test, the crosses are the
    candidates; what diverged is drawn at the upper edge.
    """
    import plotext as plt

    sweep = [] if result.sweep is None else zip(result.sweep.lrs, result.sweep.losses, strict=False)
    rising = [(lr, loss) for lr, loss in sweep if lr > 0]
    tried = [(c.lr, c.score) for c in result.candidates if c.lr > 0]
    finite = sorted(loss for _, loss in rising + tried if math.isfinite(loss))
    if not finite:
        return ""
    levels = (
        sorted(
            [loss for _, loss in tried if math.isfinite(loss)]
            + [loss for loss in (result.reference,) if loss is not None and math.isfinite(loss)]
        )
        or finite
    )
    # The range test ends in a blow-up, which must not flatten the rest.
    top = min(finite[-1], levels[-1] + 0.5 * max(levels[-1] - finite[0], 1e-12))
    bottom = finite[0]

    def drawn(points: list[tuple[float, float]]) -> tuple[list[float], list[float]]:
        heights = [top if math.isnan(loss) else min(loss, top) for _, loss in points]
        return [math.log10(lr) for lr, _ in points], heights

    plt.clear_figure()
    plt.theme("clear")
    plt.plot_size(width, height)
    if rising:
        plt.plot(*drawn(rising), marker="braille")
    if tried:
        plt.scatter(*drawn(tried), marker="x")
    chosen = result.end in (SearchEnd.FOUND, SearchEnd.REUSED) and result.lr > 0
    if chosen:
        at = math.log10(result.lr)
        plt.plot([at, at], [bottom, top], marker="|")
    lrs = [lr for lr, _ in rising + tried] + [result.lr] * chosen
    ticks = _ticks(min(lrs), max(lrs))
    plt.xticks([math.log10(tick) for tick in ticks], [f"{tick:g}" for tick in ticks])
    parts = ["line: range test"] * bool(rising) + ["x: tried"] * bool(tried)
    parts += [f"|: chosen, {result.lr:.3g}"] * chosen
    plt.title(f"loss against learning rate ({', '.join(parts)})")  # a legend would hide points
    return str(plt.uncolorize(plt.build()))


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers on a log axis: powers of ten, with 2 and 5 times them where few would show."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    steps = (1, 2, 5) if math.log10(high / low) < 2.5 else (1,)
    every = max(1, (last - first) // 8)
    found = [step * 10.0**decade for decade in range(first, last + 1, every) for step in steps]
    return [tick for tick in found if low / 1.1 <= tick <= high * 1.1] or [low]
