"""From a blow-up's last batch to the decision, seen from the trainer's side of the socket.

A trainer of its own sends healthy losses, then two that are no numbers; timed is from the write of
that batch until the decision is read, with other jobs at 100 steps/s in the background. In between
lie the detectors, the policy, the guardrails and two commits of the journal. The trainer's client
adds up to 5 ms before it, by which it holds back urgent flushes; evidence that is not urgent waits
for the flush, which a busy daemon may delay by up to two seconds. Ends at the first number of
jobs that the daemon does not hold.
"""

import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import grpc
from tests.benchmarks._fleet import OPTIONS, FleetProcess, batch, descents, hello, pinned, snapshot
from tests.benchmarks._report import percentile, save, table

from lrpilot_proto.v1 import session_pb2_grpc
from support.daemon import Daemon

BACKGROUND = (1, 10, 100, 300, 1000)
BLOW_UPS = 60
HEALTHY = 75
LOSSES = descents()[0][:HEALTHY]
NAN = float("nan")
PAUSE_S = 0.05
DEADLINE_S = 30.0


def main() -> dict[str, Any]:
    """Run it: three minutes."""
    rows = []
    for jobs in BACKGROUND:
        try:
            rows.append(measure(jobs))
        except (RuntimeError, grpc.RpcError) as error:
            print(f"{jobs} jobs beside it are too many: {error!r}", flush=True)
            break
    table(
        f"blow-up to decision, ms ({BLOW_UPS} blow-ups each)",
        ("jobs in the background", "p50", "p99", "worst"),
        [(r["background_jobs"], r["p50_ms"], r["p99_ms"], r["worst_ms"]) for r in rows],
    )
    return save("decision_latency", {"blow_ups": BLOW_UPS, "loads": rows})


def measure(jobs: int) -> dict[str, Any]:
    """`BLOW_UPS` runs, one after another, beside `jobs` others; daemon alone on one core."""
    with tempfile.TemporaryDirectory(prefix="lrp") as folder:
        daemon = Daemon(Path(folder))
        with pinned(0):
            daemon.start()
        fleet = FleetProcess(daemon.address, jobs, window_s=3600.0)
        try:
            with pinned(1):
                found = [_blow_up(daemon.address, number) for number in range(BLOW_UPS)]
        finally:
            fleet.end()
            daemon.kill()
    ms = [1000 * seconds for seconds in found]
    return {
        "background_jobs": jobs,
        "p50_ms": round(percentile(ms, 0.5), 2),
        "p99_ms": round(percentile(ms, 0.99), 2),
        "worst_ms": round(max(ms), 2),
        "all_ms": [round(value, 2) for value in ms],
    }


def _blow_up(address: str, number: int, prefix: str = "blown") -> float:
    """Seconds from the write of the batch that completes the evidence to its decision."""
    times: list[float] = []
    healthy, over = threading.Event(), threading.Event()

    def requests() -> Any:
        yield hello(f"{prefix}{number}")
        yield snapshot(1, 0)
        yield batch(0, LOSSES)
        healthy.wait(DEADLINE_S)
        time.sleep(PAUSE_S)
        fatal = batch(HEALTHY, [NAN, NAN])
        times.append(time.perf_counter())
        yield fatal
        over.wait(DEADLINE_S)

    with grpc.insecure_channel(address, options=OPTIONS) as channel:
        stub = session_pb2_grpc.SessionServiceStub(channel)  # type: ignore[no-untyped-call]
        call = stub.Session(requests(), timeout=DEADLINE_S)
        for message in call:
            if message.acked_seq >= HEALTHY:
                healthy.set()
            if message.WhichOneof("body") == "decision" and message.decision.restore_snapshot:
                took = time.perf_counter() - times[0]
                over.set()
                call.cancel()
                return took
    raise RuntimeError("the daemon ended the session without a decision")
