"""How soon a restarted daemon serves a run again, and what finished runs cost it.

From the start of the process to the first welcome of a run with so many samples in the journal,
whose daemon was killed: with the states that a daemon keeps, and without any. Then 100 runs that
come back at once; then 10,000 short runs one after the other, in a process of its own.
"""

import asyncio
import math
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc
from tests.benchmarks._fleet import OPTIONS, hello, memory_mib
from tests.benchmarks._report import middle, save, table

from lrpilot_controller.config import Config
from lrpilot_controller.core.events import Configured, Event, SaidGoodbye, SessionOpened
from lrpilot_controller.core.telemetry import Samples
from lrpilot_controller.journal import JournalWriter, MemoryJournal, RunKey, SqlJournal
from lrpilot_controller.journal.base import Entry
from lrpilot_controller.server import convert
from lrpilot_controller.server.loading import DUE, load, text_of
from lrpilot_controller.server.runs import Runs
from lrpilot_controller.server.upkeep import mark_lost
from lrpilot_proto.v1 import session_pb2_grpc
from support.daemon import Daemon
from support.journaled import NoLink, NoPriors

SAMPLES = (1_000, 100_000, 1_000_000)
BATCH = 100  # samples of a record, as a client sends them under load
FLEET, EACH = 100, 12_000
STARTS = 3
SHORT_RUNS = 10_000
AT_ONCE = 50


def main() -> dict[str, Any]:
    """Run it: three or four minutes."""
    rows = [_row(count, states) for count in SAMPLES for states in (True, False)]
    fleet = [_row(EACH, states, runs=FLEET) for states in (True, False)]
    table(
        f"a daemon that was killed, started again (medians of {STARTS})",
        ("samples", "runs", "states kept", "to its socket, s", "to the last welcome, ms"),
        [
            (r["samples"], r["runs"], r["states"], r["start_s"], r["welcome_ms"])
            for r in [*rows, *fleet]
        ],
    )
    short = _short_runs()
    print(f"{SHORT_RUNS} short runs: {short}")
    return save("restart", {"due": DUE, "loads": rows, "fleet": fleet, "short_runs": short})


def _row(samples: int, states: bool, runs: int = 1) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="lrp") as folder:
        daemon = Daemon(Path(folder))
        names = [f"run-{n}" for n in range(runs)]
        daemon.storage.mkdir(mode=0o700)
        journal = SqlJournal.open(daemon.storage / "journal.db")
        for name in names:
            record(journal, name, samples, states)
        journal.close()
        times = [_start(daemon, names, samples) for _ in range(STARTS)]
    return {
        "samples": samples,
        "runs": runs,
        "states": states,
        "start_s": round(middle([start for start, _ in times]), 2),
        "welcome_ms": round(1000 * middle([welcome for _, welcome in times]), 1),
    }


def record(journal: SqlJournal, name: str, samples: int, states: bool) -> None:
    """A healthy run, and the states that a daemon would have kept of it."""
    key = RunKey("bench", name)
    attempt = convert.attempt_from(hello(name).hello)
    rng = random.Random(name)
    run, _ = load(MemoryJournal(), key)
    config = Config()
    written, waiting = 0, list[Entry]()

    def write() -> None:
        journal.append(waiting)
        waiting.clear()

    def take(event: Event) -> None:
        nonlocal written
        outputs = run.take(event)  # type: ignore[arg-type]
        waiting.extend((key, 0.0, one) for one in (event, *outputs))
        written += 1 + len(outputs)
        if states and run.unsaved >= DUE and (text := text_of(run)) is not None:
            write()
            journal.save_checkpoint(key, written, text)
            run.unsaved = 0

    take(Configured(config.settings_of(key)))
    take(SessionOpened(attempt))
    for first in range(0, samples, BATCH):
        steps = range(first, first + BATCH)
        losses = [0.5 + 2 * math.exp(-k / 1000) + rng.gauss(0, 0.02) for k in steps]
        take(batch_of(attempt.id, first, losses))
    write()


def batch_of(attempt: str, first: int, losses: Sequence[float]) -> Samples:
    """Consecutive train losses."""
    count = len(losses)
    steps, none = tuple(range(first, first + count)), (0,) * count
    return Samples(
        attempt, first + 1, (False,) * count, steps, none, none, tuple(losses), ((0.1,),)
    )


def _start(daemon: Daemon, names: Sequence[str], samples: int) -> tuple[float, float]:
    """Seconds until it listens, and from then until every run is welcome; its end is a kill."""
    begin = time.perf_counter()
    daemon.start()
    listening = time.perf_counter()
    try:
        known = asyncio.run(_welcomes(daemon.address, names))
        welcomed = time.perf_counter()
    finally:
        daemon.kill()
    assert known == [samples] * len(names), known
    return listening - begin, welcomed - listening


async def _welcome(address: str, name: str) -> int:
    async with grpc.aio.insecure_channel(address, options=OPTIONS) as channel:
        call = session_pb2_grpc.SessionServiceStub(channel).Session()
        await call.write(hello(name))
        message: Any = await call.read()
        return int(message.welcome.steps_known)


async def _welcomes(address: str, names: Sequence[str]) -> list[int]:
    async def one(name: str) -> int:
        while True:  # refused or cut, a client comes back
            try:
                return await _welcome(address, name)
            except grpc.aio.AioRpcError:
                await asyncio.sleep(0.05)

    return list(await asyncio.gather(*map(one, names)))


# -- short runs one after the other


def _short_runs() -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.benchmarks.restart", "short"]
    root = Path(__file__).parents[2]
    env = os.environ | {"PYTHONPATH": str(root / "tests")}  # `support`
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=root, env=env)
    first, last, mark = map(float, done.stdout.split())
    return {
        "runs": SHORT_RUNS,
        "rss_mib_after_1000": round(first, 1),
        "rss_mib_after_all": round(last, 1),
        "mark_lost_ms": round(1000 * mark, 1),
    }


async def _live(folder: Path) -> None:
    journal = SqlJournal.open(folder / "journal.db")
    writer = JournalWriter(journal)
    runs = Runs(journal, writer, Config(), NoPriors())
    attempt = convert.attempt_from(hello("short").hello)

    async def one(n: int) -> None:
        link = NoLink()
        run = await runs.open(RunKey("bench", f"short-{n}"), attempt, link)
        await runs.take(run, link, batch_of(attempt.id, 0, [1.0] * BATCH))
        await runs.take(run, link, SaidGoodbye(attempt.id, 1, "finished", BATCH))
        await runs.close(run, link)

    for begin in range(0, SHORT_RUNS, AT_ONCE):
        await asyncio.gather(*(one(n) for n in range(begin, begin + AT_ONCE)))
        if begin + AT_ONCE == 1000:
            print(memory_mib(os.getpid()))
    print(memory_mib(os.getpid()))
    writer.close()
    journal.close()
    journal = SqlJournal.open(folder / "journal.db")
    writer = JournalWriter(journal)
    began = time.perf_counter()
    await mark_lost(journal, writer)
    print(time.perf_counter() - began)
    writer.close()
    journal.close()


if __name__ == "__main__":
    if sys.argv[1:] == ["short"]:
        with tempfile.TemporaryDirectory(prefix="lrp") as place:
            asyncio.run(_live(Path(place)))
    else:
        main()
