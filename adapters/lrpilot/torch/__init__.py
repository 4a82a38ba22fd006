"""LRPilot for PyTorch loops.

Importing this package imports no torch; what it exports does.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lrpilot.torch.scheduler import PilotLR as PilotLR

__all__ = ["PilotLR"]


def __getattr__(name: str) -> Any:
    if name != "PilotLR":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from lrpilot.torch.scheduler import PilotLR

    return PilotLR
