"""How many jobs of 100 steps per second one core's daemon holds, journal and detectors on.

The real daemon alone on one core, simulated trainers on another: each with a connection and a
stream of its own, batches at the client's own pace (which a busy daemon slows down), and a snapshot
whenever the last one was proven. Ends at the first number of jobs that is too many: its sessions
do not open within a minute, the core is full, or acknowledgements take over a second. By thread:
the event loop with the engines, the journal's writer, and gRPC's. Linux only, on two cores or more.
"""

import tempfile
import time
from pathlib import Path
from typing import Any

from tests.benchmarks._fleet import RATE, FleetProcess, cpu_by_thread, memory_mib, pinned
from tests.benchmarks._report import middle, save, table

from support.daemon import Daemon

JOBS = (10, 100, 200, 300, 500, 700, 1000)
SETTLE_WINDOWS = 2  # in which the daemon finds the pace that it asks for
WINDOWS = 3
WINDOW_S = 4.0
TOO_SLOW_MS = 1000.0  # of a p99; what is quick enough, the table lets a reader judge
TOO_BUSY = 0.98


def main() -> dict[str, Any]:
    """Run it: four minutes, five on a machine that has other work."""
    rows = []
    for jobs in JOBS:
        try:
            rows.append(measure(jobs))
        except RuntimeError as error:
            print(f"{jobs} jobs: {error}, so that many are too many", flush=True)
            break
        if rows[-1]["ack_p99_ms"] > TOO_SLOW_MS or rows[-1]["daemon_cpu"] > TOO_BUSY:
            break
    table(
        f"one daemon core, jobs of {RATE:g} steps/s (medians of {WINDOWS} windows)",
        ("jobs", "daemon CPU", "us/sample", "loop", "journal", "gRPC", "asks ms",
         "ack p50 ms", "p99 ms", "RSS MiB", "generator CPU"),
        [
            (r["jobs"], r["daemon_cpu"], r["us_per_sample"], r["loop_cpu"], r["journal_cpu"],
             r["grpc_cpu"], r["flush_ms"], r["ack_p50_ms"], r["ack_p99_ms"], r["rss_mib"],
             r["generator_cpu"])
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
    keys = [key for key in windows[0] if key not in ("seconds", "acks", "decisions")]
    row: dict[str, Any] = {key: round(middle([w[key] for w in windows]), 3) for key in keys}
    row["us_per_message"] = round(1e6 * row["daemon_cpu"] / row["messages_per_s"], 1)
    row["us_per_sample"] = round(1e6 * row["daemon_cpu"] / row["samples_per_s"], 2)
    row["journal_mib"] = round(journal / 2**20, 2)
    return {"jobs": jobs, **row, "windows": windows}


def _windows(daemon: Daemon, jobs: int) -> list[dict[str, Any]]:
    assert daemon.process is not None
    pid = daemon.process.pid
    fleet = FleetProcess(daemon.address, jobs, WINDOW_S)
    try:
        windows = []
        for _ in range(SETTLE_WINDOWS + WINDOWS):
            begin, before = time.monotonic(), cpu_by_thread(pid)
            window = fleet.line()
            took, after = time.monotonic() - begin, cpu_by_thread(pid)
            used = {name: (after[name] - before.get(name, 0.0)) / took for name in after}
            loop, journal, total = used["loop"], used["journal"], sum(used.values())
            window |= {"daemon_cpu": total, "loop_cpu": loop, "journal_cpu": journal}
            window |= {"grpc_cpu": total - loop - journal, "rss_mib": memory_mib(pid)}
            windows.append(window)
        return windows[SETTLE_WINDOWS:]
    finally:
        fleet.end()
