"""Hooks on an optimizer's step that a compiled step leaves out of its graph."""

from collections.abc import Callable
from typing import Any

import torch


def untraced(call: Callable[[torch.optim.Optimizer], None]) -> Callable[..., None]:
    """A hook that calls `call(optimizer)`, of a compiled step too, and is no part of its graph.

    It must stay on the optimizer for as long as the step is used: a compiled one would be compiled
    again without it.
    """
    # Slower, and wanted only there.
    outside = torch.compiler.disable(call)  # type: ignore[no-untyped-call]

    def hook(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        if torch.compiler.is_compiling():
            outside(optimizer)
        else:
            call(optimizer)

    return hook
