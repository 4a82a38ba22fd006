"""What a run's page in the dashboard costs: its size, reading it from the journal, writing it.

Also what study data a project has once 500 of its runs had a decision each, and how long `lrpilot
review` takes to find its links among the pages of 2,000 runs.
"""

import json
import math
import random
import sqlite3
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import optuna
from tests.benchmarks._report import middle, save, table
from tests.benchmarks.restart import batch_of

from lrpilot_controller.core.events import Decided, OutcomeMeasured, ReceiptArrived, SessionOpened
from lrpilot_controller.core.model import (
    Action,
    Attempt,
    Decision,
    DecisionStatus,
    Outcome,
    ParamGroup,
    Receipt,
    Signal,
    SignalKind,
    Verdict,
)
from lrpilot_controller.core.plans import Plan
from lrpilot_controller.journal import RunKey, SqlJournal
from lrpilot_controller.tuning.dashboard import Review
from lrpilot_controller.tuning.pages import page_of, show
from lrpilot_controller.tuning.places import place_of
from lrpilot_controller.tuning.recorder import reconcile
from lrpilot_controller.tuning.trials import TrialBook
from support.studies import our_studies

SAMPLES = (10_000, 100_000, 1_000_000)
BATCH = 1000
WRITES = 9
RUNS = 500
PAGES = 2000


def main() -> dict[str, Any]:
    """Run it: a minute or two."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    rows = [_page(samples) for samples in SAMPLES]
    heads = ("samples", "page, KB", "read, s", f"written, ms (median of {WRITES})")
    table(
        "a run's page",
        heads,
        [(r["samples"], r["page_kb"], r["read_s"], r["write_ms"]) for r in rows],
    )
    study = _study()
    print(f"{RUNS} runs with a decision each: {study}")
    links = _links()
    print(f"links among {PAGES} pages: {links}")
    return save("review", {"pages": rows, "study": study, "links": links})


def _page(samples: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="lrp") as folder:
        journal = SqlJournal.open(Path(folder) / "journal.db")
        key = _record(journal, "run", samples)
        begin = time.perf_counter()
        page = page_of(journal, key, 1)
        read = time.perf_counter() - begin
        book = TrialBook(place_of(Path(folder)), 5.0)
        show(book.storage, page)  # the study is made
        times = []
        for _ in range(WRITES):
            begin = time.perf_counter()
            show(book.storage, page)
            times.append(time.perf_counter() - begin)
        book.close()
        journal.close()
    return {
        "samples": samples,
        "page_kb": round((len(page.picture) + len(page.note)) / 1000, 1),
        "read_s": round(read, 2),
        "write_ms": round(1000 * middle(times), 1),
    }


def _study() -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="lrp") as folder:
        journal = SqlJournal.open(Path(folder) / "journal.db")
        for number in range(RUNS):
            _record(journal, f"run-{number}", BATCH)
        begin = time.perf_counter()
        reconcile(Path(folder), journal)
        seconds = time.perf_counter() - begin
        journal.close()
        book = TrialBook(place_of(Path(folder)), 5.0)
        held = [s._storage.get_study_system_attrs(s._study_id) for s in our_studies(book.storage)]
        book.close()
    notes = [sum(k.endswith(":note_str:0") and bool(v) for k, v in h.items()) for h in held]
    return {
        "largest_study_kb": round(max(len(json.dumps(h)) for h in held) / 1000, 1),
        "most_notes": max(notes),
        "ms_per_run": round(1000 * seconds / RUNS, 1),
    }


def _links() -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="lrp") as folder:
        journal = SqlJournal.open(Path(folder) / "journal.db")
        _record(journal, "run-0", BATCH)
        reconcile(Path(folder), journal)
        journal.close()
        with closing(sqlite3.connect(Path(folder) / "optuna.db")) as trials, trials:
            for number in range(1, PAGES):
                _copy_page(trials, f"run-{number}")
        with Review.open(Path(folder)) as review:
            begin = time.perf_counter()
            found = len(review.links())
            return {"links": found, "seconds": round(time.perf_counter() - begin, 2)}


def _copy_page(trials: sqlite3.Connection, name: str) -> None:
    """As the first run's, which took the recorder some 50 ms to write."""
    [first] = trials.execute(
        "SELECT study_id FROM studies WHERE study_name LIKE '%/run-0'"
    ).fetchone()
    made = trials.execute("INSERT INTO studies (study_name) VALUES (?)", (f"bench/probes/{name}",))
    for table_, columns in (
        ("study_directions", "direction, objective"),
        ("study_user_attributes", "key, value_json"),
        ("study_system_attributes", "key, value_json"),
    ):
        trials.execute(
            f"INSERT INTO {table_} (study_id, {columns}) "
            f"SELECT ?, {columns} FROM {table_} WHERE study_id = ?",
            (made.lastrowid, first),
        )


def _record(journal: SqlJournal, name: str, samples: int) -> RunKey:
    """A run with one decision in its middle."""
    key, rng, middle_step = RunKey("bench", name), random.Random(name), samples // 2
    attempt = Attempt(name, (ParamGroup("0", 0.1),), 1e-5, 0.1, optimizer="SGD")
    journal.append([(key, 0.0, SessionOpened(attempt))])
    for first in range(0, samples, BATCH):
        losses = [0.5 + 2 * math.exp(-k / 1000) + rng.gauss(0, 0.02) for k in range(BATCH)]
        journal.append([(key, 0.0, batch_of(name, first, losses))])
    signal = Signal(SignalKind.DIVERGENCE, middle_step, middle_step - 9, 0.8, {"rise": 8.0})
    decision = Decision(
        id=1,
        action=Action.CUT,
        reason="the loss rose",
        step=middle_step,
        branch=0,
        signal=signal,
        plan=Plan.scale(1 / 3, middle_step),
        factor=1 / 3,
        status=DecisionStatus.SENT,
    )
    receipt = Receipt(1, DecisionStatus.APPLIED, middle_step + 2, 0, 0, (0.1,), (0.03,))
    outcome = OutcomeMeasured(Outcome(1, Verdict.IMPROVED, 0.4, 50, 1.0, 0.6))
    for event in (Decided(decision), ReceiptArrived(name, 1, receipt), outcome):
        journal.append([(key, 0.0, event)])
    return key
