"""How many jobs of 100 steps per second one core's daemon holds, journal and detectors on.

The real daemon alone on one core, simulated trainers on another: each with a connection and a
stream of its own, batches at the client's own pace, and a snapshot whenever the last one was
proven. Ends at the first number of jobs that is too many. Linux only, on two cores or more.
"""

import tempfile
import time
from pathlib import Path
from typing import Any

from tests.benchmarks._fleet import RATE, FleetProcess, cpu_seconds, memory_mib, pinned
from tests.benchmarks._report import middle, save, table

from support.daemon import Daemon

JOBS = (10, 50, 100, 150, 200, 300, 400, 500)  # the daemon takes 512 sessions at most
WINDOWS = 3
WINDOW_S = 4.0
TOO_SLOW_MS = 250.0
TOO_BUSY = 0.95


def main() -> dict[str, Any]:
    """Run it: two or three minutes."""
    rows = []
    for jobs in JOBS:
        rows.append(measure(jobs))
        if rows[-1]["ack_p99_ms"] > TOO_SLOW_MS or rows[-1]["daemon_cpu"] > TOO_BUSY:
            break
    table(
        f"one daemon core, jobs of {RATE:g} steps/s (medians of {WINDOWS} windows)",
        ("jobs", "daemon CPU", "us/message", "ack p50 ms", "p99 ms", "RSS MiB", "generator CPU"),
        [
            (r["jobs"], r["daemon_cpu"], r["us_per_message"], r["ack_p50_ms"], r["ack_p99_ms"],
             r["rss_mib"], r["generator_cpu"])
            for r in rows
        ],
    )  # fmt: skip
    return save("daemon_load", {"steps_per_s": RATE, "window_s": WINDOW_S, "loads": rows})


def measure(jobs: int) -> dict[str, Any]:
    """A fresh daemon under `jobs` trainers."""
    with tempfile.TemporaryDirectory(prefix="lrp") as folder:
        daemon = Daemon(Path(folder))
        with pinned(0):
            daemon.start()
        try:
            windows = _windows(daemon, jobs)
            journal = sum(path.stat().st_size for path in daemon.storage.glob("journal.db*"))
        finally:
            daemon.kill()
    keys = (
        "messages_per_s",
        "samples_per_s",
        "flush_ms",
        "ack_p50_ms",
        "ack_p99_ms",
        "daemon_cpu",
        "rss_mib",
        "generator_cpu",
    )
    row: dict[str, Any] = {key: round(middle([w[key] for w in windows]), 3) for key in keys}
    row["us_per_message"] = round(1e6 * row["daemon_cpu"] / row["messages_per_s"], 1)
    row["journal_mib"] = round(journal / 2**20, 2)
    return {"jobs": jobs, **row, "windows": windows}


def _windows(daemon: Daemon, jobs: int) -> list[dict[str, Any]]:
    assert daemon.process is not None
    pid = daemon.process.pid
    fleet = FleetProcess(daemon.address, jobs, WINDOW_S)
    try:
        windows = []
        for _ in range(WINDOWS):
            begin, cpu = time.monotonic(), cpu_seconds(pid)
            window = fleet.line()
            used = (cpu_seconds(pid) - cpu) / (time.monotonic() - begin)
            windows.append(window | {"daemon_cpu": round(used, 3), "rss_mib": memory_mib(pid)})
        return windows
    finally:
        fleet.end()
