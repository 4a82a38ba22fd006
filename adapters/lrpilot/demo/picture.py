"""The demo's two loss curves in one terminal plot."""

import math
from collections.abc import Sequence

from lrpilot.demo.train import Trained

POINTS = 170  # about two to a column of characters, which is what braille can tell apart
HEIGHT = 18
TEXT_AT = 0.3  # of the steps
LINE = 0.04  # of the top: one line further down
HEADROOM = 1.15  # of the first loss: what is above is drawn at the top


def picture(alone: Trained, guarded: Trained, steps: int, width: int) -> str:
    """Both curves over the steps, on one axis; the alone one ends where it was lost."""
    import plotext as plt

    top = HEADROOM * next(filter(math.isfinite, guarded.losses), 1.0)
    end = alone.lost_at
    plt.clear_figure()
    plt.theme("clear")
    plt.plot_size(width, HEIGHT)
    plt.title("training loss at each step; what is above the frame is drawn at its top")
    plt.plot(*_curve(guarded.losses, top, max(1, steps // POINTS)), marker="braille")
    if end is None:
        plt.plot(*_curve(alone.losses, top, max(1, steps // POINTS)), marker="x")
        told = "x alone"
    else:
        # Undamped: a few steps long, and the last of them are what it is drawn for.
        plt.plot(*_curve(alone.losses[:end], top, 1), marker="x")
        told = f"x alone: not a number from step {end} on"
    # Not a legend: it would stand where the blow-up is.
    plt.text(told, x=TEXT_AT * steps, y=top, alignment="left")
    plt.text("⢕ under LRPilot", x=TEXT_AT * steps, y=top - LINE * top, alignment="left")
    plt.xlim(0, steps)
    plt.ylim(None, top)
    plt.xlabel("step")
    drawn = plt.uncolorize(plt.build())
    return "\n".join(line.rstrip() for line in drawn.splitlines())


def _curve(losses: Sequence[float], top: float, spread: int) -> tuple[list[float], list[float]]:
    """Steps and losses, as means over `spread` neighbours, without what is not a number."""
    steps, means = [], []
    for begin in range(0, len(losses), spread):
        part = [min(x, top) for x in losses[begin : begin + spread] if not math.isnan(x)]
        if part:
            steps.append(begin + (spread - 1) / 2)
            means.append(sum(part) / len(part))
    return steps, means
