"""Lightning has two names, `pytorch_lightning` and `lightning`, and a class tree under each."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

NAMES = ("lightning.pytorch", "pytorch_lightning")

# Hooks of each step. Lightning prepares the call of an empty one too, which costs more than most
# that do something; it leaves one out that is None.
IN_STEP = (
    "on_before_zero_grad", "on_before_backward", "on_after_backward", "on_before_optimizer_step",
)  # fmt: skip

if TYPE_CHECKING:
    import lightning.pytorch
    import pytorch_lightning

    class Guest(lightning.pytorch.Callback, pytorch_lightning.Callback):  # type: ignore[misc]
        """A callback for the trainers of both."""
else:

    def _callbacks() -> tuple[type, ...]:
        """The `Callback` of each that can be imported; the second one costs a tenth of a second."""
        found, missing = [], None
        for name in NAMES:
            try:
                found.append(import_module(name).Callback)
            except ImportError as error:
                missing = error
        if not found:
            raise ModuleNotFoundError(
                'Lightning cannot be imported: pip install "lrpilot[lightning]"', name=NAMES[-1]
            ) from missing
        return tuple(found)

    class Guest(*_callbacks()):
        """A callback for the trainers of both: each wants one of its own tree."""

        def __init__(self) -> None:
            super().__init__()
            for name in IN_STEP:
                empty = {getattr(kind, name) for kind in Guest.__bases__}
                if getattr(type(self), name) in empty:  # else a child of ours has a use for it
                    setattr(self, name, None)


def callbacks_named(trainer: Any, name: str) -> list[Any]:
    """The callbacks of a trainer that are a Lightning class of this name, in either tree."""
    return [
        one
        for one in trainer.callbacks
        if any(
            kind.__name__ == name and kind.__module__.startswith(NAMES)
            for kind in type(one).__mro__
        )
    ]
