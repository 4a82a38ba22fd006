"""Pilots that nobody closes: one that is dropped, and those of a process that ends.

A notebook runs a cell again, a script has no `with`: the run ends for the daemon all the same, and
leaves no thread behind.
"""

import atexit
import contextlib
import os
import sys
import threading
import weakref
from typing import Protocol

# Its own handler at exit, which only drains, comes after ours: the last registered is called first.
from lrpilot.client import forks as _forks  # noqa: F401
from lrpilot.client.base import Transport


class _Pilot(Protocol):
    def close(self, reason: str = "finished") -> None: ...


_open: "weakref.WeakSet[_Pilot]" = weakref.WeakSet()


def remember(pilot: _Pilot) -> None:
    """Close it when the process ends."""
    _open.add(pilot)


def forget(pilot: _Pilot) -> None:
    """It is closed."""
    _open.discard(pilot)


def end_soon(transport: Transport) -> None:
    """Deliver what a dropped pilot has said, and end its thread, without waiting for either."""
    if sys.is_finalizing():
        return  # no thread runs any more: a new one would be waited for, for ever
    threading.Thread(target=transport.close, name="lrpilot-end", daemon=True).start()


def _at_exit() -> None:
    failed = getattr(sys, "last_value", None) is not None
    for pilot in list(_open):
        with contextlib.suppress(Exception):
            pilot.close("error" if failed else "finished")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_open.clear)  # they are the parent's
atexit.register(_at_exit)
