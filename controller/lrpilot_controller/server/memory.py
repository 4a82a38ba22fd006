"""How the daemon's process deals with memory: seldom collected, and flat."""

import asyncio
import ctypes
import gc

GC_THRESHOLD = 20_000, 20, 50
COLLECT_S = 120.0
M_ARENA_MAX = -8  # of glibc's malloc.h


def settle_in() -> None:
    """Set up the process, before it starts threads."""
    _collect_seldom()
    share_one_heap()


def _collect_seldom() -> None:
    """Let Python look for cycles less often: samples make none, and a look at what hundreds of runs
    hold costs a tenth of the time and delays everybody."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLD)


async def collect_now_and_then() -> None:
    """Collect all of it every two minutes, until cancelled.

    Python itself waits until a quarter of all that lives was made since the last time. A look takes
    some tenths of a second where a thousand runs are live.
    """
    while True:
        await asyncio.sleep(COLLECT_S)
        gc.collect()


def share_one_heap() -> bool:
    """Let all threads allocate from one heap; False where the C library is not glibc.

    glibc gives each thread a heap of its own, which keeps what it has once grown to. The daemon's
    threads take turns at large work (loading, writing, thinning), so that each heap grew by itself:
    over ten million samples to 98 MiB in all, and with one heap to 92. Python's own lock
    lets hardly two of them allocate at a time anyway.
    """
    try:
        return bool(ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1))
    except (AttributeError, OSError, TypeError):
        return False
