"""Detectors of other packages: the entry points of the group `lrpilot.detectors`.

A detector is a class that can be called without arguments and has the shape of
`core.detectors.Detector`. One that cannot be loaded is left out and told of once: a run is watched
by the others. One that fails later fails its run: what was decided must not depend on whether it
did.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from lrpilot_controller.core.detectors import Detector, Detectors
from lrpilot_controller.core.model import Signal
from lrpilot_controller.core.plain import from_plain, to_plain
from lrpilot_controller.errors import DetectorFailed

log = logging.getLogger(__name__)

GROUP = "lrpilot.detectors"
OURS = "lrpilot_controller."


def make_detectors(total_steps: int | None, steps_per_epoch: int | None) -> Detectors:
    """The built-in detectors and those of plugins, for one run."""
    extra = [Guest(make()) for make in plugged_in()]
    return Detectors(total_steps, steps_per_epoch, extra=extra)


class Guest:
    """A stranger's detector: what it says is what a signal can be, and its failures have its name.

    The journal would keep a signal with a word for a number, and nobody could read it again.
    """

    def __init__(self, detector: Detector) -> None:
        self.name = detector.name
        self._detector = detector

    def update(
        self, step: int, train_loss: float | None, val_loss: float | None, lr: float | None
    ) -> Sequence[Signal]:
        """See `Detector.update`.

        Raises:
            DetectorFailed: it raised, or what it returned are no signals.
        """
        try:
            found = self._detector.update(step, train_loss, val_loss, lr)
            return [from_plain(Signal, to_plain(signal)) for signal in found] if found else ()
        except Exception as error:
            raise self._failure(error) from error

    def state_dict(self) -> dict[str, Any]:
        """See `Detector.state_dict`.

        Raises:
            DetectorFailed: it raised.
        """
        try:
            return self._detector.state_dict()
        except Exception as error:
            raise self._failure(error) from error

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See `Detector.load_state_dict`.

        Raises:
            ValueError: it does not take this state.
        """
        try:
            self._detector.load_state_dict(state)
        except Exception as error:
            raise ValueError(
                f"the detector {self.name!r} does not take its state: {error!r}"
            ) from error

    def _failure(self, error: Exception) -> DetectorFailed:
        return DetectorFailed(f"the detector {self.name!r} of another package: {error!r}")


@cache
def plugged_in() -> tuple[Callable[[], Detector], ...]:
    """What makes the detectors of plugins, in the order of their names."""
    found = [_loaded(entry) for entry in entry_points(group=GROUP) if not _is_ours(entry)]
    return tuple(make for make in found if make is not None)


def _is_ours(entry: EntryPoint) -> bool:
    return entry.value.startswith(OURS)


def _loaded(entry: EntryPoint) -> Callable[[], Detector] | None:
    try:
        make = entry.load()
        detector = make()
        if not isinstance(detector, Detector):
            raise TypeError("it lacks name, update, state_dict or load_state_dict")
        if detector.name in _names():
            raise ValueError(f"its name {detector.name!r} is taken by a built-in detector")
    except Exception as error:  # whatever a stranger's module does, the daemon goes on
        log.error("the detector %s (%s) is left out: %s", entry.name, entry.value, error)
        return None
    checked: Callable[[], Detector] = make
    return checked


def _names() -> set[str]:
    return set(Detectors().state_dict())
