"""A run as its journal tells it: its newest checkpoint, and the records after that one.

A checkpoint is the run's whole state as text. Without one that can be used all records are
replayed, which leads to the same state and takes longer: about 10 us per sample.
"""

import json
import logging
from typing import Any

from lrpilot_controller.core.engine import Engine, OtherFormat
from lrpilot_controller.core.events import Decided, Output
from lrpilot_controller.core.replay import Replay
from lrpilot_controller.core.telemetry import Thinned
from lrpilot_controller.journal.base import Checkpoint, Journal, JournalCorrupt, RunKey
from lrpilot_controller.journal.codec import identical
from lrpilot_controller.plugins import make_detectors
from lrpilot_controller.server.live import LiveRun

log = logging.getLogger(__name__)

# Work that a restart has to do again, in samples. A checkpoint costs the event loop .4 ms and the
# disk 4 KB; this many samples are replayed in 60 to 100 ms.
DUE = 10_000
WORTH = 1_000
"""At the end of a session, when nothing more may come: below it a replay is as quick."""


def text_of(run: LiveRun) -> str | None:
    """The run's state as text; None while a search is under way."""
    if (engine := run.engine.state()) is None:
        return None
    return json.dumps({"books": run.state_dict(), "engine": engine})


def engine_in(text: str) -> Engine:
    """An engine in the state of a run that `text_of` gave.

    Raises:
        OtherFormat: another version wrote it.
        ValueError, KeyError, TypeError: it is damaged.
    """
    engine = Engine(make_detectors=make_detectors)
    engine.restore(json.loads(text)["engine"])
    return engine


def load(journal: Journal, key: RunKey) -> tuple[LiveRun, list[Output]]:
    """The run, and the outputs that the journal does not hold yet.

    Raises:
        JournalError: its records cannot be read.
    """
    run = _from_checkpoint(journal, key) or _new(key)
    replay = Replay(run.take)
    for record in journal.records(key, after=run.recorded):
        if isinstance(record.event, Thinned):
            return _recalled(journal, key, record.n)
        replay.take(record.n, record.event)
        run.recorded = record.n
        if isinstance(record.event, Output):
            run.made(record.event)
    if (difference := replay.difference(identical)) is not None:
        # Another version of the core wrote it: the record stands.
        log.warning(
            "run %s: replay differs from the journal, first at record %d (`lrpilot replay` "
            "shows it); the journal stands",
            key,
            difference.recorded.record,
        )
        recorded = (made.output for made in replay.recorded)
        run.engine.skip_decisions(
            max((o.decision.id for o in recorded if isinstance(o, Decided)), default=0)
        )
        return run, []
    return run, [made.output for made in replay.missing()]


def _recalled(journal: Journal, key: RunKey, thinned: int) -> tuple[LiveRun, list[Output]]:
    """The run as far as its records tell it, where telemetry that a replay needs is thinned."""
    log.warning(
        "run %s: its telemetry is thinned up to record %d, and no state after that can be used: "
        "its detectors begin anew on what is left, all else goes on from the records",
        key,
        thinned,
    )
    run = _from_checkpoint(journal, key) or _new(key)
    for record in journal.records(key, after=run.recorded):
        run.recall(record.event)
        run.recorded = record.n
    return run, run.engine.recalled()


def _new(key: RunKey) -> LiveRun:
    return LiveRun(key, Engine(make_detectors=make_detectors))


def _from_checkpoint(journal: Journal, key: RunKey) -> LiveRun | None:
    """The run as its newest checkpoint that can be used tells it, if there is one."""
    before: int | None = None
    while True:
        try:
            found = journal.checkpoint(key, before=before)
        except JournalCorrupt as error:
            log.warning("%s; the run's records are replayed", error)
            return None
        if found is None:
            return None
        try:
            return _restored(key, found)
        except OtherFormat as error:
            log.info("run %s: the state after record %d is not used: %s", key, found.n, error)
        except (ValueError, KeyError, TypeError) as error:
            log.warning("run %s: the state after record %d is damaged: %s", key, found.n, error)
        before = found.n - 1


def _restored(key: RunKey, found: Checkpoint) -> LiveRun:
    """The run in a state that `text_of` gave.

    Raises:
        OtherFormat: another version wrote it.
        ValueError, KeyError, TypeError: it is damaged.
    """
    state: dict[str, Any] = json.loads(found.state)
    run = LiveRun(key, engine_in(found.state))
    run.load_state_dict(state["books"])
    run.recorded = found.n
    return run
