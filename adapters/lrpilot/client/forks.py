"""What happens to the agents of a process when it forks and when it ends."""

import atexit
import os
from typing import Protocol

EXIT_DRAIN_S = 0.8


class _Agent(Protocol):
    def disarm(self) -> None: ...
    def close(self, timeout_s: float = 2.0) -> None: ...


_living: "set[_Agent]" = set()
# In a child: agents of the parent. What they hold must never be closed or collected there.
_inherited: "list[_Agent]" = []


def remember(agent: "_Agent") -> None:
    """Disarm `agent` in every child, and drain it at interpreter exit."""
    _living.add(agent)


def forget(agent: "_Agent") -> None:
    """The agent is closed."""
    _living.discard(agent)


def _after_fork_in_child() -> None:
    _inherited.extend(_living)
    _living.clear()
    for agent in _inherited:
        agent.disarm()


def _at_exit() -> None:
    for agent in list(_living):
        agent.close(EXIT_DRAIN_S)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
atexit.register(_at_exit)
