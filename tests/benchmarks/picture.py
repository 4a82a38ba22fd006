"""The README's picture: the demo's two runs, loss and LR over the steps, drawn as an SVG."""

import math
from collections.abc import Sequence
from pathlib import Path

import torch

from lrpilot.demo.task import BEST_LR, TOTAL_STEPS
from lrpilot.demo.train import Trained, train_alone, train_guarded

PICTURE = Path(__file__).parents[2] / "examples" / "demo.svg"
MULTIPLIER = 30
WIDTH, LEFT, RIGHT = 860, 60, 40
LOSS = (60, 330)  # top and bottom of each panel
RATE = (390, 500)
TOP, BOTTOM = 8.0, 1.5  # losses; what is above is drawn at the top
RED, BLUE, GREY = "#c0392b", "#2471a3", "#7f8c8d"
Point = tuple[float, float]


def main() -> dict[str, str]:
    """Train alone and under LRPilot, and draw both."""
    torch.set_num_threads(1)
    lr = BEST_LR * MULTIPLIER
    alone = train_alone(0, lr, TOTAL_STEPS, lambda *_: None)
    rates: list[float] = []
    guarded, pilot = train_guarded(
        "picture", 0, lr, TOTAL_STEPS, lambda step, loss, rate: rates.append(rate)
    )
    changes = [d.applied_step for d in pilot.decisions if d.action == "rollback"]
    pilot.close()
    PICTURE.write_text(draw(alone, guarded, rates, changes), encoding="utf-8")
    print(f"{PICTURE.name}: final validation loss {guarded.val_loss:.3f}, {len(changes)} rollbacks")
    return {"picture": PICTURE.name}


def draw(alone: Trained, guarded: Trained, rates: Sequence[float], changes: Sequence[int]) -> str:
    """The whole picture."""
    decades = [math.log10(rate) for rate in (max(rates), min(rates))]
    parts = [
        _text(LEFT, 28, f"A learning rate {MULTIPLIER} times too high", size=17),
        _text(LEFT, 48, "train loss, each step", colour=GREY),
        _text(LEFT, RATE[0] - 12, "learning rate (log)", colour=GREY),
        *(_mark(_x(step)) for step in changes),
        _line([(_x(k), _y(value, TOP, BOTTOM, LOSS)) for k, value in _finite(guarded)], BLUE),
        _line([(_x(k), _y(value, TOP, BOTTOM, LOSS)) for k, value in _finite(alone)], RED, 3),
        _line([(_x(k), _y(math.log10(r), *decades, RATE)) for k, r in enumerate(rates)], BLUE, 2),
        _text(_x(45), 90, f"alone: NaN from step {alone.lost_at} on", colour=RED),
        _text(
            _x(45),
            112,
            f"under LRPilot: {len(changes)} rollbacks, final validation loss "
            f"{guarded.val_loss:.2f}",
            colour=BLUE,
        ),
        *(_text(LEFT - 8, _y(v, TOP, BOTTOM, LOSS) + 4, f"{v:g}", end=True) for v in (2, 4, 6, 8)),
        *(
            _text(LEFT - 8, _y(math.log10(r), *decades, RATE) + 4, f"{r:.2g}", end=True)
            for r in (max(rates), min(rates))
        ),
        *(_text(_x(k), RATE[1] + 20, str(k)) for k in range(0, TOTAL_STEPS + 1, 100)),
    ]
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {RATE[1] + 40}" '
        'font-family="sans-serif"><rect width="100%" height="100%" fill="white"/>\n'
        f"{body}\n</svg>\n"
    )


def _finite(run: Trained) -> list[tuple[int, float]]:
    """(step, loss) where the loss is a number; what is above the frame lies on its edge."""
    return [(k, min(loss, TOP)) for k, loss in enumerate(run.losses) if math.isfinite(loss)]


def _x(step: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * step / TOTAL_STEPS


def _y(value: float, top: float, bottom: float, panel: tuple[int, int]) -> float:
    return panel[0] + (panel[1] - panel[0]) * (top - value) / ((top - bottom) or 1)


def _line(points: Sequence[Point], colour: str, width: float = 1.2) -> str:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}"/>'


def _mark(x: float) -> str:
    """A rollback, through both panels."""
    return (
        f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{LOSS[0]}" y2="{RATE[1]}" stroke="{GREY}" '
        'stroke-dasharray="3 3"/>'
    )


def _text(
    x: float, y: float, text: str, *, colour: str = "#222", size: int = 13, end: bool = False
) -> str:
    anchor = "end" if end else "start"
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}" font-size="{size}" '
        f'text-anchor="{anchor}">{text}</text>'
    )
