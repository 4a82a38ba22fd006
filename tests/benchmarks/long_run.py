"""Ten million samples through one daemon: its memory, its journal, how soon people are answered.

The real daemon on one core with its own thinning, some jobs on another that send 4096 samples at a
time as fast as the daemon takes them. Linux only. Writes `results/long_run.json`.
"""

import asyncio
import random
import resource
import struct
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc
from tests.benchmarks._fleet import OPTIONS, batch, cpu_seconds, hello, memory_mib, pinned
from tests.benchmarks._report import middle, save, table

from lrpilot_proto.v1 import session_pb2_grpc
from support.daemon import Daemon, cli

SAMPLES = 10_000_000
JOBS = 2
BATCH = 4096
UNDER_WAY = 2  # batches of a job that are not acknowledged yet
MARKS = 10  # looks at the daemon
MAX_JOURNAL_MIB = 24
ASKED = 3  # times each command is run
CONFIG = f"""
[server]
samples_per_second = 1_000_000
max_journal_mib = {MAX_JOURNAL_MIB}
"""


def main() -> dict[str, Any]:
    """Run it: some minutes."""
    with tempfile.TemporaryDirectory(prefix="lrp") as folder:
        config = Path(folder) / "lrpilot.toml"
        config.write_text(CONFIG)
        daemon = Daemon(Path(folder))
        with pinned(0):
            daemon.start("--config", str(config))
        try:
            marks = asyncio.run(_send(daemon))
            answers = [_ask(daemon, command) for command in ("runs", "show", "replay")]
            telemetry = daemon.story(_name(0))["telemetry"]
        finally:
            daemon.kill()
    table(
        f"one daemon, {JOBS} jobs, keep_samples 200,000, max_journal_mib {MAX_JOURNAL_MIB}",
        ("samples", "RSS MiB", "journal MiB", "samples/s"),
        [(m["samples"], m["rss_mib"], m["journal_mib"], m["samples_per_s"]) for m in marks],
    )
    table(
        "answers after that, beside the daemon (medians, with the start of the command)",
        ("command", "seconds", "of CPU time"),
        [(a["command"], a["seconds"], a["cpu_s"]) for a in answers],
    )
    print(f"of one job: {telemetry}")
    grown = max(m["rss_mib"] for m in marks) / marks[0]["rss_mib"] - 1
    figures = {
        "samples": SAMPLES,
        "jobs": JOBS,
        "max_journal_mib": MAX_JOURNAL_MIB,
        "rss_growth": round(grown, 4),
        "largest_journal_mib": max(m["journal_mib"] for m in marks),
        "marks": marks,
        "answers": answers,
        "telemetry_of_one_job": telemetry,
    }
    return save("long_run", figures)


def _name(job: int) -> str:
    return f"bench/long{job}"


async def _send(daemon: Daemon) -> list[dict[str, Any]]:
    """Send everything; what the daemon was at each tenth of it."""
    sent = [0] * JOBS
    jobs = [asyncio.create_task(_job(daemon.address, job, sent)) for job in range(JOBS)]
    marks: list[dict[str, Any]] = []
    begin, before = time.monotonic(), 0
    while len(marks) < MARKS:
        await asyncio.sleep(0.1)
        for task in jobs:
            if task.done():
                task.result()
        total = sum(sent)
        if total >= SAMPLES * (len(marks) + 1) // MARKS:
            now = time.monotonic()
            marks.append(_mark(daemon, total, (total - before) / (now - begin)))
            print(marks[-1], flush=True)
            begin, before = now, total
    await asyncio.gather(*jobs)
    return marks


async def _job(address: str, job: int, sent: list[int]) -> None:
    """A run of one part of the samples, told batch by batch."""
    losses = _losses(job)
    async with grpc.aio.insecure_channel(address, options=OPTIONS) as channel:
        call = session_pb2_grpc.SessionServiceStub(channel).Session()
        await call.write(hello(_name(job).removeprefix("bench/")))
        step = acked = 0
        while acked < SAMPLES // JOBS:
            if step < SAMPLES // JOBS and step - acked < UNDER_WAY * BATCH:
                begin = step % (len(losses) - BATCH)
                await call.write(batch(step, losses[begin : begin + BATCH]))
                step += BATCH
                continue
            acked = (await call.read()).acked_seq
            sent[job] = acked


def _losses(seed: int) -> Sequence[float]:
    """A flat curve with the noise of a minibatch, as a framework's loss: float32."""
    rng = random.Random(seed)
    found = [0.5 + rng.gauss(0, 0.02) for _ in range(8 * BATCH)]
    return struct.unpack(f"{len(found)}f", struct.pack(f"{len(found)}f", *found))


def _mark(daemon: Daemon, total: int, rate: float) -> dict[str, Any]:
    assert daemon.process is not None
    pid = daemon.process.pid
    journal = sum(path.stat().st_size for path in daemon.storage.glob("journal.db*"))
    return {
        "samples": total,
        "rss_mib": round(memory_mib(pid), 1),
        "journal_mib": round(journal / 2**20, 2),
        "samples_per_s": round(rate),
        "cpu_s": round(cpu_seconds(pid), 1),
        "threads": len(list(Path(f"/proc/{pid}/task").iterdir())),
        "files": len(list(Path(f"/proc/{pid}/fd").iterdir())),
    }


def _ask(daemon: Daemon, command: str) -> dict[str, Any]:
    arguments = [] if command == "runs" else [_name(0)]
    took, used, said = [], [], ""
    for _ in range(ASKED):
        begin, cpu = time.perf_counter(), _children_cpu_s()
        said = cli(command, *arguments, "--storage", daemon.storage).stdout
        took.append(time.perf_counter() - begin)
        used.append(_children_cpu_s() - cpu)
    return {
        "command": command,
        "seconds": round(middle(took), 3),
        "cpu_s": round(middle(used), 3),
        "said": [line for line in said.splitlines() if "thinned" in line],
    }


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
