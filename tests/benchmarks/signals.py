"""The pictures of the catalogue of signals: real losses, and where the detectors spoke.

Writes `controller/signals/*.svg` anew. A test compares them with what is drawn here, so run this
after a change of a detector: `python -m tests.benchmarks signals`.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from benchmarks._svg import (
    BLUE,
    GREY,
    ORANGE,
    PALE,
    RED,
    Panel,
    band,
    document,
    flat,
    line,
    text,
    ticks,
    upright,
)
from benchmarks.detection.examples import Example, examples
from lrpilot_controller.core.detectors import Detectors
from lrpilot_controller.core.model import Signal

FOLDER = Path(__file__).parents[2] / "controller" / "signals"

WIDTH, LEFT, RIGHT = 860, 64, 24
HEAD, LANE = 76, 15  # height of title and legend, and of one row of labels
LOSS_HEIGHT, RATE_HEIGHT, GAP = 220, 50, 34
SMALL, LETTER = 11, 6.2  # size of small words, and about the width of one letter of them
TOGETHER = 90  # pixels: marks of one kind that follow each other more closely share a label
HEADROOM = 0.05  # of the range of the losses, above and below


def main() -> dict[str, str]:
    """Draw them all; a few seconds."""
    FOLDER.mkdir(exist_ok=True)
    for name, picture in pictures().items():
        (FOLDER / name).write_text(picture, encoding="utf-8")
        print(f"{name}: {len(picture.encode()) / 1024:.0f} KiB", flush=True)
    return {"pictures": FOLDER.name}


def pictures() -> dict[str, str]:
    """Each picture by the name of its file."""
    return {f"{one.name}.svg": draw(one, signals_of(one)) for one in examples()}


def signals_of(example: Example) -> list[Signal]:
    """What the detectors say of the whole run, in the order in which they say it."""
    detectors = Detectors()
    return [
        signal
        for r in example.readings
        for signal in detectors.update(r.step, r.train_loss, r.val_loss, r.lr)
    ]


def draw(example: Example, signals: Sequence[Signal]) -> str:
    """One picture.

    Raises:
        ValueError: The detectors say nothing of the kind in the stretch that is drawn.
    """
    shown = [s for s in signals if example.first <= s.step <= example.last]
    meant = [s for s in shown if s.kind is example.kind]
    if not meant:
        raise ValueError(f"{example.name}: no {example.kind} between the steps that are drawn")
    told = max(meant, key=lambda signal: signal.severity)
    losses = _loss_panel(example)
    lanes = _lanes(example, shown, losses)
    top = losses.top + LANE * len(lanes)
    losses = replace(losses, top=top, bottom=top + LOSS_HEIGHT)
    rate = _rate_panel(example, losses)
    bottom = (rate or losses).bottom
    others = (s.step for s in shown if s.kind is not example.kind)
    parts = [
        text(LEFT, 26, example.kind, size=17, bold=True),
        text(WIDTH - RIGHT, 26, example.told, colour=GREY, anchor="end"),
        text(LEFT, 46, _evidence(told), size=SMALL),
        *_legend(example),
        band(losses.x(max(told.since, example.first)), losses.x(told.step), top, bottom, RED),
        *_axes(losses, bottom),
        *(upright(losses.x(step), top, bottom) for step in others),
        *(upright(losses.x(s.step), top, bottom, RED, "") for s in meant),
        *_train(example, losses),
        *_validation(example, losses),
        *_labels(example, lanes, top),
        *_rate(example, rate),
    ]
    return document(WIDTH, bottom + 28, parts)


def _evidence(signal: Signal) -> str:
    since = f", since step {signal.since}" * (signal.since != signal.step)
    values = ", ".join(f"{name} {value:.3g}" for name, value in signal.evidence.items())
    return f"at step {signal.step}{since}, severity {signal.severity:.2g}: {values}"


def _legend(example: Example) -> list[str]:
    above = "; what is above the frame lies on its upper edge" * (example.top is not None)
    parts = [text(LEFT, 66, f"train loss, each step{above}", colour=BLUE, size=12)]
    if example.validated:
        parts.append(text(LEFT + 135, 66, "validation loss", colour=ORANGE, size=12))
    return parts


def _train(example: Example, panel: Panel) -> list[str]:
    """The train loss, and a tick at the upper edge for each one that is no number."""
    losses = [(r.step, r.train_loss) for r in example.shown if r.train_loss is not None]
    known = [(step, loss) for step, loss in losses if math.isfinite(loss)]
    lost = [step for step, loss in losses if not math.isfinite(loss)]
    parts = [line(panel.at(known), BLUE, 1)]
    parts += [upright(panel.x(step), panel.top, panel.top + 10, BLUE, "") for step in lost]
    if lost:
        x, y = panel.x(lost[0]), panel.top + 26
        parts.append(text(x + 8, y, "no number any more", colour=BLUE, size=SMALL))
    return parts


def _validation(example: Example, panel: Panel) -> list[str]:
    """The validation loss, where the picture is about it."""
    return [line(panel.at(_validations(example)), ORANGE, 2)] if example.validated else []


def _validations(example: Example) -> list[tuple[int, float]]:
    return [(r.step, r.val_loss) for r in example.shown if r.val_loss is not None]


def _loss_panel(example: Example) -> Panel:
    """Where the losses are drawn, before room is made for the labels."""
    losses = [r.train_loss for r in example.shown if r.train_loss is not None]
    losses = [loss for loss in losses if math.isfinite(loss)]
    if example.validated:
        losses += [loss for _, loss in _validations(example)]
    low, high = min(losses), max(losses)
    if example.top is not None:
        high = min(high, example.top)
    room = HEADROOM * (high - low)
    across = (example.first, example.last)
    return Panel(LEFT, WIDTH - RIGHT, HEAD, HEAD, *across, low - room, high + room)


def _rate_panel(example: Example, losses: Panel) -> Panel | None:
    """Where the LR is drawn, by its logarithm; None where it is the same throughout."""
    decades = [math.log10(r.lr) for r in example.shown if r.lr]
    if not decades or min(decades) == max(decades):
        return None
    top = losses.bottom + GAP
    low, high = min(decades), max(decades)
    return replace(losses, top=top, bottom=top + RATE_HEIGHT, low=low, high=high)


def _rate(example: Example, panel: Panel | None) -> list[str]:
    """The LR, in steps, with its lowest and highest value."""
    if panel is None:
        return []
    rates = [(r.step, math.log10(r.lr)) for r in example.shown if r.lr]
    corners = [
        (step, decade)
        for before, now in pairwise([rates[0], *rates])
        for step, decade in ((now[0], before[1]), now)
        if before[1] != now[1]
    ]
    return [
        text(LEFT, panel.top - 10, "learning rate (log)", colour=GREY, size=12),
        line(panel.at([rates[0], *corners, rates[-1]]), ORANGE, 2),
        *(
            text(LEFT - 8, panel.y(decade) + 4, f"{10**decade:.3g}", size=12, anchor="end")
            for decade in (panel.low, panel.high)
        ),
    ]


def _axes(panel: Panel, bottom: float) -> list[str]:
    """Losses at the left, steps below everything."""
    parts = []
    for loss in ticks(panel.low, panel.high, 4):
        y = panel.y(loss)
        parts.append(flat(panel.left, panel.right, y, PALE))
        parts.append(text(panel.left - 8, y + 4, f"{loss:g}", size=12, anchor="end"))
    for step in ticks(panel.first, panel.last, 8):
        parts.append(text(panel.x(step), bottom + 18, f"{step:g}", size=12, anchor="middle"))
    return parts


def _lanes(example: Example, signals: Sequence[Signal], panel: Panel) -> list[list[list[Signal]]]:
    """Signals that share a label, in as many rows as the labels need; first, what is meant."""
    groups: list[list[Signal]] = []
    for signal in sorted(signals, key=lambda s: (s.kind is not example.kind, s.kind, s.step)):
        last = groups[-1][0] if groups else None
        near = last and panel.x(signal.step) - panel.x(last.step) < TOGETHER
        if near and last.kind is signal.kind:
            groups[-1].append(signal)
        else:
            groups.append([signal])
    lanes: list[list[list[Signal]]] = []
    for group in groups:
        left, right = _extent(group, panel)
        for lane in lanes:
            if all(
                right < _extent(other, panel)[0] or left > _extent(other, panel)[1]
                for other in lane
            ):
                lane.append(group)
                break
        else:
            lanes.append([group])
    return lanes


def _words(group: Sequence[Signal]) -> str:
    first, last = group[0], group[-1]
    return f"{first.kind} {first.step}" + f" to {last.step}, {len(group)} times" * (len(group) > 1)


def _extent(group: Sequence[Signal], panel: Panel) -> tuple[float, float]:
    """Where a label begins and where about it ends; it stays within the picture."""
    width = LETTER * len(_words(group)) + 8
    left = min(panel.x(group[0].step) - 2, WIDTH - width)
    return left, left + width


def _labels(example: Example, lanes: Sequence[Sequence[list[Signal]]], top: float) -> list[str]:
    """The labels, the first row next to the losses."""
    panel = _loss_panel(example)
    parts = []
    for number, lane in enumerate(lanes):
        for group in lane:
            meant = group[0].kind is example.kind
            x, y = _extent(group, panel)[0], top - 5 - LANE * number
            colour = RED if meant else GREY
            parts.append(text(x, y, _words(group), colour=colour, size=SMALL, bold=meant))
    return parts
