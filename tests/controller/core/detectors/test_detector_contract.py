"""What every detector must do, whatever it looks for. A new one is added to DETECTORS and obeys."""

import json
import math
import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrpilot_controller.core.detectors import (
    Detector,
    Detectors,
    DivergenceDetector,
    NonFiniteDetector,
    OscillationDetector,
    OverfitDetector,
    SpikeDetector,
    TooHighDetector,
    TrendDetector,
)
from lrpilot_controller.core.model import Signal

DETECTORS: list[Callable[[], Detector]] = [
    NonFiniteDetector,
    DivergenceDetector,
    SpikeDetector,
    TooHighDetector,
    OscillationDetector,
    TrendDetector,
    OverfitDetector,
]
every_detector = pytest.mark.parametrize("make", DETECTORS, ids=lambda make: make.name)

Report = tuple[float | None, float | None, float | None]
ODD = (math.nan, math.inf, -math.inf, 1e300, -1e300, 1.7e308, -1.7e308, 5e-324, 0.0, -0.0)


def eventful(seed: int = 0) -> list[Report]:
    """Descent with a spike, plateau that overfits, swings, an LR cut between two blow-ups, death.

    A lone NaN here and there, gaps throughout.
    """
    rng = random.Random(seed)
    reports: list[Report] = []
    for step in range(1320):
        loss = 0.5 + 3.0 / (1 + min(step, 400) / 20) + rng.gauss(0, 0.02)
        val = loss + 0.1 + 0.004 * max(0, step - 430)
        if step == 250:
            loss += 2.0
        if 800 <= step < 960:
            loss += 0.3 * (-1) ** step
        if 1000 <= step < 1080 or 1180 <= step < 1280:
            loss += min(40.0, 0.05 * 1.2 ** (step % 180 - 100))
        if step in (60, 130) or step >= 1300:
            loss = math.nan
        # Until it swings, the training loss goes on falling a little.
        train = None if step % 11 == 5 else loss - 5e-5 * min(step, 800)
        lr = 0.01 if step >= 1100 else 0.3 if step >= 1000 else 0.1
        reports.append((train, val if step % 25 == 24 else None, lr))
    return reports


def play(detector: Detector, reports: list[Report], first: int = 0) -> list[Signal]:
    found: list[Signal] = []
    for step, report in enumerate(reports, first):
        found += detector.update(step, *report)
    return found


def events(signals: list[Signal]) -> list[tuple[str, int]]:
    return [(signal.kind, signal.step) for signal in signals]


@every_detector
def test_the_eventful_stream_has_events(make: Callable[[], Detector]) -> None:
    assert play(make(), eventful())  # or the tests below would compare nothing with nothing


@every_detector
def test_has_the_shape_of_the_port(make: Callable[[], Detector]) -> None:
    assert isinstance(make(), Detector)
    assert make().name


@every_detector
def test_same_reports_give_same_signals(make: Callable[[], Detector]) -> None:
    assert play(make(), eventful()) == play(make(), eventful())


@every_detector
def test_a_restored_state_goes_on_as_if_nothing_had_happened(make: Callable[[], Detector]) -> None:
    reports = eventful()
    whole = play(make(), reports)
    original = make()
    for cut, report in enumerate(reports):
        if cut % 7 == 0 or 990 < cut < 1040:
            state = json.loads(json.dumps(original.state_dict(), allow_nan=False))
            restored = make()
            restored.load_state_dict(state)
            assert restored.state_dict() == original.state_dict()
            rest = play(restored, reports[cut : cut + 120], cut)
            assert rest == [signal for signal in whole if cut <= signal.step < cut + 120]
        original.update(cut, *report)


@every_detector
def test_a_state_is_a_copy(make: Callable[[], Detector]) -> None:
    detector = make()
    play(detector, eventful()[:100])
    state = detector.state_dict()
    before = json.dumps(state)
    play(detector, eventful()[100:200], 100)
    assert json.dumps(state) == before


@every_detector
def test_refuses_a_foreign_state_and_keeps_its_own(make: Callable[[], Detector]) -> None:
    detector = make()
    play(detector, eventful()[:100])
    before = detector.state_dict()
    with pytest.raises(ValueError, match="not a state of"):
        detector.load_state_dict({"something": 1})
    assert detector.state_dict() == before


@every_detector
@given(
    reports=st.lists(
        st.tuples(*[st.none() | st.sampled_from(ODD) | st.floats(width=64)] * 3), max_size=60
    )
)
@settings(max_examples=200)
def test_takes_any_numbers_and_stays_finite(
    make: Callable[[], Detector], reports: list[Report]
) -> None:
    detector = make()
    for signal in play(detector, reports):
        assert 0.0 <= signal.severity <= 1.0
        assert signal.since <= signal.step
        assert all(math.isfinite(value) for value in signal.evidence.values())
    json.dumps(detector.state_dict(), allow_nan=False)


@every_detector
@pytest.mark.parametrize("constant", [0.0, 1.0, -3.0, 1e-320, 1e300])
@given(tail=st.lists(st.sampled_from((*ODD, 1.0, -1.0)), min_size=8, max_size=60))
@settings(max_examples=20)
def test_a_loss_that_was_constant_for_long_may_do_anything_then(
    make: Callable[[], Detector], constant: float, tail: list[float]
) -> None:
    """Without noise or a range there is nothing to divide by."""
    falling = [(2.0 - step, constant, 0.1) for step in range(40)]
    both = [(constant, constant, 0.1)] * 200
    for reports in (
        both + [(loss, loss, 0.1) for loss in tail],
        falling + [(-40.0 - step, loss, 0.1) for step, loss in enumerate(tail)],
    ):
        for signal in play(make(), reports):
            assert 0.0 <= signal.severity <= 1.0
            assert all(math.isfinite(value) for value in signal.evidence.values())


@every_detector
@given(
    scale=st.floats(1e-6, 1e6),
    offset=st.floats(-1e3, 1e3),  # in units of the scale, so that the digits suffice
    seed=st.integers(0, 3),
)
@settings(max_examples=40)
def test_scale_and_offset_of_the_loss_do_not_matter(
    make: Callable[[], Detector], scale: float, offset: float, seed: int
) -> None:
    def moved(loss: float | None) -> float | None:
        return None if loss is None else scale * (loss + offset)

    reports = eventful(seed)
    elsewhere = [(moved(train), moved(val), lr) for train, val, lr in reports]
    assert events(play(make(), elsewhere)) == events(play(make(), reports))


@every_detector
def test_nothing_reported_nothing_found(make: Callable[[], Detector]) -> None:
    detector = make()
    fresh = detector.state_dict()
    assert not play(detector, [(None, None, None)] * 200)
    assert detector.state_dict() == fresh


@every_detector
def test_gaps_between_steps_do_not_matter(make: Callable[[], Detector]) -> None:
    sparse, dense = make(), make()
    for step, report in enumerate(eventful()):
        far = [signal.kind for signal in sparse.update(step * 1000, *report)]
        assert far == [signal.kind for signal in dense.update(step, *report)]


def test_the_composite_gives_the_signals_of_all_in_order() -> None:
    reports = eventful()
    composite = Detectors(total_steps=420, steps_per_epoch=None)
    parts = [make() for make in DETECTORS]
    for step, (train, val, lr) in enumerate(reports):
        expected = [s for part in parts for s in part.update(step, train, val, lr)]
        assert composite.update(step, train_loss=train, val_loss=val, lr=lr) == expected


def test_the_composite_restores_all() -> None:
    reports = eventful()
    original, restored = Detectors(), Detectors()
    for step, report in enumerate(reports[:1010]):
        original.update(step, *report)
    restored.load_state_dict(json.loads(json.dumps(original.state_dict())))
    for step, report in enumerate(reports[1010:], 1010):
        assert restored.update(step, *report) == original.update(step, *report)
    with pytest.raises(ValueError, match="nonfinite"):
        restored.load_state_dict({"divergence": {}})


def test_the_composite_takes_further_detectors_under_names_of_their_own() -> None:
    class Crier:
        name = "crier"

        def update(self, step, train_loss, val_loss, lr):  # type: ignore[no-untyped-def]
            return [Signal("spike", step, step, 0.1)]  # type: ignore[arg-type]

        def state_dict(self):  # type: ignore[no-untyped-def]
            return {}

        def load_state_dict(self, state):  # type: ignore[no-untyped-def]
            pass

    assert [signal.kind for signal in Detectors(extra=[Crier()]).update(0, 1.0)] == ["spike"]
    with pytest.raises(ValueError, match="different names"):
        Detectors(extra=[NonFiniteDetector()])
