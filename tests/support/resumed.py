"""A run's records loaded from a state in the midst of them, beside what was recorded."""

import random
from collections.abc import Iterator, Sequence

from lrpilot_controller.core.events import Output
from lrpilot_controller.core.replay import Replay
from lrpilot_controller.journal import MemoryJournal, Record, RunKey, SqlJournal
from lrpilot_controller.journal.codec import identical
from lrpilot_controller.server.live import LiveRun
from lrpilot_controller.server.loading import load, text_of
from support.recorded import Recorded

KEY = RunKey("demo", "run")


def states(records: Sequence[Record]) -> Iterator[tuple[int, str]]:
    """Wherever a daemon could keep one: the number of the record, and the state after it."""
    run, _ = load(MemoryJournal(), KEY)
    replay = Replay(run.take)
    for record in records:
        replay.take(record.n, record.event)
        if isinstance(record.event, Output):
            run.made(record.event)
        settled = len(replay.recorded) == len(replay.replayed)
        if settled and (text := text_of(run)) is not None:
            yield record.n, text


def load_from(records: Sequence[Record], n: int, state: str) -> LiveRun:
    """The run, loaded from this state; AssertionError where an output is another one."""
    journal = MemoryJournal()
    journal.append([(KEY, record.at, record.event) for record in records[:n]])
    journal.save_checkpoint(KEY, n, state)
    replay = Replay(load(journal, KEY)[0].take)
    for record in records[n:]:
        replay.take(record.n, record.event)
    assert replay.difference(identical) is None
    journal.append([(KEY, record.at, record.event) for record in records[n:]])
    return load(journal, KEY)[0]


def resumes(run: Recorded, places: int) -> int:
    """Load a recorded run from states at random places; how many. AssertionError as above."""
    journal = SqlJournal.open(run.storage / "journal.db", readonly=True)
    try:
        records = list(journal.records(run.key))
    finally:
        journal.close()
    there = list(states(records))
    chosen = random.Random(len(records)).sample(there, min(places, len(there)))
    _, end = there[-1] if there else (0, "")
    for n, state in chosen:
        loaded = text_of(load_from(records, n, state))
        assert loaded is None or there[-1][0] < len(records) or loaded == end
    return len(chosen)
