"""What happens to the agents of a process when it forks and when it ends."""

import atexit
import logging
import os
import threading
from typing import Protocol

EXIT_DRAIN_S = 0.8
IMPORT_WAIT_S = 2.0

# Held while the agent thread imports grpc. A child forked in the middle of that would have half
# of the module, and a lock on the rest that nobody releases.
importing = threading.Lock()
_fork_holds_importing = False


class _Agent(Protocol):
    def disarm(self) -> None: ...
    def close(self, timeout_s: float = 2.0) -> None: ...


_living: "set[_Agent]" = set()
# In a child: agents of the parent. Their channels must never be closed or collected there.
_inherited: "list[_Agent]" = []


def remember(agent: "_Agent") -> None:
    """Disarm `agent` in every child, and drain it at interpreter exit."""
    _living.add(agent)


def forget(agent: "_Agent") -> None:
    """The agent is closed."""
    _living.discard(agent)


def _before_fork() -> None:
    global _fork_holds_importing
    if importing.acquire(timeout=IMPORT_WAIT_S):
        _fork_holds_importing = True


def _after_fork() -> None:
    global _fork_holds_importing
    if _fork_holds_importing:
        _fork_holds_importing = False
        importing.release()


def _after_fork_in_child() -> None:
    _after_fork()
    _inherited.extend(_living)
    _living.clear()
    for agent in _inherited:
        agent.disarm()


def _at_exit() -> None:
    for agent in list(_living):
        agent.close(EXIT_DRAIN_S)


# Hooks before a fork run in reverse order. Were logging's to run first, the import that we wait for
# would wait for the lock that logging holds.
assert logging.root
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork,
        after_in_child=_after_fork_in_child,
    )
atexit.register(_at_exit)
