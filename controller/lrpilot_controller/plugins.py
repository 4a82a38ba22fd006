"""Detectors of other packages: the entry points of the group `lrpilot.detectors`.

A detector is a class that can be called without arguments and has the shape of
`core.detectors.Detector`. One that cannot be loaded is left out and told of once: a run is watched
by the others.
"""

import logging
from collections.abc import Callable
from functools import cache
from importlib.metadata import EntryPoint, entry_points

from lrpilot_controller.core.detectors import Detector, Detectors

log = logging.getLogger(__name__)

GROUP = "lrpilot.detectors"
OURS = "lrpilot_controller."


def make_detectors(total_steps: int | None, steps_per_epoch: int | None) -> Detectors:
    """The built-in detectors and those of plugins, for one run."""
    extra = [make() for make in plugged_in()]
    return Detectors(total_steps, steps_per_epoch, extra=extra)


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
