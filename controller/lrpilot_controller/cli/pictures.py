"""Pictures in the terminal: a run's loss and LR over its steps, a search's loss over the LR."""

import math

from lrpilot_controller.core.findings import SearchEnd, SearchResult
from lrpilot_controller.story import Story


def picture(story: Story, width: int = 90, height: int = 16) -> str:
    """Loss and LR over the steps as text; what a rollback left, or a search tried, is dotted."""
    import plotext as plt

    finite = [p for p in story.points if math.isfinite(p.loss)]
    kept = sorted(p.loss for p in finite if not p.left) or sorted(p.loss for p in finite)
    top = kept[-1] + 0.5 * (kept[-1] - kept[0])  # a blow-up must not flatten the rest
    plt.clear_figure()
    plt.theme("clear")
    plt.plot_size(width, height)
    for left, marker, label in (
        (True, ".", "rolled back or probed"),
        (False, "braille", "train loss"),
    ):
        part = [p for p in finite if p.left is left]
        if part:
            plt.plot(
                [p.step for p in part],
                [min(p.loss, top) for p in part],
                marker=marker,
                label=label,
            )
    plt.title(f"train loss of {story.run}")
    loss = plt.build()
    plt.clear_figure()
    plt.theme("clear")
    plt.plot_size(width, max(7, height // 2))
    applied = [p for p in story.points if math.isfinite(p.lr) and p.lr > 0]
    if applied:
        plt.plot([p.step for p in applied], [p.lr for p in applied], marker="braille")
        plt.yscale("log")
    plt.title("learning rate")
    return str(plt.uncolorize(f"{loss}\n{plt.build()}"))  # it resets colours that it never set


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
