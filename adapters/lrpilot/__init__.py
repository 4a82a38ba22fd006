"""LRPilot inside the training process: stream losses, apply decisions, never wait.

>>> import lrpilot
>>> with lrpilot.attach(optimizer, model=model, total_steps=N) as pilot:  # doctest: +SKIP
...     for batch in loader:
...         ...
...         pilot.step(loss)

Importing this package imports neither torch nor grpc; `attach` does.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lrpilot.pilot import Pilot as Pilot
    from lrpilot.torch.attach import attach as attach

__version__ = "0.1.0"
__all__ = ["Pilot", "__version__", "attach"]

_HOMES = {"attach": "lrpilot.torch.attach", "Pilot": "lrpilot.pilot"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
