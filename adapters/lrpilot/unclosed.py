"""Pilots that nobody closes: a script has no `with`, and its run ends with the process.

One that is dropped before sees to it itself (`Attempt.__del__`).
"""

import atexit
import contextlib
import os
import sys
import weakref
from typing import Protocol

# Its own handler at exit, which only drains, comes after ours: the last registered is called first.
from lrpilot.client import forks as _forks  # noqa: F401


class _Pilot(Protocol):
    def close(self, reason: str = "finished") -> None: ...


_open: "weakref.WeakSet[_Pilot]" = weakref.WeakSet()


def remember(pilot: _Pilot) -> None:
    """Close it when the process ends."""
    _open.add(pilot)


def forget(pilot: _Pilot) -> None:
    """It is closed."""
    _open.discard(pilot)


def how() -> str:
    """How a process ends: with an exception that nobody caught, or in good order."""
    return "finished" if getattr(sys, "last_value", None) is None else "error"


def _at_exit() -> None:
    for pilot in list(_open):
        with contextlib.suppress(Exception):
            pilot.close(how())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_open.clear)  # they are the parent's
atexit.register(_at_exit)
