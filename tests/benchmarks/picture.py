"""The README's picture: the demo's two runs, loss and LR over the steps, drawn as an SVG."""

import math
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks._svg import BLUE, GREY, RED, Panel, document, line, text, upright
from lrpilot.demo.task import BEST_LR, TOTAL_STEPS
from lrpilot.demo.train import Trained, train_alone, train_guarded

PICTURE = Path(__file__).parents[2] / "examples" / "demo.svg"
MULTIPLIER = 30
WIDTH, LEFT, RIGHT = 860, 60, 40
TOP, BOTTOM = 8.0, 1.5  # losses; what is above is drawn at the top
LOSS = Panel(LEFT, WIDTH - RIGHT, 60, 330, 0, TOTAL_STEPS, BOTTOM, TOP)
RATE = (390, 500)  # top and bottom of its panel


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
    high, low = (math.log10(rate) for rate in (max(rates), min(rates)))
    rate = Panel(LEFT, WIDTH - RIGHT, *RATE, 0, TOTAL_STEPS, low, high)
    decades = [(k, math.log10(r)) for k, r in enumerate(rates)]
    parts = [
        text(LEFT, 28, f"A learning rate {MULTIPLIER} times too high", size=17),
        text(LEFT, 48, "train loss, each step", colour=GREY),
        text(LEFT, RATE[0] - 12, "learning rate (log)", colour=GREY),
        *(upright(LOSS.x(step), LOSS.top, RATE[1]) for step in changes),
        line(LOSS.at(_finite(guarded)), BLUE),
        line(LOSS.at(_finite(alone)), RED, 3),
        line(rate.at(decades), BLUE, 2),
        text(LOSS.x(45), 90, f"alone: NaN from step {alone.lost_at} on", colour=RED),
        text(
            LOSS.x(45),
            112,
            f"under LRPilot: {len(changes)} rollbacks, final validation loss "
            f"{guarded.val_loss:.2f}",
            colour=BLUE,
        ),
        *(text(LEFT - 8, LOSS.y(v) + 4, f"{v:g}", anchor="end") for v in (2, 4, 6, 8)),
        *(
            text(LEFT - 8, rate.y(math.log10(r)) + 4, f"{r:.2g}", anchor="end")
            for r in (max(rates), min(rates))
        ),
        *(text(LOSS.x(k), RATE[1] + 20, str(k)) for k in range(0, TOTAL_STEPS + 1, 100)),
    ]
    return document(WIDTH, RATE[1] + 40, parts)


def _finite(run: Trained) -> list[tuple[int, float]]:
    """(step, loss) where the loss is a number."""
    return [(k, loss) for k, loss in enumerate(run.losses) if math.isfinite(loss)]
