"""`python -m tests.chaos [--seconds S | --kills N] [--seed SEED]`: a storm, and a verdict.

Exit status 1 where something was lost, repeated or broken; the seed and what happened are printed
then, and the folder with the journal, the logs and the books is kept.
"""

import argparse
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # `support`, as under pytest

from support.daemon import until
from support.faults.daemon import FaultyDaemon
from support.faults.line import broken_line, mangled_line
from support.nursery import Nursery

from .crew import Trainer, bring_home
from .storm import Storm
from .verdict import Verdict, judge

TRAINERS = 3
READY_S = 180.0
MANGLED = {"repeat": 0.1, "swap": 0.02, "delay": 0.005}


def main(arguments: Sequence[str] = ()) -> int:
    """One storm."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long; default 60")
    parser.add_argument("--kills", type=int, help="until the daemon was killed so often, instead")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # or its processes would outlive it
    storm, verdict, took = rage(options.seed, options.seconds, options.kills)
    report(storm, verdict, took)
    print("\n".join([*verdict.wrong, verdict.kept]), flush=True)
    return bool(verdict.wrong)


def rage(seed: int, seconds: float, kills: int | None = None) -> tuple[Storm, Verdict, float]:
    """A storm: what happened, what is to be said of it, how many seconds it took.

    Its folder is kept where something is wrong: what is wrong says where it is, and what happened.

    Args:
        seed: of what goes wrong, and of the trainers.
        seconds: how long, where no number of kills is given.
        kills: of the daemon, after which it ends.
    """
    folder = Path(tempfile.mkdtemp(prefix="lrp"))  # short enough for a socket
    try:
        storm, verdict, took = _rage(folder, seed, seconds, kills)
    except BaseException:
        print(f"seed {seed}: journal, logs and books are in {folder}", flush=True)
        raise
    if verdict.wrong:
        happened = [f"{at:8.2f} s  {what}" for at, what in storm.happened]
        kept = f"seed {seed}: journal, logs and books are in {folder}; what happened:"
        verdict.kept = "\n".join([kept, *happened])
    else:
        shutil.rmtree(folder, ignore_errors=True)
    return storm, verdict, took


def _rage(
    folder: Path, seed: int, seconds: float, kills: int | None
) -> tuple[Storm, Verdict, float]:
    with ExitStack() as there:
        daemons, workers = Nursery("faulty_daemon"), Nursery("chaotic")
        there.callback(daemons.close)
        there.callback(workers.close)
        daemon = FaultyDaemon(folder, daemons)
        there.callback(daemon.kill)
        daemon.start()
        line = there.enter_context(broken_line(daemon.address, folder))
        mangled = there.enter_context(mangled_line(line.address, folder, seed=seed, **MANGLED))
        trainers = []
        for number in range(TRAINERS):
            address = line.address if number else mangled
            trainers.append(Trainer(f"t{number}", address, folder, seed + number, workers))
        there.callback(lambda: [trainer.process.kill() for trainer in trainers])
        until(lambda: all(trainer.books() for trainer in trainers), READY_S, "the trainers")
        storm = Storm(daemon, line, trainers, seed)
        begin = time.monotonic()
        storm.rage(lambda: storm.kills >= kills if kills else time.monotonic() - begin >= seconds)
        took = time.monotonic() - begin
        bring_home(folder, trainers)
        return storm, judge(daemon, trainers), took


def report(storm: Storm, verdict: Verdict, took: float) -> None:
    """Print what happened and what came of it."""
    rows: dict[str, Any] = {"seconds": round(took), "kills of the daemon": storm.kills}
    rows |= dict(sorted(storm.counts.items())) | dict(sorted(verdict.counts.items()))
    width = max(map(len, rows))
    for name, value in rows.items():
        print(f"{name:{width}}  {value:>8}")
    print(f"{'violations':{width}}  {len(verdict.wrong):>8}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
