"""The port of the detectors: one loss report in, the signals it gives rise to out."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, Self, runtime_checkable

from lrpilot_controller.core.model import Signal

NO_SIGNALS: tuple[Signal, ...] = ()
"""What nearly every report gives rise to; shared, so that silence allocates nothing."""


@runtime_checkable
class Detector(Protocol):
    """Watches one run's losses, one report at a time.

    A detector is pure: the same calls give the same signals, it reads no clock and draws no random
    number. It is O(1) in memory and time. It takes any float, `nan` and infinities included, and
    stays finite inside. Its events do not depend on the scale or the offset of the loss:
    `a * loss + b` with `a > 0` gives the same ones.
    """

    name: str
    """The key of this detector in entry points and in saved states."""

    def update(
        self, step: int, train_loss: float | None, val_loss: float | None, lr: float | None
    ) -> Sequence[Signal]:
        """Takes one report.

        Args:
            step: The optimizer step that the report is about; may have gaps.
            train_loss: The training loss of that step, or None if it was not reported.
            val_loss: A validation loss measured after that step, or None.
            lr: The learning rate that the step used (the first group's), or None if unknown.

        Returns:
            The signals that this report gives rise to, mostly none.
        """
        ...

    def state_dict(self) -> dict[str, Any]:
        """Everything that later signals depend on, as plain JSON values."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes back to a state that `state_dict` gave; accepts it after a trip through JSON."""
        ...


class SlotState:
    """Saves and restores exactly the fields named in `_state`, in the way `Detector` asks for.

    A field may be a plain value, a list of such, or another `SlotState`.
    """

    __slots__ = ()
    _state: tuple[str, ...] = ()

    def state_dict(self) -> dict[str, Any]:
        """Everything that later signals depend on, as plain JSON values."""
        return {field: _plain(getattr(self, "_" + field)) for field in self._state}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes back to a state that `state_dict` gave.

        Raises:
            ValueError: The state names other fields than this class has; nothing was changed.
        """
        if set(state) != set(self._state):
            odd = sorted(set(state) ^ set(self._state))
            raise ValueError(f"not a state of {type(self).__name__}: {', '.join(odd)}")
        values = {field: self._restored(field, state[field]) for field in self._state}
        for field, value in values.items():
            setattr(self, "_" + field, value)

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """One in this state."""
        made = cls()
        made.load_state_dict(state)
        return made

    def _restored(self, field: str, value: Any) -> Any:
        kind = type(getattr(self, "_" + field))
        if not issubclass(kind, SlotState):
            return _plain(value)
        return kind.from_state(value)


def _plain(value: Any) -> Any:
    """A copy that later changes of the original do not reach."""
    if isinstance(value, SlotState):
        return value.state_dict()
    return list(value) if isinstance(value, list) else value
