"""One NaN, one infinity, one loss a hundred times too large: a note, and nothing else for good."""

import math
import random

import pytest

from lrpilot_controller.core.detectors import Detectors
from lrpilot_controller.core.detectors.windows import WINDOW
from lrpilot_controller.core.model import SignalKind


def stream(seed: int) -> list[float]:
    """A descent that ends, swings, comes to rest, and blows up."""
    rng = random.Random(seed)
    losses = []
    for step in range(1300):
        loss = 0.5 + 2.0 / (1 + min(step, 400) / 20) ** 0.5 + rng.gauss(0, 0.01)
        if 800 <= step < 1000:
            loss += 0.3 * (-1) ** step
        if step >= 1200:
            loss += 0.05 * 1.2 ** (step - 1200)
        losses.append(loss)
    return losses


def events(losses: list[float]) -> list[tuple[SignalKind, int]]:
    detectors = Detectors()
    found = []
    for step, loss in enumerate(losses):
        found += detectors.update(step, loss, None, 0.1)
    return [(signal.kind, signal.step) for signal in found]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("at", [100, 333, 600, 901])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, "x100"])
def test_every_later_signal_is_as_if_it_had_not_been_there(
    seed: int, at: int, bad: float | str
) -> None:
    clean = stream(seed)
    broken = list(clean)
    broken[at] = clean[at] * 100 if isinstance(bad, str) else bad
    told = [event for event in events(broken) if event[1] == at]
    swinging = 800 <= at < 1000  # what stands out of swings is not told apart from them
    note = SignalKind.SPIKE if isinstance(bad, str) else SignalKind.NONFINITE
    assert told == [(note, at)] or (swinging and note is SignalKind.SPIKE)
    expected = [event for event in events(clean)]
    later = [event for event in events(broken) if event not in told]
    assert [kind for kind, _ in later] == [kind for kind, _ in expected]
    # A loss that is no number is missing, so that the windows after it end one report later.
    assert all(abs(a - b) <= WINDOW for (_, a), (_, b) in zip(later, expected, strict=True))
