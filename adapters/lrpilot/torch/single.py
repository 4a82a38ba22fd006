"""An optimizer has one pilot that writes its LRs: another one ends the run before."""

import logging
import weakref
from collections.abc import Sequence
from typing import Any

import torch

from lrpilot.pilot import Pilot

log = logging.getLogger("lrpilot")

_pilots: "weakref.WeakKeyDictionary[torch.optim.Optimizer, weakref.ref[Pilot]]"
_pilots = weakref.WeakKeyDictionary()


def end_earlier(optimizers: Sequence[Any]) -> None:
    """Close the pilots of these optimizers, as where a notebook's cell runs again, and say so."""
    for one in optimizers:
        known = _pilots.get(one) if isinstance(one, torch.optim.Optimizer) else None
        pilot = known() if known is not None else None
        if pilot is not None and not pilot.closed:
            log.warning(
                "LRPilot: this %s has a pilot already: run %s ends here; its LR stays as it is",
                type(one).__name__,
                pilot.summary().run,
            )
            pilot.close("stopped")


def own(optimizers: Sequence[torch.optim.Optimizer], pilot: Pilot) -> None:
    """From now on it is the pilot of these optimizers."""
    _pilots.update(dict.fromkeys(optimizers, weakref.ref(pilot)))
