"""Many simulated trainers in one process: what each would send, when its client would send it.

Run as `python -m tests.benchmarks._fleet ADDRESS JOBS WINDOW_S`; prints a line of JSON when all
jobs run (or did not within a minute: that is its last), and one per window from then on.
"""

import asyncio
import contextlib
import json
import math
import os
import random
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
from tests.benchmarks._report import percentile

from lrpilot.client.timing import EAGER_S, Pace
from lrpilot.snapshots import DEFAULT_INTERVAL
from lrpilot_proto.v1 import model_pb2, session_pb2, session_pb2_grpc

RATE = 100.0  # steps per second of a job
LR = 0.1
# A channel of its own for each of them, as each job would have.
OPTIONS = (("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1))
HORIZON = 8192  # length of the loss curves, which then go round at their flat end
CURVES = 8
OPENINGS_PER_S = 100
OPENINGS_AT_ONCE = 32
OPENING_S = 60.0  # for all: a daemon that needs longer has too much to do
TRIES, CONNECT_S = 5, 3.0
# Beyond the eager second, in which flushes are more frequent than later.
SETTLE_S = EAGER_S + 1.0

Up, Down = session_pb2.TrainerMessage, session_pb2.ControllerMessage


def hello(name: str) -> Any:
    """The first message of a guarded run without a horizon, which takes the most snapshots."""
    return Up(
        hello=session_pb2.Hello(
            run=model_pb2.RunName(project="bench", name=name),
            attempt=f"{name}-1",
            client_version="0",
            groups=[session_pb2.ParamGroup(name="all", base_lr=LR)],
            optimizer="SGD",
            mode="MODE_AUTO",
            min_lr=LR * 1e-4,
            max_lr=LR,
            capabilities=session_pb2.Capabilities(snapshot=True, stop=True),
            world_size=1,
            oldest_seq=1,
        )
    )


def batch(first_step: int, losses: Sequence[float], branch: int = 0) -> Any:
    """Consecutive train losses; step k has seq k + 1."""
    count = len(losses)
    return Up(
        telemetry=session_pb2.Telemetry(
            first_seq=first_step + 1,
            kind=[session_pb2.ITEM_KIND_TRAIN] * count,
            step=range(first_step, first_step + count),
            branch=[branch] * count,
            program=[0] * count,
            loss=losses,
            lrs=[LR],
        )
    )


def snapshot(number: int, step: int) -> Any:
    """The report of a snapshot; the first one is the state the run starts with."""
    return Up(
        report=session_pb2.Report(
            report_seq=number,
            before_seq=step + 1,
            snapshot=session_pb2.SnapshotTaken(id=number, step=step, proven=number == 1),
        )
    )


def descents() -> list[list[float]]:
    """Healthy curves, with the noise of a minibatch."""
    found = []
    for seed in range(CURVES):
        rng = random.Random(seed)
        found.append([0.5 + 2 * math.exp(-k / 1000) + rng.gauss(0, 0.02) for k in range(HORIZON)])
    return found


class Job:
    """One trainer at `RATE` steps per second."""

    def __init__(self, fleet: "Fleet", index: int) -> None:
        self._fleet = fleet
        self._name = f"job{index}-{os.getpid()}"
        self._losses = fleet.curves[index % CURVES]
        self._step = 0  # steps sent
        self._snapshots = 0
        self._proven = 0
        self._next_snapshot = 0
        self._reports: list[tuple[int, Any]] = []  # that wait for a flush, each before its step
        self._sent: deque[tuple[int, float]] = deque()
        self._pace = Pace()

    async def run(self, ready: asyncio.Event) -> None:
        """Train until cancelled."""
        for _ in range(TRIES):
            async with grpc.aio.insecure_channel(self._fleet.address, options=OPTIONS) as channel:
                try:
                    await asyncio.wait_for(channel.channel_ready(), CONNECT_S)
                except TimeoutError:
                    self._fleet.reconnects += 1  # as the client would
                    continue
                await self._hold(session_pb2_grpc.SessionServiceStub(channel).Session(), ready)

    async def _hold(self, call: Any, ready: asyncio.Event) -> None:
        await call.write(hello(self._name))
        welcome = await call.read()
        assert welcome.WhichOneof("body") == "welcome"
        self._pace.asked(welcome.flush_ms)
        ready.set()
        listening = asyncio.create_task(self._listen(call))
        try:
            await self._train(call)
        finally:
            listening.cancel()

    async def _train(self, call: Any) -> None:
        start = time.monotonic()
        self._pace.opened(start)
        self._take_snapshot(0)
        while True:
            now = time.monotonic()
            done = int((now - start) * RATE)
            may = self._proven == self._snapshots
            if may and done >= self._next_snapshot:
                self._take_snapshot(max(self._step, self._next_snapshot))
            wait = self._pace.due(now, urgent=False)
            if wait <= 0:
                await self._flush(call, done)
            elif may:
                await asyncio.sleep(max(0.001, min(wait, start + self._next_snapshot / RATE - now)))
            else:
                await asyncio.sleep(wait)

    def _take_snapshot(self, step: int) -> None:
        self._snapshots += 1
        if self._snapshots == 1:
            self._proven = 1
        self._next_snapshot = step + DEFAULT_INTERVAL
        self._reports.append((step, snapshot(self._snapshots, step)))

    async def _flush(self, call: Any, done: int) -> None:
        now = time.monotonic()
        for step, report in self._reports:
            await self._send(call, step, now)
            await call.write(report)
            self._fleet.sent += 1
        self._reports.clear()
        await self._send(call, done, now)
        self._pace.flushed(now)

    async def _send(self, call: Any, done: int, now: float) -> None:
        count = done - self._step
        if count <= 0:
            return
        begin = self._step % (HORIZON - 4096)
        message = batch(self._step, self._losses[begin : begin + count])
        self._step = done
        self._sent.append((done, now))
        await call.write(message)
        self._fleet.sent += 1
        self._fleet.samples += count

    async def _listen(self, call: Any) -> None:
        while (message := await call.read()) is not grpc.aio.EOF:
            now = time.monotonic()
            self._pace.asked(message.flush_ms)
            self._fleet.flush_ms = message.flush_ms
            while self._sent and self._sent[0][0] <= message.acked_seq:
                self._fleet.latencies.append(now - self._sent.popleft()[1])
            body = message.WhichOneof("body")
            if body == "proven":
                self._proven = message.proven.id
            elif body == "decision":
                self._fleet.decisions += 1


class Fleet:
    """All jobs, and what they measured since the last window began."""

    def __init__(self, address: str, jobs: int) -> None:
        self.address = address
        self.curves = descents()
        self.latencies: list[float] = []
        self.reconnects = 0
        self.sent = 0
        self.samples = 0
        self.flush_ms = 0  # as the daemon asked last
        self.decisions = 0
        self._jobs = [Job(self, index) for index in range(jobs)]

    async def run(self, window_s: float) -> None:
        """Print a line per window until cancelled."""
        try:
            tasks = await self._open()
        except RuntimeError as error:
            print(json.dumps({"failed": str(error)}), flush=True)
            return
        await asyncio.sleep(SETTLE_S)
        print(json.dumps({"jobs": len(tasks)}), flush=True)
        while True:
            self.latencies.clear()
            self.sent = self.samples = 0
            begin, cpu = time.monotonic(), time.process_time()
            await asyncio.sleep(window_s)
            took = time.monotonic() - begin
            for task in tasks:
                if task.done():
                    task.result()
            print(json.dumps(self._window(took, time.process_time() - cpu)), flush=True)

    async def _open(self) -> list["asyncio.Task[None]"]:
        """Open all sessions, some at once as independent trainers do."""
        tasks, welcomed = [], []
        try:
            async with asyncio.timeout(OPENING_S):
                for job in self._jobs:
                    ready = asyncio.Event()
                    tasks.append(asyncio.create_task(job.run(ready)))
                    welcomed.append(asyncio.create_task(ready.wait()))
                    await asyncio.sleep(1 / OPENINGS_PER_S)
                    if sum(not one.done() for one in welcomed) > OPENINGS_AT_ONCE:
                        await asyncio.wait(
                            [one for one in welcomed if not one.done()],
                            return_when=asyncio.FIRST_COMPLETED,
                        )
                await asyncio.gather(*welcomed)
        except TimeoutError:
            opened = sum(one.done() and not one.cancelled() for one in welcomed)
            raise RuntimeError(f"{opened} sessions were open after {OPENING_S:g} s") from None
        return tasks

    def _window(self, took: float, cpu: float) -> dict[str, Any]:
        found = self.latencies or [math.inf]
        return {
            "seconds": round(took, 3),
            "messages_per_s": round(self.sent / took, 1),
            "samples_per_s": round(self.samples / took),
            "flush_ms": self.flush_ms,
            "reconnects": self.reconnects,
            "ack_p50_ms": round(1000 * percentile(found, 0.5), 2),
            "ack_p99_ms": round(1000 * percentile(found, 0.99), 2),
            "acks": len(self.latencies),
            "decisions": self.decisions,
            "generator_cpu": round(cpu / took, 3),
        }


# -- for those who start a fleet


@contextmanager
def pinned(core: int) -> Iterator[None]:
    """Child processes that start meanwhile stay on one core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {sorted(before)[core % len(before)]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class FleetProcess:
    """A fleet beside this process."""

    def __init__(self, address: str, jobs: int, window_s: float) -> None:
        command = [sys.executable, "-m", "tests.benchmarks._fleet", address, str(jobs)]
        root = Path(__file__).parents[2]
        with pinned(1):
            self._process = subprocess.Popen(
                [*command, str(window_s)], stdout=subprocess.PIPE, text=True, cwd=root
            )
        try:
            self.line()  # all jobs run
        except RuntimeError:
            self.end()
            raise

    def line(self) -> dict[str, Any]:
        """The next window, once it is over."""
        assert self._process.stdout is not None
        text = self._process.stdout.readline()
        found: dict[str, Any] = json.loads(text or '{"failed": "the load generator ended"}')
        if "failed" in found:
            raise RuntimeError(found["failed"])
        return found

    def end(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


def cpu_seconds(pid: int) -> float:
    """CPU time that a process has used, its threads included."""
    return sum(cpu_by_thread(pid).values())


def cpu_by_thread(pid: int) -> dict[str, float]:
    """CPU seconds that a daemon's threads have used: its loop, its journal, and all others.

    The loop's is the first thread, the journal's the one that was started first.
    """
    used: dict[str, float] = {"loop": 0.0, "journal": 0.0, "others": 0.0}
    tasks = sorted(Path(f"/proc/{pid}/task").iterdir(), key=lambda task: int(task.name))
    for place, task in enumerate(tasks):
        fields = (task / "stat").read_text().rpartition(")")[2].split()
        seconds = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        used[("loop", "journal")[place] if place < 2 else "others"] += seconds
    return used


def memory_mib(pid: int) -> float:
    """Resident memory of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(Fleet(sys.argv[1], int(sys.argv[2])).run(float(sys.argv[3])))
