"""The demo's two loss curves in one terminal plot."""

import math
from collections.abc import Sequence

from lrpilot.demo.train import Trained

POINTS = 170  # about two to a column of characters, which is what braille can tell apart
HEIGHT = 18
HEADROOM = 1.15  # of the first loss: what is above is drawn at the top


def picture(alone: Trained, guarded: Trained, steps: int, width: int) -> str:
    """Both curves over the steps, on one axis; the alone one ends where it was lost."""
    import plotext as plt

    top = HEADROOM * next(filter(math.isfinite, guarded.losses), 1.0)
    end = alone.lost_at
    plt.clear_figure()
    plt.theme("clear")
    plt.plot_size(width, HEIGHT)
    plt.title("training loss, step by step (a blow-up is cut off at the top)")
    plt.plot(*_curve(guarded.losses, top), marker="braille", label="under LRPilot")
    label = "alone" if end is None else f"alone: NaN from step {end} on"
    # Undamped: this curve is a few steps long, and its last ones are what it is drawn for.
    marker = "braille" if end is None else "x"
    spread = 1 if end is not None else None
    plt.plot(*_curve(alone.losses[:end], top, spread), marker=marker, label=label)
    plt.xlim(0, steps)
    plt.xlabel("step")
    return str(plt.build())


def _curve(
    losses: Sequence[float], top: float, spread: int | None = None
) -> tuple[list[float], list[float]]:
    """Steps and losses, as means over `spread` neighbours, without what is not a number."""
    spread = spread or max(1, len(losses) // POINTS)
    steps, means = [], []
    for begin in range(0, len(losses), spread):
        part = [min(x, top) for x in losses[begin : begin + spread] if not math.isnan(x)]
        if part:
            steps.append(begin + (spread - 1) / 2)
            means.append(sum(part) / len(part))
    return steps, means
