"""A million fuzzed messages and 100,000 random byte strings at a real daemon's socket.

Beside them a well-behaved job of 200 steps per second. Reported: how sessions ended, the daemon's
memory after the first tenth (its caches fill until then, and some longer), at half-time and at the
end, and whether the job's samples are all in the journal. Linux only; ten minutes or more.
"""

import asyncio
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from tests.benchmarks._report import percentile, save, table

from support.daemon import Daemon
from support.fuzzed_port import Neighbour, byte_strings, fuzz_messages, memory_mib, throw
from support.sound import NAMED

MESSAGES, STRINGS = 1_000_000, 100_000
WARM = 0.1
STEPS = 20  # looks at the memory
SEED = 7
LIMITS = "[server]\nnew_sessions_per_minute = 1000000\n"


def main() -> dict[str, Any]:
    """Run it."""
    with tempfile.TemporaryDirectory(prefix="lrp") as folder:
        daemon = Daemon(Path(folder))
        config = Path(folder) / "lrpilot.toml"
        config.write_text(LIMITS)
        daemon.start("--config", str(config))
        try:
            figures = asyncio.run(_measure(daemon))
            stored = daemon.seqs("neighbour")
            log = daemon.log_file.read_bytes()
        finally:
            daemon.kill()
    figures["neighbour"]["stored"] = len(stored)
    figures["neighbour"]["all_stored_once"] = stored == list(
        range(1, figures["neighbour"]["sent"] + 1)
    )
    figures["tracebacks_in_log"] = log.count(b"Traceback")
    figures["unnamed_ends"] = sorted(set(figures["sessions_ended"]) - NAMED)
    table("how fuzzed sessions ended", ("code", "sessions"), [*figures["sessions_ended"].items()])
    columns = ("phase", "sent", "seconds", "RSS warm MiB", "end MiB", "growth", "second half")
    rows = [tuple(row.values())[:7] for row in figures["phases"]]
    table("the daemon's memory", columns, rows)
    print({key: figures[key] for key in ("neighbour", "tracebacks_in_log", "unnamed_ends")})
    return save("fuzz", figures)


async def _measure(daemon: Daemon) -> dict[str, Any]:
    assert daemon.process is not None
    pid, over = daemon.process.pid, asyncio.Event()
    neighbour = Neighbour(daemon.address)
    beside = asyncio.create_task(neighbour.run(over))
    messages = _Phase("fuzzed messages", MESSAGES, pid)
    ends = await fuzz_messages(daemon.address, SEED, MESSAGES, messages.progress)
    strings = _Phase("random byte strings", STRINGS, pid)
    hung_up: Counter[str] = Counter()
    for i, raw in enumerate(byte_strings(SEED, STRINGS)):
        hung_up[await asyncio.to_thread(throw, daemon.socket, raw)] += 1
        strings.progress(i + 1)
    over.set()
    await beside
    waits = neighbour.waits
    return {
        "sessions_ended": dict(ends.most_common()),
        "connections_ended": dict(hung_up.most_common()),
        "phases": [messages.figures(), strings.figures()],
        "neighbour": {
            "sent": neighbour.steps,
            "ack_p50_ms": round(1000 * percentile(waits, 0.5), 1),
            "ack_p99_ms": round(1000 * percentile(waits, 0.99), 1),
            "ack_max_ms": round(1000 * max(waits), 1),
        },
        "daemon_alive": daemon.process.poll() is None,
    }


class _Phase:
    """Looks at the daemon's memory while something is thrown at it."""

    def __init__(self, name: str, total: int, pid: int) -> None:
        self._name, self._total, self._pid = name, total, pid
        self._begin = time.monotonic()
        self._done = 0
        self._looks: list[float] = []

    def progress(self, done: int) -> None:
        """So much is done."""
        self._done = done
        if done >= len(self._looks) * self._total / STEPS:
            self._looks.append(round(memory_mib(self._pid), 2))
            took = time.monotonic() - self._begin
            print(f"{self._name}: {done} in {took:.0f} s, RSS {self._looks[-1]} MiB", flush=True)

    def figures(self) -> dict[str, Any]:
        """What was seen."""
        warm, end = self._looks[int(WARM * STEPS)], round(memory_mib(self._pid), 2)
        half = self._looks[STEPS // 2]
        return {
            "phase": self._name,
            "sent": self._done,
            "seconds": round(time.monotonic() - self._begin, 1),
            "rss_warm_mib": warm,
            "rss_end_mib": end,
            "growth": round(end / warm - 1, 4),
            "growth_over_the_second_half": round(end / half - 1, 4),
            "rss_mib": self._looks,
        }
