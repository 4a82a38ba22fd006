"""A detector of another package watches every run; one that is broken is left out."""

import logging
from collections.abc import Iterator
from importlib.metadata import EntryPoint

import pytest

from lrpilot_controller import plugins
from lrpilot_controller.core.engine import Engine
from lrpilot_controller.core.model import Signal, SignalKind
from support.streams import Trainer, signals

HERE = __name__


class Thirteenth:
    """Says "spike" at every step that ends in 13."""

    name = "thirteenth"

    def update(self, step, train_loss, val_loss, lr):  # type: ignore[no-untyped-def]
        return [Signal(SignalKind.SPIKE, step, step, 0.1)] if step % 100 == 13 else []

    def state_dict(self):  # type: ignore[no-untyped-def]
        return {}

    def load_state_dict(self, state):  # type: ignore[no-untyped-def]
        pass


class Impostor(Thirteenth):
    name = "divergence"


class Shapeless:
    """No detector at all."""


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """Pretends that these classes of this module are entry points, beside the built-in ones."""

    def pretend(*names: str) -> None:
        ours = plugins.entry_points(group=plugins.GROUP)
        others = [
            EntryPoint(name.lower(), f"{Thirteenth.__module__}:{name}", plugins.GROUP)
            for name in names
        ]
        monkeypatch.setattr(plugins, "entry_points", lambda group: [*ours, *others])
        for entry, name in zip(others, names, strict=True):
            loaded = {"Thirteenth": Thirteenth, "Impostor": Impostor, "Shapeless": Shapeless}
            if name in loaded:
                _LOADED[entry.value] = loaded[name]
        monkeypatch.setattr(EntryPoint, "load", _load)

    plugins.plugged_in.cache_clear()
    yield pretend
    plugins.plugged_in.cache_clear()


_LOADED: dict[str, type] = {}


def _load(entry: EntryPoint) -> type:
    if entry.value not in _LOADED:
        raise ImportError(f"No module named {entry.module!r}")
    return _LOADED[entry.value]


def test_a_plugins_detector_sees_every_run(install) -> None:  # type: ignore[no-untyped-def]
    install("Thirteenth")
    trainer = Trainer(engine=Engine(make_detectors=plugins.make_detectors))
    found = signals(trainer.train([1.0] * 250))
    assert [signal.step for signal in found] == [13, 113, 213]


@pytest.mark.parametrize(
    ("name", "why"),
    [("Missing", "No module"), ("Shapeless", "lacks name"), ("Impostor", "'divergence' is taken")],
)
def test_one_that_is_broken_is_left_out_and_told_of(
    install,
    name: str,
    why: str,
    caplog: pytest.LogCaptureFixture,  # type: ignore[no-untyped-def]
) -> None:
    install(name, "Thirteenth")
    with caplog.at_level(logging.ERROR):
        trainer = Trainer(engine=Engine(make_detectors=plugins.make_detectors))
    assert len(signals(trainer.train([1.0] * 50))) == 1
    assert name.lower() in caplog.text
    assert why in caplog.text


def test_without_plugins_there_are_the_built_in_ones() -> None:
    assert plugins.plugged_in() == ()
