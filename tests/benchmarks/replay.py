"""Fifty recorded runs, each replayed: the outputs come out again, byte by byte.

Each is also loaded from states at random places in it, as a restarted daemon loads it: what comes
out after such a place is the same as well.

Simulated trainers on a daemon's runs and a journal on disk, and real trainings with a real daemon:
healthy, diverging, searching, resumed, with daemons that are killed, and with a person's commands.
Writes `results/replay.json` and prints a table.
"""

import logging
import tempfile
import time
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from typing import Any

from tests.benchmarks._report import save, table

from support.recorded import Recorded, record_all, replayed
from support.resumed import resumes
from support.training import quiet_threads

PLACES = 4  # in each run


def main() -> dict[str, Any]:
    """Record, replay, compare; under a minute on two cores. SystemExit where a byte differs."""
    quiet_threads()
    logging.getLogger("lrpilot").setLevel(logging.ERROR)
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="lrp") as folder:
        rows = [_row(run) for run in record_all(Path(folder))]
    rows.sort(key=lambda row: str(row["kind"]))
    kinds = [_sum(kind, list(group)) for kind, group in groupby(rows, lambda row: row["kind"])]
    everything = _sum("all", rows)
    head = (
        "kind",
        "runs",
        "identical",
        "records",
        "outputs",
        "not recorded",
        "from states",
        "replay, s",
    )
    table(
        "recorded runs, replayed: outputs that are byte-identical",
        head,
        [tuple(kind.values()) for kind in [*kinds, everything]],
    )
    seconds = round(time.perf_counter() - begin)
    result = save("replay", {"seconds": seconds, "kinds": kinds, "all": everything})
    if different := [row for row in rows if not row["identical"]]:
        raise SystemExit(f"{len(different)} runs differ: {different}")
    return result


def _row(run: Recorded) -> dict[str, Any]:
    begin = time.perf_counter()
    checked = replayed(run)
    seconds = time.perf_counter() - begin
    places = resumes(run, PLACES)  # AssertionError where an output differs
    return {"kind": run.kind, "seconds": seconds, "places": places, **checked.to_json()}


def _sum(kind: str, rows: Iterable[dict[str, Any]]) -> dict[str, Any]:
    rows = list(rows)
    return {
        "kind": kind,
        "runs": len(rows),
        "identical": sum(row["identical"] for row in rows),
        "records": sum(row["records"] for row in rows),
        "outputs": sum(sum(row["outputs"].values()) for row in rows),
        "not_recorded": sum(len(row["not_recorded"]) for row in rows),
        "loaded_from": sum(row["places"] for row in rows),
        "seconds": round(sum(row["seconds"] for row in rows), 3),
    }


if __name__ == "__main__":
    main()
