"""A component's state, as plain JSON values, and the component back in it."""

from collections.abc import Mapping
from functools import cache
from typing import Any, Self, get_type_hints

from lrpilot_controller.core.plain import reader, to_plain


class Stateful:
    """Something whose state is the attributes that its class body annotates, and no others.

    What it shares with others or was made with (a view, a policy, settings) is annotated nowhere
    there. A state is read back whole or not at all: a field more or less is another version's.
    """

    __slots__ = ()

    def state_dict(self) -> dict[str, Any]:
        """Everything that what follows depends on, as plain JSON values."""
        return {name: to_plain(getattr(self, name)) for name in self._fields()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go back to a state that `state_dict` gave; parts that are there go back in place.

        Raises:
            ValueError: it is not a state of this class. Some of it may be in force already.
        """
        hints = self._fields()
        if not isinstance(state, Mapping) or set(state) != set(hints):
            names = sorted(state) if isinstance(state, Mapping) else state
            raise ValueError(f"not a state of {type(self).__name__}: {names!r}")
        for name, hint in hints.items():
            part: Any = getattr(self, name, None)
            if isinstance(part, Stateful):
                part.load_state_dict(state[name])
            elif hasattr(part, "load_state_dict"):  # a detector's says itself what is in it
                part.load_state_dict(reader(Any)(state[name]))
            else:
                setattr(self, name, reader(hint)(state[name]))

    @classmethod
    @cache
    def _fields(cls) -> dict[str, Any]:
        return get_type_hints(cls)

    @classmethod
    def from_state(cls, state: Any) -> Self:
        """One in this state; for a class that is made of nothing else.

        Raises:
            ValueError: it is not a state of this class.
        """
        made = cls.__new__(cls)
        made.load_state_dict(state)
        return made
