"""From a blow-up to its decision while factors are learnt, after so many past trials.

As `decision_latency`, with one job beside it, on a daemon that was just started on that many trials
of interventions and as many of whole runs (in studies that rolled over), `[tune] factors = true`:
it reads them while the first blow-ups come. Beside it: how long an answer of earlier interventions
takes, which no decision waits for, and the daemon's memory. Then runs that blow up once and end,
one after another: by how much the daemon grows with each.
"""

import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import Any

import grpc
from tests.benchmarks._fleet import (
    OPTIONS,
    FleetProcess,
    batch,
    hello,
    memory_mib,
    pinned,
    snapshot,
)
from tests.benchmarks._report import percentile, save, table
from tests.benchmarks.decision_latency import BLOW_UPS, HEALTHY, LOSSES, NAN, _blow_up

from lrpilot_controller.core.events import Answered, Asked
from lrpilot_controller.journal.base import RunKey
from lrpilot_controller.tuning import studies
from lrpilot_controller.tuning.entries import Home
from lrpilot_controller.tuning.file import TrialsFile
from lrpilot_controller.tuning.interventions import interventions_study
from lrpilot_proto.v1 import session_pb2, session_pb2_grpc
from support.daemon import Daemon, until

PAST = (10, 100, 1_000, 10_000)
LIMIT_MS = 50.0
RULE = 1 / 3
PART = studies.TRIALS_PER_STUDY
BLOCKS, BLOCK = 4, 60
SETTLE_S = 90.0

Up = session_pb2.TrainerMessage


def main() -> dict[str, Any]:
    """Run it: six minutes, half of them to write the past."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="lrp") as folder:
        daemon = Daemon(Path(folder))
        config = daemon.folder / "lrpilot.toml"
        config.write_text("[tune]\nfactors = true\n")
        daemon.more = ["--config", str(config)]
        daemon.storage.mkdir(mode=0o700)
        for past in PAST:
            _seed(daemon.storage / "optuna.db", past)
            rows.append(measure(daemon, past))
            print(rows[-1], flush=True)
        growth = grow(daemon)
    table(
        f"blow-up to decision, ms ({BLOW_UPS} blow-ups each); answers, ms; memory, MiB",
        ("past trials", "p50", "p99", "worst", "answers", "p50", "worst", "memory"),
        [tuple(r[key] for key in r if key != "all_ms") for r in rows],
    )
    print(f"memory per finished run: {growth['kib_per_run']} KiB")
    worst = max(row["p99_ms"] for row in rows)
    if worst > LIMIT_MS:
        print(f"p99 {worst:.0f} ms: more than {LIMIT_MS:.0f} ms", file=sys.stderr)
    figures = {"blow_ups": BLOW_UPS, "limit_ms": LIMIT_MS, "past": rows, "finished": growth}
    return save("tuning_latency", figures)


def measure(daemon: Daemon, past: int) -> dict[str, Any]:
    """One life of the daemon on that past."""
    with pinned(0):
        daemon.start()
    fleet = FleetProcess(daemon.address, 1, window_s=3600.0)
    try:
        with pinned(1):
            name = f"{past}past"
            ms = [1000 * _blow_up(daemon.address, i, name) for i in range(BLOW_UPS)]
        assert daemon.process is not None
        rss = memory_mib(daemon.process.pid)
    finally:
        fleet.end()
        daemon.kill()
    answers = [took for i in range(BLOW_UPS) for took in _answers(daemon, f"{name}{i}")]
    return {
        "past": past,
        "p50_ms": round(percentile(ms, 0.5), 2),
        "p99_ms": round(percentile(ms, 0.99), 2),
        "worst_ms": round(max(ms), 2),
        "all_ms": [round(value, 2) for value in ms],
        "answers": len(answers),
        "answer_p50_ms": round(1000 * median(answers), 1) if answers else None,
        "answer_worst_ms": round(1000 * max(answers), 1) if answers else None,
        "rss_mib": round(rss, 1),
    }


def _answers(daemon: Daemon, run: str) -> Iterator[float]:
    """Seconds from each question of a run to its answer, where earlier interventions had one."""
    asked = {}
    with daemon.journal() as journal:
        for record in journal.records(RunKey("bench", run), kinds=[Asked, Answered]):
            match record.event:
                case Asked(_, question):
                    asked[question.id] = record.at
                case Answered(_, number, factor) if factor is not None and number in asked:
                    yield record.at - asked[number]


def grow(daemon: Daemon) -> dict[str, Any]:
    """Runs that blow up once and end; the daemon's memory after each block of them."""
    daemon.start()
    assert daemon.process is not None
    sizes = []
    try:
        for block in range(BLOCKS):
            for i in range(BLOCK):
                _finished(daemon.address, f"f{block}-{i}")
            _settled(daemon)
            sizes.append(memory_mib(daemon.process.pid))
            print(f"{BLOCK * (block + 1)} finished runs: {sizes[-1]:.1f} MiB", flush=True)
    finally:
        daemon.kill()
    # The first block brings what is loaded once, and the idle runs that a daemon keeps ready.
    per_run = 1024 * (sizes[-1] - sizes[0]) / (BLOCK * (BLOCKS - 1))
    return {"mib": [round(size, 1) for size in sizes], "kib_per_run": round(per_run, 1)}


def _settled(daemon: Daemon) -> None:
    """Wait until the trials were written: their file does not change any more."""
    files = [daemon.storage / f"optuna.db{suffix}" for suffix in ("", "-wal")]

    def quiet() -> bool:
        before = [path.stat().st_mtime for path in files if path.exists()]
        time.sleep(6.0)
        return before == [path.stat().st_mtime for path in files if path.exists()]

    until(quiet, SETTLE_S, "the trials")


def _finished(address: str, name: str) -> None:
    decided: list[int] = []

    def requests() -> Iterator[Any]:
        yield hello(name)
        yield snapshot(1, 0)
        yield batch(0, LOSSES)
        yield batch(HEALTHY, [NAN, NAN])
        until(lambda: decided, what="a decision")
        over = session_pb2.Goodbye(reason="finished", step=HEALTHY + 2)
        yield Up(report=session_pb2.Report(report_seq=2, before_seq=HEALTHY + 3, goodbye=over))

    with grpc.insecure_channel(address, options=OPTIONS) as channel:
        stub = session_pb2_grpc.SessionServiceStub(channel)  # type: ignore[no-untyped-call]
        for message in stub.Session(requests(), timeout=30.0):
            if message.WhichOneof("body") == "decision" and message.decision.restore_snapshot:
                decided.append(message.decision.id)


def _seed(path: Path, past: int) -> None:
    """Brings both studies to so many trials, as the recorder would have written them.

    The first part of each is written by Optuna, which takes 20 ms for a trial; others are copies.
    """
    import optuna

    file = TrialsFile(path)
    about = {"project": "bench", "signal": "nonfinite", "optimizer": "sgd"}
    interventions = interventions_study("bench", "nonfinite", "SGD")
    homes = (
        Home("interventions", interventions, "gain", True, about, "past"),
        Home("runs", studies.runs_study("bench"), "final loss", False, about, "past"),
    )
    with file.sole_writer(5.0):
        opened = file.open(5.0, create=True)
        try:
            storage = optuna.storages.get_storage(opened)
            for home in homes:
                there = studies.last_part(storage, home.name)
                if there < 2:
                    first = studies.create_part(storage, home, 1)
                    _fill(first, home, min(past, PART))
                for number in range(max(2, there + 1), past // PART + 1):
                    _copied(path, home.name, studies.create_part(storage, home, number), number)
        finally:
            opened.remove_session()
            opened.engine.dispose()


def _fill(study: Any, home: Home, past: int) -> None:
    from optuna.distributions import FloatDistribution
    from optuna.trial import create_trial

    for i in range(len(study.get_trials(deepcopy=False)), past):
        factor = RULE * 3 ** (((i * 0.618) % 2) - 1)
        key = "factor" if home.maximize else "lr"
        attributes = {
            "run": f"bench/old{i}", "attempt": f"old{i}-1", "decision_id": 1, "rule": RULE,
            "status": "applied", "outcome": "improved", "job": "old", "measure": "train",
            "step": 100, "action": "rollback", "lr_before": 0.1, "lr_after": 0.1 * factor,
            "reason": "non-finite losses since step 99: roll back and cut the LR",
        }  # fmt: skip
        study.add_trial(
            create_trial(
                value=1 - abs(factor - RULE),
                params={key: factor},
                distributions={key: FloatDistribution(0.01, 2.0, log=True)},
                user_attrs=attributes if home.maximize else attributes | {"search": 1},
                intermediate_values={step: 1.0 for step in range(20)},
            )
        )


def _copied(path: Path, name: str, part: Any, number: int) -> None:
    """Fills an empty part with copies of the first one's trials, of other runs."""
    with closing(sqlite3.connect(path)) as file, file:
        [first] = file.execute("SELECT study_id FROM studies WHERE study_name = ?", [name])
        [shift] = file.execute("SELECT max(trial_id) FROM trials").fetchone()
        file.execute(
            "INSERT INTO trials (trial_id, number, study_id, state, datetime_start, "
            "datetime_complete) SELECT trial_id + ?, number, ?, state, datetime_start, "
            "datetime_complete FROM trials WHERE study_id = ?",
            [shift, part._study_id, *first],
        )
        for table_name, columns in _OF_A_TRIAL.items():
            values = columns.replace("value_json", f"replace(value_json, '/old', '/old{number}-')")
            file.execute(
                f"INSERT INTO {table_name} (trial_id, {columns}) SELECT trial_id + ?, {values} "
                f"FROM {table_name} JOIN trials USING (trial_id) WHERE study_id = ?",
                [shift, *first],
            )


_OF_A_TRIAL = {
    "trial_params": "param_name, param_value, distribution_json",
    "trial_values": "objective, value, value_type",
    "trial_user_attributes": "key, value_json",
    "trial_intermediate_values": "step, intermediate_value, intermediate_value_type",
}
